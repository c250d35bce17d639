"""Redemptions as orders, built from the household's real basket lines of that day.

The data set says who redeemed which coupon on which day, but not in which basket, and one basket line may lie in the
scope of several coupons. The rules, each decided so that the same data always give the same orders:

1. One redemption is one order, so a basket in which three coupons were used becomes three orders on its lines.
2. The discount is the coupon discount that the lines of the basket in the coupon's scope carry (the manufacturer's
   ``coupon_disc`` and the shop's ``coupon_match_disc``), 0 where they carry none. Each line's discount is given to
   one redemption of that household and day only: to the coupon with the shortest product list.
3. Of the day's baskets it is the one with the largest such discount; then one with a product of the coupon; then the
   one with the largest total, for some baskets hold nothing but the till's own entry; then the earliest.
4. A line's amount is what it cost before coupons: ``sales_value + coupon_match_disc`` (``sales_value`` is what the
   shop received, the manufacturer's refund included). The order's total is the sum of the lines, and what was paid is
   the total less this coupon's discount. (The till enters some coupons as a line that costs nothing, so a line's
   discount may exceed its amount; an order's never exceeds its total in this data set.)
5. The order was created at the basket's time and paid one minute later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from coupon_ledger.demo.dataset import Offer, OfferKey, Redemptions, midnight
from coupon_ledger.demo.tables import slices

PAID_AFTER = timedelta(minutes=1)
_DAY_SPAN = 100_000
"""Household and day share one number: household times this, plus the day."""


class Line(NamedTuple):
    """One product of a basket. Amounts are cents."""

    line_id: str
    product_id: int
    quantity: int
    amount_minor: int
    coupon_discount_minor: int


class Basket(NamedTuple):
    """One visit of a household to the till."""

    basket_id: int
    bought_at: datetime
    lines: tuple[Line, ...]

    @property
    def total_minor(self) -> int:
        """What the basket cost before coupons."""
        return sum(line.amount_minor for line in self.lines)


@dataclass(frozen=True, slots=True)
class Order:
    """One redemption as an order system tells it. Amounts are cents."""

    order_id: str
    household: int
    offer: OfferKey
    created_at: datetime
    lines: Sequence[Line]
    total_minor: int
    discounted: Sequence[Line]
    """The lines that this coupon made cheaper, each by its coupon discount."""

    @property
    def discount_minor(self) -> int:
        """What the coupon took off."""
        return sum(line.coupon_discount_minor for line in self.discounted)

    @property
    def paid_at(self) -> datetime:
        """When the order was paid."""
        return self.created_at + PAID_AFTER


def build_orders(offers: Collection[Offer], redemptions: Redemptions) -> list[Order]:
    """One order for each redemption, in order of time."""
    by_key = {offer.key: offer for offer in offers}
    visits = defaultdict(list)
    for household, upc, campaign_id, day in zip(
        redemptions.households.tolist(),
        redemptions.coupon_upcs.tolist(),
        redemptions.campaign_ids.tolist(),
        redemptions.days.tolist(),
        strict=True,
    ):
        visits[household, day].append(by_key[campaign_id, upc])
    baskets = _read_baskets(set(visits))
    orders: list[Order] = []
    for (household, day), used in visits.items():
        orders.extend(_orders_of_visit(household, day, used, baskets[household, day]))
    return sorted(orders, key=lambda order: (order.created_at, order.order_id))


def _orders_of_visit(household: int, day: int, used: list[Offer], baskets: list[Basket]) -> Iterator[Order]:
    taken: set[Line] = set()
    for offer in sorted(used, key=lambda offer: (len(offer.products), offer.key)):
        _, basket, discounted = min(_choice(offer, basket, taken) for basket in baskets)
        taken.update(discounted)
        yield Order(
            order_id=f"{household}-{day}-{offer.campaign.id}-{offer.coupon_upc}",
            household=household,
            offer=offer.key,
            created_at=basket.bought_at,
            lines=basket.lines,
            total_minor=basket.total_minor,
            discounted=discounted,
        )


def _choice(offer: Offer, basket: Basket, taken: Collection[Line]) -> tuple[tuple[Any, ...], Basket, list[Line]]:
    """How well the basket fits the coupon (less is better), and the lines whose discount would be the coupon's."""
    in_scope = _lines_in_scope(offer, basket)
    discounted = [line for line in in_scope if line.coupon_discount_minor and line not in taken]
    worth = sum(line.coupon_discount_minor for line in discounted)
    return (-worth, not in_scope, -basket.total_minor, basket.bought_at, basket.basket_id), basket, discounted


def _lines_in_scope(offer: Offer, basket: Basket) -> list[Line]:
    products = np.array([line.product_id for line in basket.lines], dtype=np.int64)
    places = np.minimum(np.searchsorted(offer.products, products), len(offer.products) - 1)
    return [line for line, match in zip(basket.lines, offer.products[places] == products, strict=True) if match]


def _read_baskets(visits: Collection[tuple[int, int]]) -> dict[tuple[int, int], list[Basket]]:
    """The baskets of these households on these days, read a slice at a time: the table has 1.5 million lines."""
    baskets: dict[tuple[int, int], dict[int, list[tuple[int, Line]]]] = defaultdict(lambda: defaultdict(list))
    for household, day, basket, product, quantity, amount, discount, time in _lines_of(visits):
        line = Line(f"{basket}-{product}", product, quantity, amount, discount)
        baskets[household, day][basket].append((time, line))
    return {
        visit: [
            Basket(
                basket_id,
                datetime.fromtimestamp(rows[0][0] // 10**9, UTC),
                tuple(sorted((line for _, line in rows), key=lambda line: line.product_id)),
            )
            for basket_id, rows in sorted(of_visit.items())
        ]
        for visit, of_visit in baskets.items()
    }


def _lines_of(visits: Collection[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """(household, day, basket, product, quantity, amount, coupon discount, time in ns) of the lines of these visits."""
    if not visits:
        return
    first, last = min(day for _, day in visits), max(day for _, day in visits)
    begins = np.array([midnight(day).timestamp() for day in range(first, last + 2)], dtype=np.int64) * 10**9
    wanted = np.array([household * _DAY_SPAN + day for household, day in visits], dtype=np.int64)
    columns = ("household_id", "basket_id", "product_id", "quantity", "sales_value", "coupon_disc")
    for columns_of_slice in slices("transactions", *columns, "coupon_match_disc", "transaction_timestamp"):
        days = np.searchsorted(begins, columns_of_slice[-1], side="right") - 1 + first
        kept = np.flatnonzero(np.isin(columns_of_slice[0] * _DAY_SPAN + days, wanted))
        households, baskets, products, quantities, sales, by_maker, by_shop, times = (
            column[kept] for column in columns_of_slice
        )
        picked = (households, days[kept], baskets, products, quantities, sales + by_shop, by_maker + by_shop, times)
        yield from zip(*(column.tolist() for column in picked), strict=True)
