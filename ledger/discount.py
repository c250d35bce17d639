"""What one coupon takes off a basket when it is its turn, in whole minor units that sum to its discount.

Amounts of a basket are one list: what is left of each line, and of the shipping cost at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger.basket import Basket
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.scope import Places
from ledger.terms import Terms

ITEM_KINDS = frozenset({"fixed_price", "gift", "exchange", "trial"})
"""Kinds that work on single units; the others work on what is left of all lines in scope."""
WHOLE = 10_000
"""Permyriad of everything."""

Parts = list[tuple[int, int]]
"""Index of a line and what is taken off it, for each line that something is taken off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What pricing needs to know of a coupon."""

    coupon_id: str
    template_id: str
    template_version: int
    terms: Terms
    valid_from: datetime
    valid_until: datetime
    state: str = "UNUSED"
    """As ``Coupon.state_at`` has it; UNUSED and PENDING are checked against the clock again."""
    held: bool = False
    """Whether the order that asks holds it already: that hold outlasts the end of validity."""
    lock_ends_at: datetime | None = None
    balance_minor: int | None = None
    """What is left on a cash voucher; all of its value where not told."""


@dataclass(slots=True, eq=False, kw_only=True)
class Usable:
    """A coupon that applies to a basket, with what does not depend on other coupons worked out once."""

    coupon: Offered
    kind: str
    lines: Sequence[int]
    """Indices of the lines that it works on."""
    most: int
    """Its discount is at most this: its value, its balance or its cap."""
    permyriad: int = WHOLE
    units: list[tuple[int, int, int]] = field(default_factory=list)
    """For a kind of single units, the dearest first: line, what it takes off, and what it leaves at least."""

    alone_minor: int = 0
    """What it takes off where it is used alone."""

    @property
    def group(self) -> str | None:
        """At most one of a group stands in a combination."""
        return self.coupon.terms.stacking_group

    @property
    def exclusive(self) -> bool:
        """Whether it stands alone."""
        return self.coupon.terms.stacking_mode == "exclusive"

    def alone(self, amounts: Sequence[int], eligible: int) -> int:
        """What it takes off where it is used alone, from lines in scope that cost ``eligible``."""
        cap = self.coupon.terms.order_cap_permyriad
        room = MONEY_LIMIT_MINOR if cap is None else sum(amounts[:-1]) * cap // WHOLE
        if self.kind == "free_shipping" or self.units:
            return sum([part for _, part in self.take(amounts, room)])
        return min(eligible * self.permyriad // WHOLE, self.most, room)

    def take(self, left: Sequence[int], room: int) -> Parts:
        """What it takes off, at most ``room`` from lines; ``room`` does not bound the shipping cost.

        A percentage is rounded down to a whole minor unit of all that is left of its lines together; whatever is
        taken from several lines is spread in proportion to what is left of them.
        """
        if self.kind == "free_shipping":
            return [(len(left) - 1, min(left[-1], self.most))]
        room = min(room, self.most)
        if self.kind in ITEM_KINDS:
            parts: Parts = []
            for line, most, leaves in self.units:
                part = min(most, left[line] - leaves, room)
                if part > 0:
                    parts.append((line, part))
                    room -= part
            return parts
        weights = [left[line] for line in self.lines]
        amount = min(sum(weights) * self.permyriad // WHOLE, room)
        return [(line, part) for line, part in zip(self.lines, spread(amount, weights), strict=True) if part]


class Goods:
    """A basket, with what many coupons ask about it worked out once."""

    def __init__(self, basket: Basket) -> None:
        self.basket = basket
        self.amounts = [line.amount_minor for line in basket.lines] + [basket.shipping_minor]
        self.places = Places(basket.lines)
        self.dearest = _by_unit_price(basket)
        self._lines: dict[int, Sequence[int]] = {self.places.all: range(len(basket.lines))}
        self._worth: dict[int, int] = {}

    def worth(self, bits: int) -> int:
        """What these lines cost before coupons."""
        found = self._worth.get(bits)
        if found is None:
            found = self._worth[bits] = sum([self.amounts[index] for index in self.lines(bits)])
        return found

    def lines(self, bits: int) -> Sequence[int]:
        """The indices of these lines; the same object for the same lines."""
        found = self._lines.get(bits)
        if found is None:
            found = self._lines[bits] = [index for index, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
        return found


def usable(coupon: Offered, goods: Goods, covered: int) -> Usable:
    """The coupon on this basket, whose lines ``covered``, a bit for each, are in its scope."""
    benefit = coupon.terms.benefit
    made = Usable(coupon=coupon, kind=benefit.kind, lines=goods.lines(covered), most=MONEY_LIMIT_MINOR)
    if benefit.max_discount_minor is not None:
        made.most = benefit.max_discount_minor
    if benefit.kind in ("amount_off", "cash_voucher"):
        value = benefit.value_minor if coupon.balance_minor is None else coupon.balance_minor
        made.most = min(made.most, value or 0)
    elif benefit.kind == "percent_off":
        made.permyriad = benefit.percent_permyriad or 0
    elif benefit.kind == "order_stated":
        made.most = 0
    elif benefit.kind in ITEM_KINDS:
        made.units = _units(coupon.terms, goods, covered)
        made.lines = [line for line, _, _ in made.units]
    return made


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """The amount in whole parts in proportion to the weights, by largest remainder; of equals the earlier gets more.

    The parts sum to the amount, and where that is at most the sum of the weights, none is above its weight.
    """
    total = sum(weights)
    if not total or amount == total:
        return list(weights)
    shares = [amount * weight for weight in weights]
    parts = [share // total for share in shares]
    missing = amount - sum(parts)
    if missing:
        lost = [part * total - share for part, share in zip(parts, shares, strict=True)]
        for index in sorted(range(len(lost)), key=lost.__getitem__)[:missing]:
            parts[index] += 1
    return parts


def _by_unit_price(basket: Basket) -> list[int]:
    """The lines, the dearest unit first: what a unit costs before any coupon. Of equals the earlier comes first."""
    lines = basket.lines
    common = math.lcm(*{line.quantity for line in lines})
    return sorted(range(len(lines)), key=lambda index: -lines[index].amount_minor * (common // lines[index].quantity))


def _units(terms: Terms, goods: Goods, covered: int) -> list[tuple[int, int, int]]:
    """Which units it works on. They are chosen by their price before coupons, so that no other coupon changes them."""
    benefit = terms.benefit
    price = 0 if benefit.kind in ("gift", "trial") else benefit.value_minor or 0
    allowed = covered
    if benefit.products:
        allowed = terms.scope.admitted(goods.places) & goods.places.of("products", frozenset(benefit.products))
    remaining = benefit.most_units
    found = []
    for index in goods.dearest if allowed else ():
        if allowed >> index & 1:
            line = goods.basket.lines[index]
            units = min(remaining, line.quantity)
            remaining -= units
            worth = line.amount_minor * units // line.quantity
            leaves = min(worth, units * price)
            found.append((index, worth - leaves, leaves))
            if not remaining:
                break
    return found
