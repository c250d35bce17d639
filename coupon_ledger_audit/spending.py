"""The money of a coupon: what a lock promises, what a use takes off, and what of it a return gives back."""

from __future__ import annotations

from typing import Any

from coupon_ledger_audit.broken import DAY, I4, I17, expect, moment, whole, whole_if_given
from coupon_ledger_audit.terms import Terms, least

Event = dict[str, Any]
LONGEST_LOCK = DAY
"""How long an order may hold a coupon, in microseconds; it may lock again meanwhile for another basket."""


class Lock:
    """An order's hold."""

    __slots__ = ("ends_at", "holder_id", "lock_id", "most_minor", "order_id", "since")

    def __init__(self, event: Event, holder_id: str, terms: Terms, left: int | None, before: Lock | None) -> None:
        """``left`` is on a voucher with a balance; ``before`` is the order's lock that this one takes the place of."""
        at = moment(event["occurred_at"])
        self.order_id: str = event["order_id"]
        self.lock_id: str = event["lock_id"]
        self.holder_id = holder_id
        self.since: int = at if before is None else before.since
        self.ends_at: int = at if before is None else before.ends_at
        self.hold_until(event)
        self.most_minor = _promised(event, terms, left)
        """The most that a use may take off, where the lock says that."""

    def live_at(self, at: int) -> bool:
        """Whether it is not over at that moment."""
        return at < self.ends_at

    def hold_until(self, event: Event) -> None:
        """Take the end that the event names: no earlier one, and none that is too late."""
        ends_at = moment(event["lock_ends_at"])
        expect(ends_at >= self.ends_at, I4, "a lock is shortened, or over before it begins")
        expect(ends_at <= self.since + LONGEST_LOCK, I4, "an order holds a coupon for more than a day")
        self.ends_at = ends_at


class Spent:
    """What an order took off with a coupon, and how much of that came back."""

    __slots__ = ("discount", "given", "order_id", "over", "redemption_id", "undone")

    def __init__(self, event: Event, lock: Lock, terms: Terms, left: int | None) -> None:
        """A use or a debit under the lock. ``left`` is on a voucher with a balance."""
        discount = whole(event, "discount_minor", I17)
        merchant = discount * terms.merchant_share_permyriad // 10_000
        parts = (whole(event, "merchant_funded_minor", I17), whole(event, "platform_funded_minor", I17))
        shares = f"{parts[0]} and {parts[1]}, where the terms say {merchant} and {discount - merchant}"
        expect(parts == (merchant, discount - merchant), I17, f"merchant and platform fund {shares}")
        _check_allocation(event, discount)
        total = whole_if_given(event, "order_total_minor", I17)
        whole_if_given(event, "paid_minor", I17)
        terms.check_total(total)
        expect(event["currency"] == terms.currency, I17, "the currency is not the template's")
        _check_most(discount, terms.most_minor(total), lock.most_minor, left)
        self.order_id: str = event["order_id"]
        self.redemption_id: str = event["redemption_id"]
        self.discount = discount
        self.undone = 0
        self.given = 0
        self.over = False
        """Whether all of it was undone, whether or not anything was given back."""

    def undo(self, event: Event, name: str, *, kept: bool) -> int:
        """Count what a return undoes: its lines, or all that is left. Answers what it gives back.

        That is all of what it undoes, or nothing where the return policy keeps the coupon used.
        """
        expect(not self.over, I17, "a use is returned more than once")
        left = self.discount - self.undone
        undone = sum(whole(line, "discount_minor", I17) for line in event["lines"]) if event["lines"] else left
        expect(undone <= left, I17, f"{undone} is undone where {left} is left")
        given = whole(event, name, I17)
        most = 0 if kept else undone
        expect(given == most, I17, f"{given} is given back for {undone}, where the return policy gives {most}")
        self.undone += undone
        self.given += given
        self.over = undone == left
        return given


def _promised(event: Event, terms: Terms, left: int | None) -> int | None:
    total = whole_if_given(event, "order_total_minor", I17)
    terms.check_total(total)
    discount = whole_if_given({"discount_minor": None} | event, "discount_minor", I17)
    if discount is None:
        expect(not terms.needs_basket, I17, "a lock without a discount, where the basket alone says what comes off")
    else:
        _check_allocation(event, discount)
        _check_most(discount, terms.most_minor(total), left)
    lines = event.get("lines_in_scope")
    return least(discount, sum(whole(line, "amount_minor", I17) for line in lines) if lines else None)


def _check_most(discount: int, *bounds: int | None) -> None:
    most = least(*bounds)
    expect(most is None or discount <= most, I17, f"a discount of {discount} where at most {most} is allowed")


def _check_allocation(event: Event, discount: int) -> None:
    if lines := event.get("allocation"):
        parts = sum(whole(line, "discount_minor", I17) for line in lines)
        expect(parts == discount, I17, f"the lines carry {parts} of a discount of {discount}")
