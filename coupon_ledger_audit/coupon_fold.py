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
LEFT_OUT = "the grace after a return is left out"


class Coupon:
    """What must be remembered of a coupon to judge its next event."""

    __slots__ = (
        "balance",
        "batch_id",
        "debits",
        "grace",
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
        self.let_go: tuple[str, int, Lock] | None = None
        """The lock that ended last, with the request and the moment that ended it, where that was to lock again."""
        self.grace: tuple[str, int, int] | None = None
        """Of a credit that moves the end of validity: its request, its moment, and what the end must become next."""
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
        if self.grace is not None:
            expect(topic == "coupon.extended", I7, LEFT_OUT)
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

    def held_at(self, at: int) -> bool:
        """Whether an order holds it at that moment."""
        return self.lock is not None and self.lock.live_at(at)

    @property
    def left(self) -> int | None:
        """What is on a voucher that leaves a balance; ``None`` for other coupons."""
        if not self.terms.leaves_balance:
            return None
        return self.terms.value_minor if self.balance is None else self.balance


def _locked(coupon: Coupon, event: Event) -> None:
    coupon._move("lock", UNUSED, LOCKED)
    holder_id = event.get("holder_id", coupon.user_id)
    at = moment(event["occurred_at"])
    request_id, let_go_at, before = coupon.let_go or (None, None, None)
    named = (request_id, let_go_at, before.order_id, before.holder_id) if before else None
    if named != (event["request_id"], at, event["order_id"], holder_id):
        before = None
        coupon._expect_usable(at, holder_id, "a lock")
    expect(event["order_id"] not in (coupon.debits or ()), I5, "the order has spent a part of this voucher already")
    coupon.lock = Lock(event, holder_id, coupon.terms, coupon.left, before)
    coupon.let_go = None


def _lock_extended(coupon: Coupon, event: Event) -> None:
    coupon._move("extending the lock", LOCKED, LOCKED)
    lock = coupon._held_by(event)
    expect(lock.live_at(moment(event["occurred_at"])), I6, "a lock is extended that is over")
    lock.hold_until(event)


def _unlocked(coupon: Coupon, event: Event) -> None:
    coupon._move("unlock", LOCKED, UNUSED)
    lock = coupon._held_by(event)
    at, reason = moment(event["occurred_at"]), event["reason"]
    if reason == "lock_ended":
        expect(not lock.live_at(at), I6, "the end of a lock is written down before it")
    else:
        # The end of a hold that was over is written down at that end when the coupon is voided.
        ended = reason == "voided" and at == lock.ends_at
        expect(ended or lock.live_at(at), I6, "a lock is let go that is over")
    coupon.let_go = (event["request_id"], at, lock) if reason == "locked_again" else None
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
    if restored:
        assert used is not None
        coupon._move("credit that restores", USED, UNUSED)
        if not used.over:
            coupon.debits[used.order_id] = used
        coupon.used = None
    if spent.over and rule == RESTORE_WITH_GRACE:
        _grace(coupon, event, restored)


def _grace(coupon: Coupon, event: Event, restored: bool) -> None:
    """What the return policy adds to a voucher that the credit restored, or that is valid or held at that moment."""
    at = moment(event["occurred_at"])
    valid = coupon.state in (UNUSED, LOCKED) and (at < coupon.valid_until or coupon.held_at(at))
    until = at + coupon.terms.grace
    if until > coupon.valid_until and (restored or valid):
        coupon.grace = (event["request_id"], at, until)


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
    if coupon.grace is None:
        expect(at < coupon.valid_until, I7, "a coupon is extended after its end")
        expect(not coupon.held_at(at), I7, "a coupon is extended while an order holds it")
    else:
        given = (event["request_id"], at, valid_until)
        expect(given == coupon.grace, I7, "the grace after a return is not the policy's")
        coupon.grace = None
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
