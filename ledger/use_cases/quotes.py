"""Use case of quotes: what an order may use, and what it costs then. It writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.basket import Basket
from ledger.coupon import Coupon
from ledger.errors import CouponNotFound, InvalidField, NotOwner
from ledger.pricing import Offered, Quote
from ledger.pricing import quote as quoted
from ledger.request import Request
from ledger.use_cases.checks import check_id, coupon_streams, terms_of
from ledger.work import Loaded, Receipt, Work

QUOTE_COUPON_LIMIT = 200
"""Coupons that one quote looks at."""


def quote(
    request: Request,
    order_id: str,
    *,
    user_id: str,
    coupon_ids: Sequence[str],
    basket: Basket,
    of_wallet: bool = False,
) -> Work:
    """What each coupon would do for the order, and the best combination. Answers the quote, and commits nothing.

    Coupons are those that the user owns or that are shared with the user; one that the order holds for the user already
    counts as usable. Decides on what the coupons' streams say now; it is for ``Ledger.ask``. Ids ``of_wallet`` come
    from a read model that is a moment late, so a coupon that the user no longer holds is left out; a named one is
    refused.
    """
    check_id("order_id", order_id)
    check_id("user_id", user_id)
    if len(coupon_ids) > QUOTE_COUPON_LIMIT or len(set(coupon_ids)) != len(coupon_ids):
        raise InvalidField(f"a quote is for at most {QUOTE_COUPON_LIMIT} different coupons", field="coupon_ids")

    def decide(loaded: Loaded) -> Receipt:
        coupons = []
        for id in coupon_ids:
            try:
                coupon = loaded.coupon(id)
                coupon.check_holder(user_id)
            except (CouponNotFound, NotOwner):
                if not of_wallet:
                    raise
            else:
                coupons.append(coupon)
        found = quoted([offered(loaded, coupon, order_id, user_id) for coupon in coupons], basket, loaded.now)
        return Receipt({"order_id": order_id, "user_id": user_id, **quote_answer(found)}, 0)

    return Work(request, coupon_streams(coupon_ids), decide)


def offered(loaded: Loaded, coupon: Coupon, order_id: str, user_id: str) -> Offered:
    """The coupon as pricing needs it, for an order of the user that may hold it already, or have spent a part of it."""
    return Offered(
        coupon_id=coupon.key,
        template_id=coupon.template_id,
        template_version=coupon.template_version,
        terms=terms_of(loaded, coupon),
        valid_from=coupon.valid_from,
        valid_until=coupon.valid_until,
        state="USED" if coupon.spends_on(order_id) else coupon.state_at(loaded.now),
        held=coupon.held_for(order_id, user_id, loaded.now),
        lock_ends_at=coupon.lock_ends_at,
        balance_minor=coupon.balance_minor,
    )


def quote_answer(found: Quote) -> Mapping[str, Any]:
    """The quote in the form of an answer."""
    return {
        "currency": found.currency,
        "total_minor": found.total_minor,
        "shipping_minor": found.shipping_minor,
        "discount_minor": found.discount_minor,
        "shipping_discount_minor": found.shipping_discount_minor,
        "payable_minor": found.payable_minor,
        "digest": found.digest,
        "exact": found.exact,
        "best": [
            {
                "coupon_id": each.coupon_id,
                "template_id": each.template_id,
                "template_version": each.template_version,
                "discount_minor": each.discount_minor,
                "shipping_discount_minor": each.shipping_discount_minor,
                "allocation": each.allocation,
            }
            for each in found.chosen
        ],
        "coupons": [
            {
                "coupon_id": result.coupon_id,
                "outcome": result.outcome,
                "usable": result.refusal is None,
                "discount_minor": result.discount_minor,
                "with_coupon_id": result.with_coupon_id,
                "refusal": None
                if result.refusal is None
                else {
                    "code": result.refusal.code(),
                    "detail": result.refusal.detail,
                    "facts": result.refusal.facts,
                },
            }
            for result in found.results
        ],
    }
