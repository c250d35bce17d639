"""A coupon's stream, read a second time: which step each event is, who takes it, and what it is worth.

This reading knows the rules of ``ledger/coupon.py`` and shares none of its code, so that one mistake is not made twice.
The first thing that is wrong with a stream is told; what follows from it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from projections.verify.batches import Batch
from projections.verify.money import Bounds, Spending, amount, check_money
from projections.verify.plans import Plans
from projections.verify.report import Broken
from projections.verify.rows import Payload
from projections.verify.steps import check_step
from projections.verify.terms import Terms

LONGEST_LOCK = timedelta(days=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Coupon:
    """One coupon, as far as its stream was read."""

    __slots__ = (
        "balance", "batch", "batch_id", "bounds", "debits", "friends", "grace", "held_since", "holder", "let_go",
        "lock_ends", "lock_id", "order_id", "owner", "state", "stream", "terms", "use", "used_by",
        "valid_from", "valid_until",
    )  # fmt: skip

    terms: Terms
    """Of a coupon that was issued right."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.state = ""
        self.batch: Batch | None = None
        self.batch_id = self.owner = ""
        self.order_id = self.lock_id = self.holder = self.used_by = ""
        self.held_since = self.lock_ends = self.valid_from = self.valid_until = _NEVER
        self.let_go: tuple[str, datetime] | None = None
        """Request and moment of an end of the lock that was to lock again."""
        self.grace: tuple[str, datetime, datetime] | None = None
        """Of a credit that moves the end of validity: its request, its moment, and the end that comes next."""
        self.bounds: Bounds | None = None
        self.friends: list[str] = []
        self.balance: int | None = None
        self.use: Spending | None = None
        self.debits: dict[str, Spending] = {}

    # --- steps; each changes the state, or raises Broken -----------------------------------------------------

    def issued(self, event: Payload, at: datetime, plans: Plans, position: int) -> None:
        """The first event."""
        check_step(self.state, "coupon.issued")
        self.state = "UNUSED"
        self.batch_id, self.owner = event["batch_id"], event["user_id"]
        self.batch = batch = plans.batches.get(self.batch_id)
        if batch is None:
            raise Broken("I2", "a coupon of a batch that is there", f"of {self.batch_id}")
        if batch.terms is None or batch.template != (event["template_id"], event["template_version"]):
            pinned = f"{event['template_id']} version {event['template_version']}"
            raise Broken("custody", f"the terms of its batch, {batch.template[0]} version {batch.template[1]}", pinned)
        self.terms = batch.terms
        if not batch.runs_at(position):
            raise Broken("I2", "a coupon of a batch that runs", f"{self.batch_id} does not run at {position}")
        if batch.claim_from is not None or batch.claim_until is not None:
            late = batch.claim_until is not None and at >= batch.claim_until
            if late or (batch.claim_from is not None and at < batch.claim_from):
                raise Broken("I2", "a coupon issued in the batch's claim window", f"at {event['occurred_at']}")
        self.valid_from, self.valid_until = _time(event["valid_from"]), _time(event["valid_until"])
        batch.check_validity(at, self.valid_from, self.valid_until)

    def locked(self, event: Payload, at: datetime) -> None:
        """An order holds it."""
        check_step(self.state, "coupon.locked")
        order_id, holder, ends = event["order_id"], event["holder_id"], _time(event["lock_ends_at"])
        if holder != self.owner and holder not in self.friends:
            raise Broken("custody", f"a lock for its owner {self.owner} or a friend", f"for {holder}")
        if order_id in self.debits:
            raise Broken("I5", "one use by an order", f"a lock for another by {order_id}")
        # Who changes the basket was in time when the order first held it, so only other locks are judged by the clock.
        if self.let_go == (event["request_id"], at):
            if (order_id, holder) != (self.order_id, self.holder):
                raise Broken("I6", f"a lock for order {self.order_id} again", f"for {order_id} and {holder}")
        else:
            if not self.valid_from <= at < self.valid_until:
                raise Broken("I7", f"a lock in {self._validity()}", f"at {event['occurred_at']}")
            self.held_since = self.lock_ends = at
        self._hold_until(ends)
        self.state = "LOCKED"
        self.order_id, self.lock_id, self.holder = order_id, event["lock_id"], holder
        self.bounds = Bounds(event, self.terms, self._left())

    def lock_extended(self, event: Payload, at: datetime) -> None:
        """The same lock, longer."""
        check_step(self.state, "coupon.lock_extended")
        self._by_holder(event)
        if at >= self.lock_ends:
            raise Broken("I6", f"an extension of a lock before {self.lock_ends.isoformat()}", f"at {at.isoformat()}")
        self._hold_until(_time(event["lock_ends_at"]))

    def unlocked(self, event: Payload, at: datetime) -> None:
        """The order lets go, or its time is over."""
        check_step(self.state, "coupon.unlocked")
        self._by_holder(event)
        reason, live = event["reason"], at < self.lock_ends
        if reason == "lock_ended" and live:
            raise Broken("I6", f"a lock until {self.lock_ends.isoformat()}", f"its end at {event['occurred_at']}")
        # Voiding writes down the end of a hold that was over by the clock, at that end.
        over = reason == "lock_ended" or (reason == "voided" and at == self.lock_ends)
        if not live and not over:
            raise Broken("I6", f"a lock let go before {self.lock_ends.isoformat()}", f"at {event['occurred_at']}")
        self.state = "UNUSED"
        self.let_go = (event["request_id"], at) if reason == "locked_again" else None

    def used(self, event: Payload, at: datetime) -> None:
        """Spent, whole or the rest of it."""
        check_step(self.state, "coupon.used")
        self._spend(event, at)
        left = self._left()
        if left is not None and left != event["discount_minor"]:
            raise Broken("I17", f"a use of all that is left, {left}", str(event["discount_minor"]))
        self.state = "USED"
        self.use, self.used_by = Spending(event["redemption_id"], event["discount_minor"]), event["order_id"]

    def debited(self, event: Payload, at: datetime) -> None:
        """Spent in part."""
        check_step(self.state, "coupon.debited")
        self._spend(event, at)
        left, balance = self._left(), amount(event, "balance_minor")
        if left is None or balance != left - event["discount_minor"] or not balance:
            raise Broken("I17", f"a balance of {left} less the debit", str(balance))
        self.state, self.balance = "UNUSED", balance
        self.debits[event["order_id"]] = Spending(event["redemption_id"], event["discount_minor"])

    def returned(self, event: Payload, at: datetime) -> None:
        """A use was undone, whole or by its lines."""
        check_step(self.state, "coupon.returned")
        use = self.use
        if use is None or (event["order_id"], event["redemption_id"]) != (self.used_by, use.redemption_id):
            raise Broken("I5", f"a return of the use by {self.used_by}, once", f"by {event['order_id']}")
        rule = self.terms.rule(event["reason"])
        whole = use.undo(event, amount(event, "returned_minor"), rule)
        if event["restored"] is not (whole and rule != "keep_used"):
            raise Broken("I7", f"a return as the policy says ({rule})", f"restored: {event['restored']}")
        until = self.valid_until
        if whole and rule == "restore_with_grace":
            until = max(until, at + self.terms.grace)
        if _time(event["valid_until"]) != until:
            raise Broken("I7", f"an end at {until.isoformat()} ({rule})", event["valid_until"])
        self.valid_until = until
        if whole:
            self.use = None
        if event["restored"]:
            self.state, self.used_by = "UNUSED", ""

    def credited(self, event: Payload, at: datetime) -> None:
        """A part of a voucher that was spent is on it again."""
        check_step(self.state, "coupon.credited")
        debit = self.debits.get(event["order_id"])
        if debit is None or event["redemption_id"] != debit.redemption_id:
            raise Broken("I5", "a credit of what the order spent, once", f"by {event['order_id']}")
        credited_minor = amount(event, "credited_minor")
        rule = self.terms.rule(event["reason"])
        whole = debit.undo(event, credited_minor, rule)
        if whole:
            del self.debits[event["order_id"]]
        restored = self.state == "USED" and credited_minor > 0
        if event["restored"] is not restored:
            raise Broken("I7", "a credit that ends only its being used up", f"{self.state}, {event['restored']}")
        # A use that stands brings back what was on the voucher before it; one that was returned whole brings nothing.
        before = self._left() or 0
        if self.state == "USED" and self.use is None:
            before = 0
        elif restored and self.use is not None:
            before = self.use.returned_minor
        if amount(event, "balance_minor") != before + credited_minor:
            raise Broken("I17", f"a balance of {before + credited_minor}", str(event["balance_minor"]))
        self.balance = event["balance_minor"]
        if restored:
            if self.use is not None:
                self.debits[self.used_by] = self.use
            self.state, self.use, self.used_by = "UNUSED", None, ""
        if whole and rule == "restore_with_grace":
            self._grant(event, at, restored)

    def expired(self, event: Payload, at: datetime) -> None:
        """The end of validity was written down."""
        check_step(self.state, "coupon.expired")
        if not _time(event["valid_until"]) == self.valid_until == at:
            raise Broken("I7", f"an expiry at {self.valid_until.isoformat()}", f"at {event['occurred_at']}")
        self.state = "EXPIRED"

    def voided(self, _event: Payload, _at: datetime) -> None:
        """Withdrawn."""
        check_step(self.state, "coupon.voided")
        self.state = "VOIDED"

    def extended(self, event: Payload, at: datetime) -> None:
        """Valid for longer."""
        check_step(self.state, "coupon.extended")
        before, until = _time(event["valid_until_before"]), _time(event["valid_until"])
        if before != self.valid_until or until <= before:
            found = f"from {event['valid_until_before']} to {event['valid_until']}"
            raise Broken("I7", f"an extension from {self.valid_until.isoformat()} to later", found)
        if self.grace is not None:
            if self.grace != (event["request_id"], at, until):
                raise Broken("I7", self.left_out(), f"{event['valid_until']} of {event['request_id']}")
            self.grace = None
        elif at >= before or self._held_at(at):
            raise Broken(
                "I7", f"an extension before {before.isoformat()}, of what nobody holds", f"at {at.isoformat()}"
            )
        self.valid_until = until

    def transferred(self, event: Payload, _: datetime) -> None:
        """Given to another user."""
        check_step(self.state, "coupon.transferred")
        if not self.terms.transferable or event["to_user_id"] == self.owner:
            raise Broken("custody", "a gift that the terms allow, to another user", f"to {event['to_user_id']}")
        self.owner, self.friends = event["to_user_id"], []

    def shared(self, event: Payload, _: datetime) -> None:
        """Lent to friends."""
        check_step(self.state, "coupon.shared")
        if not self.terms.shareable:
            raise Broken("custody", "no sharing, which the terms do not allow", f"with {event['with_user_ids']}")
        self.friends = event["with_user_ids"]

    # --- what they share -------------------------------------------------------------------------------------

    def check_next(self, topic: str, event: Payload) -> None:
        """Every event after the first names batch and owner, and the one after a grace writes that down."""
        if self.grace is not None and topic != "coupon.extended":
            raise Broken("I7", self.left_out(), topic)
        if self.state and (event["user_id"] != self.owner or event["batch_id"] != self.batch_id):
            named = f"{event['user_id']} and {event['batch_id']}"
            raise Broken("custody", f"owner {self.owner} and batch {self.batch_id}", named)

    def left_out(self) -> str:
        """The grace that the next event must give."""
        return f"an extension to {self.grace[2].isoformat()} by {self.grace[0]}" if self.grace is not None else ""

    def _grant(self, event: Payload, at: datetime, restored: bool) -> None:
        """A grace. What is over stays so, but for a voucher that the credit made unused again, or that is held."""
        until = at + self.terms.grace
        valid = self.state in ("UNUSED", "LOCKED") and (at < self.valid_until or self._held_at(at))
        if until > self.valid_until and (restored or valid):
            self.grace = (event["request_id"], at, until)

    def _held_at(self, at: datetime) -> bool:
        return self.state == "LOCKED" and at < self.lock_ends

    def _by_holder(self, event: Payload) -> None:
        if event["order_id"] != self.order_id or event["lock_id"] != self.lock_id:
            found = f"order {event['order_id']}, lock {event['lock_id']}"
            raise Broken("I6", f"order {self.order_id}, lock {self.lock_id}", found)

    def _hold_until(self, ends: datetime) -> None:
        """No lock is shortened, and none holds the coupon for more than a day since the order took it."""
        if not self.lock_ends <= ends <= self.held_since + LONGEST_LOCK:
            until = f"[{self.lock_ends.isoformat()}, {(self.held_since + LONGEST_LOCK).isoformat()}]"
            raise Broken("I4", f"a lock that ends in {until}", f"at {ends.isoformat()}")
        self.lock_ends = ends

    def _validity(self) -> str:
        return f"[{self.valid_from.isoformat()}, {self.valid_until.isoformat()})"

    def _spend(self, event: Payload, at: datetime) -> None:
        self._by_holder(event)
        if event["holder_id"] != self.holder:
            raise Broken("I6", f"a use by {self.holder}, for whom it is held", f"by {event['holder_id']}")
        if event["late"] is not (at >= self.lock_ends):
            found = f"late: {event['late']} at {event['occurred_at']}"
            raise Broken("I6", f"late from {self.lock_ends.isoformat()} on", found)
        if event["late"]:
            self._check_late(event, at)
        if event["order_id"] in self.debits:
            raise Broken("I5", "one use by an order", f"another by {event['order_id']}")
        assert self.bounds is not None
        check_money(event, self.terms, self.bounds)

    def _check_late(self, event: Payload, at: datetime) -> None:
        if not self.terms.accepts_late:
            raise Broken("I6", "no late use, which the terms refuse", f"one at {event['occurred_at']}")
        if not self.valid_from <= at < self.valid_until:
            raise Broken("I7", f"a late use in {self._validity()}", f"at {event['occurred_at']}")
        if self.holder != self.owner and self.holder not in self.friends:
            raise Broken("custody", f"a late use by its owner {self.owner} or a friend", f"by {self.holder}")

    def _left(self) -> int | None:
        terms = self.terms
        if not terms.leaves_balance:
            return None
        return terms.value_minor if self.balance is None else self.balance


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


STEPS: dict[str, Callable[[Coupon, Payload, datetime], None]] = {
    f"coupon.{step.__name__}": step
    for step in (
        Coupon.locked, Coupon.lock_extended, Coupon.unlocked, Coupon.used, Coupon.debited, Coupon.returned,
        Coupon.credited, Coupon.expired, Coupon.voided, Coupon.extended, Coupon.transferred, Coupon.shared,
    )
}  # fmt: skip
"""Every step but the first."""
