"""A coupon's use as an order system tells it, and what of it a return gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.basket import Basket
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.discount import spread
from ledger.errors import BelowMinSpend, InvalidField, NotApplicable, OutOfScope, ReturnNotAllowed
from ledger.events import (
    CouponCredited,
    CouponLocked,
    CouponReturned,
    CouponSpent,
    CouponTransferred,
    CouponUnlocked,
    CouponVoided,
    Event,
)
from ledger.scope import Places
from ledger.terms import Terms

ALLOCATION_LIMIT = 1_000


@dataclass(frozen=True, kw_only=True)
class Redemption:
    """What an order system says of one coupon's use."""

    coupon_id: str
    discount_minor: int | None
    """``None`` takes the discount and the allocation that the ledger itself found when it locked the coupon."""
    allocation: Sequence[Mapping[str, Any]] = ()
    """``[{"line_id", "product_id", "discount_minor"}]``; where given, it sums to the discount."""

    def __post_init__(self) -> None:
        if self.discount_minor is None:
            if self.allocation:
                raise InvalidField("an allocation needs the discount_minor that it splits", field="allocation")
            return
        if type(self.discount_minor) is not int or not 0 <= self.discount_minor < MONEY_LIMIT_MINOR:
            raise InvalidField("discount_minor is a whole number from 0 to below 10^12", field="discount_minor")
        if len(self.allocation) > ALLOCATION_LIMIT:
            raise InvalidField(f"an allocation has at most {ALLOCATION_LIMIT} lines", field="allocation")
        parts: list[Any] = [part.get("discount_minor") for part in self.allocation]
        if parts and (any(type(part) is not int or part < 0 for part in parts) or sum(parts) != self.discount_minor):
            raise InvalidField("the allocation's parts are whole and sum to discount_minor", field="allocation")

    def under(self, hold: CouponLocked, carried: Mapping[str, int]) -> tuple[int, list[dict[str, Any]]]:
        """The discount and its allocation: as said, or as the lock found them where nothing is said.

        A discount that is less than the lock found, said without an allocation, is on the lines in proportion to what
        the lock found, by largest remainder; lines that get nothing of it are left out. Where the lock kept the lines
        of a basket, because the order system says what comes off them, each carries at most what it costs less what
        other uses of the order took off it (``carried``, by line), and the discount is on them in proportion to that.

        Raises ``InvalidField`` when neither says a discount, ``NotApplicable`` for one that is more than the lines in
        scope have, and for a line that carries more than may come off it.
        """
        discount = hold.discount_minor if self.discount_minor is None else self.discount_minor
        if discount is None:
            raise InvalidField("discount_minor is needed: the lock found none", field="redemptions")
        room = hold.allocation
        if hold.lines_in_scope:
            room = [_left(line, carried) for line in hold.lines_in_scope]
            self._check_sum(discount, room)
        if not self.allocation:
            parts = zip(room, spread(discount, [part["discount_minor"] for part in room]), strict=True)
            return discount, [{**line, "discount_minor": part} for line, part in parts if part]
        if hold.lines_in_scope or hold.discount_minor is not None:
            self._check_lines(room)
        return discount, [dict(part) for part in self.allocation]

    def _check_sum(self, discount: int, room: Sequence[Mapping[str, Any]]) -> None:
        most = sum(part["discount_minor"] for part in room)
        if discount > most:
            raise NotApplicable(
                "the discount is more than is left of the lines in scope",
                coupon_id=self.coupon_id,
                discount_minor=discount,
                most_minor=most,
            )

    def _check_lines(self, most_of: Sequence[Mapping[str, Any]]) -> None:
        found = {part["line_id"]: part for part in most_of}
        told: Counter[str] = Counter()
        for part in self.allocation:
            line_id = part["line_id"]
            told[line_id] += part["discount_minor"]
            most = found[line_id]["discount_minor"] if line_id in found else 0
            if told[line_id] > most:
                raise NotApplicable(
                    "a line carries more of the discount than may come off it",
                    coupon_id=self.coupon_id,
                    line_id=line_id,
                    discount_minor=told[line_id],
                    most_minor=most,
                )
            product_id = part.get("product_id")
            if product_id is not None and told[line_id] and product_id != found[line_id]["product_id"]:
                raise NotApplicable("a line is of another product", coupon_id=self.coupon_id, line_id=line_id)


def _left(line: Mapping[str, Any], carried: Mapping[str, int]) -> dict[str, Any]:
    left_minor = max(0, line["amount_minor"] - carried.get(line["line_id"], 0))
    return {"line_id": line["line_id"], "product_id": line["product_id"], "discount_minor": left_minor}


def lines_in_scope(terms: Terms, basket: Basket) -> list[dict[str, Any]]:
    """The lines of a basket that the terms cover, as ``coupon.locked`` keeps them."""
    covered = terms.scope.covered(Places(basket.lines))
    return [
        {"line_id": line.line_id, "product_id": line.product_id, "amount_minor": line.amount_minor}
        for index, line in enumerate(basket.lines)
        if covered >> index & 1
    ]


def check_total(coupon_id: str, terms: Terms, order_total_minor: int | None, *, priced: bool) -> None:
    """The order's total must reach the minimum spend, and be known where the terms depend on it.

    Terms of which the order's lines alone say what they take off need a basket: then the coupon was ``priced``.
    """
    if terms.benefit.needs_basket and not priced:
        raise NotApplicable("the coupon's terms need a basket", coupon_id=coupon_id)
    if order_total_minor is None:
        if terms.min_spend_minor or terms.benefit.percent_permyriad is not None:
            raise NotApplicable("the coupon's terms need order_total_minor", coupon_id=coupon_id)
    elif order_total_minor < terms.min_spend_minor:
        raise BelowMinSpend(
            coupon_id=coupon_id,
            min_spend_minor=terms.min_spend_minor,
            order_total_minor=order_total_minor,
        )


def check_scope(
    coupon_id: str, terms: Terms, channel: str, allocation: Sequence[Mapping[str, Any]], *, priced: bool
) -> None:
    """The channel must be one of the scope's, and the products of which the allocation takes something off may be.

    What else a scope says is judged where the basket is known: by the quote and by the lock. Of a coupon that was
    ``priced`` there, no other line carries anything. One that gives a product away takes nothing off any other,
    and that product need not be listed in the scope.
    """
    if terms.scope.channels and channel not in terms.scope.channels:
        raise OutOfScope("the coupon is not for this channel", coupon_id=coupon_id, channel=channel)
    if priced:
        return
    named = {str(part["product_id"]) for part in allocation if part["discount_minor"] and part.get("product_id")}
    foreign = named.intersection(terms.scope.excluded_products)
    listed = terms.benefit.products or (() if terms.scope.categories else terms.scope.products)
    if listed:
        foreign |= named.difference(listed)
    if foreign:
        raise OutOfScope("the coupon does not cover a product", coupon_id=coupon_id, product_id=min(foreign))


def lapsed_hold(history: Sequence[Event]) -> CouponLocked | None:
    """The hold whose end was written down, where nothing has happened since that a late confirmation would undo.

    So writing the end down changes no answer: terms that accept a late confirmation accept it before and after.
    """
    ended = False
    for event in reversed(history):
        if isinstance(event, CouponLocked):
            return event if ended else None
        if isinstance(event, CouponUnlocked):
            if event.reason != "lock_ended" or ended:
                return None
            ended = True
        elif isinstance(event, CouponSpent | CouponTransferred | CouponVoided):
            return None
    return None


def was_held(history: Sequence[Event], order_id: str, lock_id: str | None) -> bool:
    """Whether the order ever held the coupon, under this lock where one is named, and does not spend it since.

    A use that was returned whole is over, whatever the policy made of the coupon.
    """
    undone: list[CouponReturned | CouponCredited] = []
    for event in reversed(history):
        if isinstance(event, CouponReturned | CouponCredited) and event.order_id == order_id:
            undone.append(event)
        elif isinstance(event, CouponSpent) and event.order_id == order_id:
            if not _is_whole(event, undone):
                return False
            undone = []
        if isinstance(event, CouponLocked) and event.order_id == order_id and lock_id in (None, event.lock_id):
            return True
    return False


def _is_whole(spent: CouponSpent, undone: Sequence[CouponReturned | CouponCredited]) -> bool:
    """Whether these undid the whole of the use. One without lines undoes all that is left."""
    if not undone or not all(event.lines for event in undone):
        return bool(undone)
    undone_minor: int = sum(part["discount_minor"] for event in undone for part in event.lines)
    return undone_minor == spent.discount_minor


def returned_lines(
    coupon_id: str,
    spent: CouponSpent,
    returned: Mapping[str, int],
    asked: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """What each of the asked lines gives back, from the allocation that the use stored and never from today's terms.

    ``asked`` is ``[{"line_id", "discount_minor"}]``; without an amount a line gives back what is left of it. Lines
    that give nothing are left out, so it may be empty. Raises ``ReturnNotAllowed`` for more than is left of a line.
    """
    left: Counter[str] = Counter()
    for part in spent.allocation:
        left[str(part["line_id"])] += part["discount_minor"]
    left.subtract(returned)
    parts = []
    for line in asked:
        line_id, wanted = line["line_id"], line.get("discount_minor")
        if wanted is None:
            wanted = left[line_id]
        elif wanted > left[line_id]:
            raise ReturnNotAllowed(
                coupon_id=coupon_id, line_id=line_id, discount_minor=wanted, left_minor=left[line_id]
            )
        if wanted:
            parts.append({"line_id": line_id, "discount_minor": wanted})
    return parts
