"""Short words for tests of pricing: baskets and coupons of a shop that counts in cents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.pricing import Offered
from ledger.terms import Terms

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_numbers = count(1)


def basket(*prices, shipping_minor=0, **fields):
    """Lines of one unit: line "1" of product "p1" costs the first price, and so on. A line may stand for itself."""
    lines = tuple(
        price if isinstance(price, Line) else Line(line_id=str(number), product_id=f"p{number}", unit_price_minor=price)
        for number, price in enumerate(prices, 1)
    )
    return Basket(lines=lines, currency="EUR", shipping_minor=shipping_minor, **fields)


def coupon(kind="amount_off", *, id=None, days=9, offered=None, terms=None, mode="stackable", **benefit):
    """A stackable coupon of such a benefit; ``terms`` and ``offered`` are more fields of these."""
    own = Terms(benefit=Benefit(kind=kind, **benefit), currency="EUR", stacking_mode=mode, **(terms or {}))
    return Offered(
        coupon_id=id or f"coupon-{next(_numbers):06}",
        template_id="template",
        template_version=1,
        terms=own,
        valid_from=NOW - timedelta(days=1),
        valid_until=NOW + timedelta(days=days),
        **(offered or {}),
    )
