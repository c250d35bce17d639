"""One coupon's life, folded anew: which events may follow which. It shares nothing with the ledger's own code.

Stored states: a coupon is UNUSED from its issue, whatever the clock says; a lock holds it until an event ends that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coupon_ledger_audit.broken import FORM, I4, I5, I6, I7, I17, expect, moment, whole, whole_if_given
from coupon_ledger_audit.terms import Terms

UNUSED = "unused"
LOCKED = "locked"
USED = "used"
EXPIRED = "expired"
VOIDED = "voided"

Event = dict[str, Any]


class Spent:
    """What an order took off with a coupon, and how much of that came back."""

    __slots__ = ("discount", "order_id", "redemption_id", "undone")

    def __init__(self, order_id: str, redemption_id: str, discount: int) -> None:
        self.order_id = order_id
        self.redemption_id = redemption_id
        self.discount = discount
        self.undone = 0


class Coupon:
    """What must be remembered of a coupon to judge its next event."""

    __slots__ = (
        "balance",
        "batch_id",
        "debits",
        "let_go_by",
        "lock",
        "lock_ends_at",
        "merchant_id",
        "shared_with",
        "state",
        "terms",
        "used",
        "user_id",
        "valid_from",
        "valid_until",
        "version",
    )

    def __init__(self, event: Event, batch_id: str, merchant_id: str, terms: Terms | None) -> None:
        self.version = 1
        self.batch_id = batch_id
        self.merchant_id = merchant_id
        self.terms = terms
        self.user_id: str = event["user_id"]
        self.valid_from = moment(event["valid_from"])
        self.valid_until = moment(event["valid_until"])
        self.state = UNUSED
        self.shared_with: tuple[str, ...] = ()
        self.lock: Event | None = None
        self.lock_ends_at = 0.0
        self.let_go_by: str | None = None
        self.used: Spent | None = None
        """The use that emptied it; it stays here when the order was undone and the coupon kept used."""
        self.debits: dict[str, Spent] | None = None
        self.balance: int | None = None

    def apply(self, topic: str, event: Event) -> None:
        """Judge the event, and change with it. Raises ``Broken``, or what wrong types make Python raise."""
        step = STEPS.get(topic)
        if step is None:
            expect(topic != "coupon.issued", I7, "a coupon is issued once")
            expect(False, FORM, f"this audit does not know {topic}")
            return
        known = (self.batch_id, self.merchant_id, self.user_id)
        if (event["batch_id"], event["merchant_id"], event["user_id"]) != known:
            expect(False, I6, "the event names another batch, merchant or owner than the coupon's")
        step(self, event)

    def _move(self, topic: str, before: str, after: str) -> None:
        if self.state != before:
            rule = I4 if (self.state, topic) == (LOCKED, "lock") else I7
            if (self.state, topic) == (USED, "use"):
                rule = I5
            expect(False, rule, f"{topic} of a coupon that is {self.state}")
        self.state = after

    def _held_by(self, event: Event) -> Event:
        """The live lock, when the event names it: the fencing of late and foreign orders."""
        lock = self.lock
        if lock is None or (event["order_id"], event["lock_id"]) != (lock["order_id"], lock["lock_id"]):
            expect(False, I6, "the event names another order or lock than the live one")
        assert lock is not None
        return lock


def _locked(coupon: Coupon, event: Event) -> None:
    again = coupon.let_go_by is not None and coupon.let_go_by == event["request_id"]
    coupon._move("lock", UNUSED, LOCKED)
    occurred_at = moment(event["occurred_at"])
    valid = coupon.valid_from <= occurred_at < coupon.valid_until
    expect(again or valid, I7, "a coupon is locked outside its validity")
    expect(event["order_id"] not in (coupon.debits or ()), I5, "the order has spent a part of this voucher already")
    holder = event.get("holder_id", coupon.user_id)
    expect(again or holder == coupon.user_id or holder in coupon.shared_with, I6, "the holder has no right to it")
    if event.get("discount_minor") is not None:
        _check_allocation(event, whole(event, "discount_minor", I17))
    names = ("order_id", "lock_id")
    coupon.lock = {name: event[name] for name in names} | {
        "holder_id": holder,
        "discount_minor": event.get("discount_minor"),
    }
    coupon.lock_ends_at = moment(event["lock_ends_at"])
    coupon.let_go_by = None


def _lock_extended(coupon: Coupon, event: Event) -> None:
    coupon._move("extending the lock", LOCKED, LOCKED)
    coupon._held_by(event)
    ends_at = moment(event["lock_ends_at"])
    expect(ends_at >= coupon.lock_ends_at, I4, "a lock is shortened")
    coupon.lock_ends_at = ends_at


def _unlocked(coupon: Coupon, event: Event) -> None:
    coupon._move("unlock", LOCKED, UNUSED)
    coupon._held_by(event)
    coupon.let_go_by = event["request_id"] if event["reason"] == "locked_again" else None
    coupon.lock = None


def _spent(coupon: Coupon, event: Event) -> Spent:
    """What a use and a debit have in common: who may, when, and how much."""
    lock = coupon._held_by(event)
    late = event.get("late", False) is True
    expect(late or moment(event["occurred_at"]) < coupon.lock_ends_at, I6, "a use after the lock's end is not late")
    expect(event.get("holder_id", coupon.user_id) == lock["holder_id"], I6, "another user uses it than holds it")
    discount = whole(event, "discount_minor", I17)
    parts = whole(event, "merchant_funded_minor", I17) + whole(event, "platform_funded_minor", I17)
    expect(parts == discount, I17, "the funders' parts are not the discount")
    _check_allocation(event, discount)
    total = whole_if_given(event, "order_total_minor", I17)
    whole_if_given(event, "paid_minor", I17)
    bounds = [lock["discount_minor"], coupon.balance]
    if coupon.terms is not None:
        bounds.append(coupon.terms.most_minor(total))
        expect(event["currency"] == coupon.terms.currency, I17, "the currency is not the template's")
    most = min((bound for bound in bounds if bound is not None), default=None)
    expect(most is None or discount <= most, I17, f"a discount of {discount} where at most {most} is allowed")
    coupon.lock = None
    return Spent(event["order_id"], event["redemption_id"], discount)


def _used(coupon: Coupon, event: Event) -> None:
    coupon._move("use", LOCKED, USED)
    terms = coupon.terms
    coupon.used = _spent(coupon, event)
    if terms is not None and terms.leaves_balance:
        left = terms.value_minor if coupon.balance is None else coupon.balance
        expect(coupon.used.discount == left, I17, f"a voucher with {left} on it is used up by {coupon.used.discount}")


def _debited(coupon: Coupon, event: Event) -> None:
    coupon._move("debit", LOCKED, UNUSED)
    terms = coupon.terms
    before = coupon.balance
    if terms is not None:
        expect(terms.leaves_balance, I17, "a coupon without a balance is spent in part")
        before = terms.value_minor if before is None else before
    spent = _spent(coupon, event)
    coupon.balance = whole(event, "balance_minor", I17)
    expect(coupon.balance > 0, I17, "a debit leaves nothing on the voucher")
    left = None if before is None else before - spent.discount
    expect(left in (None, coupon.balance), I17, f"the balance is {coupon.balance} and not {left}")
    coupon.debits = {**(coupon.debits or {}), spent.order_id: spent}


def _returned(coupon: Coupon, event: Event) -> None:
    restored = event["restored"]
    used = coupon.used
    coupon._move("return", USED, UNUSED if restored else USED)
    assert used is not None
    named = (event["order_id"], event["redemption_id"])
    expect(named == (used.order_id, used.redemption_id), I6, "another use is returned than the coupon's")
    expect(used.undone < used.discount or used.discount == 0, I17, "a use is returned more than once")
    _undo(used, event, "returned_minor")
    expect(not restored or used.undone == used.discount, I17, "a coupon comes back before all of its use is undone")
    valid_until = moment(event["valid_until"])
    expect(valid_until >= coupon.valid_until, I7, "a return shortens the validity")
    coupon.valid_until = valid_until
    if restored:
        coupon.used = None


def _credited(coupon: Coupon, event: Event) -> None:
    spent = (coupon.debits or {}).get(event["order_id"])
    expect(coupon.state != VOIDED, I7, "a credit of a coupon that is voided")
    if spent is None or spent.redemption_id != event["redemption_id"]:
        expect(False, I6, "a credit for an order that spent nothing of the voucher")
    assert spent is not None
    assert coupon.debits is not None
    _undo(spent, event, "credited_minor")
    if spent.undone == spent.discount:
        del coupon.debits[spent.order_id]
    coupon.balance = whole(event, "balance_minor", I17)
    if coupon.terms is not None and coupon.terms.value_minor is not None:
        expect(coupon.balance <= coupon.terms.value_minor, I17, "a voucher has more on it than its worth")
    if event["restored"]:
        used = coupon.used
        coupon._move("credit that restores", USED, UNUSED)
        assert used is not None
        if used.undone < used.discount:
            coupon.debits[used.order_id] = used
        coupon.used = None


def _expired(coupon: Coupon, event: Event) -> None:
    coupon._move("expiry", UNUSED, EXPIRED)
    ended = moment(event["valid_until"]) == moment(event["occurred_at"]) == coupon.valid_until
    expect(ended, I7, "a coupon expires at another time than its end")


def _voided(coupon: Coupon, _: Event) -> None:
    coupon._move("voiding", UNUSED, VOIDED)


def _extended(coupon: Coupon, event: Event) -> None:
    expect(coupon.state in (UNUSED, LOCKED), I7, f"extending of a coupon that is {coupon.state}")
    expect(moment(event["valid_until_before"]) == coupon.valid_until, I7, "a coupon had another end than was extended")
    valid_until = moment(event["valid_until"])
    expect(valid_until > coupon.valid_until, I7, "extending shortens the validity")
    coupon.valid_until = valid_until


def _transferred(coupon: Coupon, event: Event) -> None:
    coupon._move("transfer", UNUSED, UNUSED)
    coupon.user_id = event["to_user_id"]
    coupon.shared_with = ()


def _shared(coupon: Coupon, event: Event) -> None:
    expect(coupon.state in (UNUSED, LOCKED), I7, f"sharing of a coupon that is {coupon.state}")
    coupon.shared_with = tuple(event["with_user_ids"])


def _undo(spent: Spent, event: Event, name: str) -> None:
    """Count what a return undoes: its lines, or all that is left; the return policy may give nothing of that back."""
    left = spent.discount - spent.undone
    undone = sum(whole(line, "discount_minor", I17) for line in event["lines"]) if event["lines"] else left
    expect(undone <= left, I17, f"{undone} is undone where {left} is left")
    given = whole(event, name, I17)
    expect(given in (0, undone), I17, f"{given} is given back for {undone}")
    spent.undone += undone


def _check_allocation(event: Event, discount: int) -> None:
    if lines := event.get("allocation"):
        parts = sum(whole(line, "discount_minor", I17) for line in lines)
        expect(parts == discount, I17, f"the lines carry {parts} of a discount of {discount}")


STEPS: dict[str, Callable[[Coupon, Event], None]] = {
    "coupon.locked": _locked,
    "coupon.lock_extended": _lock_extended,
    "coupon.unlocked": _unlocked,
    "coupon.used": _used,
    "coupon.debited": _debited,
    "coupon.returned": _returned,
    "coupon.credited": _credited,
    "coupon.expired": _expired,
    "coupon.voided": _voided,
    "coupon.extended": _extended,
    "coupon.transferred": _transferred,
    "coupon.shared": _shared,
}
