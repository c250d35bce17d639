"""One coupon's life, folded anew: which events may follow which. It shares nothing with the ledger's own code.

Stored states: a coupon is UNUSED from its issue, whatever the clock says; a lock holds it until an event ends that.
"""

from __future__ import annotations

from collections.abc import Callable

from coupon_ledger_audit.broken import FORM, I4, I5, I6, I7, I17, expect, moment, whole
from coupon_ledger_audit.spending import Event, Lock, Spent
from coupon_ledger_audit.terms import KEEP_USED, RESTORE_WITH_GRACE, Terms

UNUSED = "unused"
LOCKED = "locked"
USED = "used"
EXPIRED = "expired"
VOIDED = "voided"


class Coupon:
    """What must be remembered of a coupon to judge its next event."""

    __slots__ = (
        "balance",
        "batch_id",
        "debits",
        "graced_by",
        "let_go",
        "lock",
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

    def __init__(self, event: Event, batch_id: str, merchant_id: str, terms: Terms) -> None:
        self.version = 1
        self.batch_id = batch_id
        self.merchant_id = merchant_id
        self.terms = terms
        self.user_id: str = event["user_id"]
        self.valid_from = moment(event["valid_from"])
        self.valid_until = moment(event["valid_until"])
        self.state = UNUSED
        self.shared_with: tuple[str, ...] = ()
        self.lock: Lock | None = None
        self.let_go: tuple[str, Lock] | None = None
        """The lock that ended last, and the request that ended it, where that was to lock again."""
        self.graced_by: str | None = None
        """The request of the last credit, where that moves the end of validity."""
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

    def _held_by(self, event: Event) -> Lock:
        """The live lock, when the event names it: the fencing of late and foreign orders."""
        lock = self.lock
        if lock is None or (event["order_id"], event["lock_id"]) != (lock.order_id, lock.lock_id):
            expect(False, I6, "the event names another order or lock than the live one")
        assert lock is not None
        return lock

    def _expect_usable(self, at: int, holder_id: str, what: str) -> None:
        """It is valid at that moment, and the holder is its owner or one with whom it is shared."""
        expect(self.valid_from <= at < self.valid_until, I7, f"{what} outside the coupon's validity")
        expect(holder_id == self.user_id or holder_id in self.shared_with, I6, f"{what} by who has no right to it")

    @property
    def left(self) -> int | None:
        """What is on a voucher that leaves a balance; ``None`` for other coupons."""
        if not self.terms.leaves_balance:
            return None
        return self.terms.value_minor if self.balance is None else self.balance


def _locked(coupon: Coupon, event: Event) -> None:
    coupon._move("lock", UNUSED, LOCKED)
    holder_id = event.get("holder_id", coupon.user_id)
    request_id, before = coupon.let_go or (None, None)
    named = (request_id, before.order_id, before.holder_id) if before else None
    if named != (event["request_id"], event["order_id"], holder_id):
        before = None
        coupon._expect_usable(moment(event["occurred_at"]), holder_id, "a lock")
    expect(event["order_id"] not in (coupon.debits or ()), I5, "the order has spent a part of this voucher already")
    coupon.lock = Lock(event, holder_id, coupon.terms, coupon.left, before)
    coupon.let_go = None


def _lock_extended(coupon: Coupon, event: Event) -> None:
    coupon._move("extending the lock", LOCKED, LOCKED)
    coupon._held_by(event).hold_until(event)


def _unlocked(coupon: Coupon, event: Event) -> None:
    coupon._move("unlock", LOCKED, UNUSED)
    lock = coupon._held_by(event)
    if event["reason"] == "lock_ended":
        expect(moment(event["occurred_at"]) >= lock.ends_at, I6, "the end of a lock is written down before it")
    coupon.let_go = (event["request_id"], lock) if event["reason"] == "locked_again" else None
    coupon.lock = None


def _spent(coupon: Coupon, event: Event) -> Spent:
    """What a use and a debit have in common: who may, when, and how much."""
    lock = coupon._held_by(event)
    at = moment(event["occurred_at"])
    late = event.get("late", False) is True
    text = "a use in time is called late" if late else "a use after the lock's end is not late"
    expect(late == (at >= lock.ends_at), I6, text)
    if late:
        expect(coupon.terms.accepts_late, I6, "a late use, where the terms refuse one")
        coupon._expect_usable(at, lock.holder_id, "a late use")
    expect(event.get("holder_id", coupon.user_id) == lock.holder_id, I6, "another user uses it than holds it")
    coupon.lock = None
    return Spent(event, lock, coupon.terms, coupon.left)


def _used(coupon: Coupon, event: Event) -> None:
    coupon._move("use", LOCKED, USED)
    coupon.used = used = _spent(coupon, event)
    left = coupon.left
    expect(left in (None, used.discount), I17, f"a voucher with {left} on it is used up by {used.discount}")


def _debited(coupon: Coupon, event: Event) -> None:
    coupon._move("debit", LOCKED, UNUSED)
    left = coupon.left
    if left is None:
        expect(False, I17, "a coupon without a balance is spent in part")
    assert left is not None
    spent = _spent(coupon, event)
    coupon.balance = whole(event, "balance_minor", I17)
    expect(coupon.balance > 0, I17, "a debit leaves nothing on the voucher")
    expect(coupon.balance == left - spent.discount, I17, f"the balance is {coupon.balance} and not {left} less that")
    coupon.debits = {**(coupon.debits or {}), spent.order_id: spent}


def _returned(coupon: Coupon, event: Event) -> None:
    rule = coupon.terms.rule(event["reason"])
    used = coupon.used
    coupon._move("return", USED, UNUSED if event["restored"] else USED)
    assert used is not None
    named = (event["order_id"], event["redemption_id"])
    expect(named == (used.order_id, used.redemption_id), I6, "another use is returned than the coupon's")
    used.undo(event, "returned_minor", kept=rule == KEEP_USED)
    restored = used.over and rule != KEEP_USED
    expect(event["restored"] is restored, I7, f"restored is {event['restored']} where the return policy is {rule}")
    valid_until = coupon.valid_until
    if used.over and rule == RESTORE_WITH_GRACE:
        valid_until = max(valid_until, moment(event["occurred_at"]) + coupon.terms.grace)
    expect(moment(event["valid_until"]) == valid_until, I7, "the validity after a return is not as the policy says")
    coupon.valid_until = valid_until
    if restored:
        coupon.used = None


def _credited(coupon: Coupon, event: Event) -> None:
    rule = coupon.terms.rule(event["reason"])
    spent = (coupon.debits or {}).get(event["order_id"])
    expect(coupon.state != VOIDED, I7, "a credit of a coupon that is voided")
    if spent is None or spent.redemption_id != event["redemption_id"]:
        expect(False, I6, "a credit for an order that spent nothing of the voucher")
    assert spent is not None
    assert coupon.debits is not None
    given = spent.undo(event, "credited_minor", kept=rule == KEEP_USED)
    used, before = coupon.used, coupon.left or 0
    restored = used is not None and given > 0
    expect(event["restored"] is restored, I7, f"restored is {event['restored']} where the return policy is {rule}")
    # A use that emptied the voucher brings back what was on it before when it is returned itself. A credit that ends
    # its being used up makes that use a part like the others, of which its lines may have given something back.
    if used is not None and (restored or used.over):
        before = 0 if used.over else used.given
    coupon.balance = whole(event, "balance_minor", I17)
    expect(coupon.balance == before + given, I17, f"the balance is {coupon.balance} and not {before + given}")
    if spent.over:
        del coupon.debits[spent.order_id]
    coupon.graced_by = event["request_id"] if spent.over and rule == RESTORE_WITH_GRACE else None
    if restored:
        assert used is not None
        coupon._move("credit that restores", USED, UNUSED)
        if not used.over:
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
    valid_until, at = moment(event["valid_until"]), moment(event["occurred_at"])
    expect(valid_until > coupon.valid_until, I7, "extending shortens the validity")
    if coupon.graced_by == event["request_id"]:
        expect(valid_until == at + coupon.terms.grace, I7, "the grace after a return is not the policy's")
    else:
        expect(at < coupon.valid_until, I7, "a coupon is extended after its end")
    coupon.valid_until = valid_until


def _transferred(coupon: Coupon, event: Event) -> None:
    coupon._move("transfer", UNUSED, UNUSED)
    expect(coupon.terms.transferable, I6, "a coupon is given away, where the terms forbid that")
    coupon.user_id = event["to_user_id"]
    coupon.shared_with = ()


def _shared(coupon: Coupon, event: Event) -> None:
    expect(coupon.state in (UNUSED, LOCKED), I7, f"sharing of a coupon that is {coupon.state}")
    expect(coupon.terms.shareable, I6, "a coupon is shared, where the terms forbid that")
    coupon.shared_with = tuple(event["with_user_ids"])


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
