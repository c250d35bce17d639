"""A coupon's stream, read a second time: which step each event is, who takes it, and what it is worth.

This reading knows the rules of ``ledger/coupon.py`` and shares none of its code, so that one mistake is not made twice.
The first thing that is wrong with a stream is told; what follows from it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from projections.verify.money import Bounds, Spending, check_money
from projections.verify.plans import Batch, Plans, Terms
from projections.verify.report import Broken
from projections.verify.rows import Payload

FINAL = ("USED", "EXPIRED", "VOIDED")
_STANDING = {
    "coupon.extended": ("UNUSED", "LOCKED"),
    "coupon.transferred": ("UNUSED",),
    "coupon.shared": ("UNUSED", "LOCKED"),
    "coupon.credited": ("UNUSED", "LOCKED", "USED", "EXPIRED"),
}
_BEFORE = {
    "coupon.issued": ("",),
    "coupon.locked": ("UNUSED",),
    "coupon.lock_extended": ("LOCKED",),
    "coupon.unlocked": ("LOCKED",),
    "coupon.used": ("LOCKED",),
    "coupon.debited": ("LOCKED",),
    "coupon.returned": ("USED",),
    "coupon.expired": ("UNUSED",),
    "coupon.voided": ("UNUSED",),
} | _STANDING
"""The states in which a fact may happen."""


class Coupon:
    """One coupon, as far as its stream was read."""

    __slots__ = (
        "balance", "batch", "batch_id", "bounds", "debits", "friends", "holder", "let_go", "lock_ends", "lock_id",
        "order_id", "owner", "state", "stream", "terms", "use", "used_by", "valid_from", "valid_until",
    )  # fmt: skip

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.state = ""
        self.batch: Batch | None = None
        self.terms: Terms | None = None
        self.batch_id = self.owner = ""
        self.order_id = self.lock_id = self.holder = self.let_go = self.used_by = ""
        self.lock_ends = self.valid_from = self.valid_until = ""
        self.bounds: Bounds | None = None
        self.friends: list[str] = []
        self.balance: int | None = None
        self.use: Spending | None = None
        self.debits: dict[str, Spending] = {}

    # --- steps; each changes the state, or raises Broken -----------------------------------------------------

    def issued(self, event: Payload, plans: Plans, position: int) -> None:
        """The first event."""
        self._step("coupon.issued")
        self.state = "UNUSED"
        self.batch_id, self.owner = event["batch_id"], event["user_id"]
        self.valid_from, self.valid_until = event["valid_from"], event["valid_until"]
        self.batch = batch = plans.batches.get(self.batch_id)
        self.terms = plans.terms.get((event["template_id"], event["template_version"]))
        if batch is None:
            raise Broken("I2", "a coupon of a batch that is there", f"of {self.batch_id}")
        if self.terms is None or batch.template != (event["template_id"], event["template_version"]):
            pinned = f"{event['template_id']} version {event['template_version']}"
            raise Broken("custody", f"the terms of its batch, {batch.template[0]} version {batch.template[1]}", pinned)
        if not batch.runs_at(position):
            raise Broken("I2", "a coupon of a batch that runs", f"{self.batch_id} does not run at {position}")
        if batch.claim_from is not None or batch.claim_until is not None:
            at = _time(event["occurred_at"])
            late = batch.claim_until is not None and at >= batch.claim_until
            if late or (batch.claim_from is not None and at < batch.claim_from):
                raise Broken("I2", "a coupon issued in the batch's claim window", f"at {event['occurred_at']}")

    def locked(self, event: Payload) -> None:
        """An order holds it."""
        self._step("coupon.locked")
        holder = event["holder_id"]
        if holder != self.owner and holder not in self.friends:
            raise Broken("custody", f"a lock for its owner {self.owner} or a friend", f"for {holder}")
        # Who changes the basket was in time when the order first held it, so only other locks are judged by the clock.
        if self.let_go != event["request_id"]:
            at = _time(event["occurred_at"])
            if not _time(self.valid_from) <= at < _time(self.valid_until):
                within = f"a lock in [{self.valid_from}, {self.valid_until})"
                raise Broken("I7", within, f"at {event['occurred_at']}")
        self.state = "LOCKED"
        self.order_id, self.lock_id, self.holder = event["order_id"], event["lock_id"], holder
        self.lock_ends, self.bounds = event["lock_ends_at"], Bounds(event)

    def lock_extended(self, event: Payload) -> None:
        """The same lock, longer."""
        self._step("coupon.lock_extended")
        self._by_holder(event)
        self.lock_ends = event["lock_ends_at"]

    def unlocked(self, event: Payload) -> None:
        """The order lets go, or its time is over."""
        self._step("coupon.unlocked")
        self._by_holder(event)
        self.state = "UNUSED"
        self.let_go = event["request_id"] if event["reason"] == "locked_again" else ""

    def used(self, event: Payload) -> None:
        """Spent, whole or the rest of it."""
        self._step("coupon.used")
        self._spend(event)
        left = self._left()
        if left is not None and left != event["discount_minor"]:
            raise Broken("I17", f"a use of all that is left, {left}", str(event["discount_minor"]))
        self.state = "USED"
        self.use, self.used_by = Spending(event["redemption_id"], event["discount_minor"]), event["order_id"]

    def debited(self, event: Payload) -> None:
        """Spent in part."""
        self._step("coupon.debited")
        self._spend(event)
        left = self._left()
        if left is None or event["balance_minor"] != left - event["discount_minor"] or event["balance_minor"] <= 0:
            raise Broken("I17", f"a balance of {left} less the debit", f"{event['balance_minor']}")
        self.state, self.balance = "UNUSED", event["balance_minor"]
        self.debits[event["order_id"]] = Spending(event["redemption_id"], event["discount_minor"])

    def returned(self, event: Payload) -> None:
        """A use was undone, whole or by its lines."""
        self._step("coupon.returned")
        use = self.use
        if use is None or (event["order_id"], event["redemption_id"]) != (self.used_by, use.redemption_id):
            raise Broken("I5", f"a return of the use by {self.used_by}, once", f"by {event['order_id']}")
        whole = self._undo(use, event, event["returned_minor"])
        rule = self._rule(event)
        if event["restored"] != (whole and rule != "keep_used"):
            raise Broken("I7", f"a return as the policy says ({rule})", f"restored: {event['restored']}")
        if _time(event["valid_until"]) < _time(self.valid_until):
            raise Broken("I7", f"an end no earlier than {self.valid_until}", event["valid_until"])
        self.valid_until = event["valid_until"]
        if whole:
            self.use = None
        if event["restored"]:
            self.state, self.used_by = "UNUSED", ""

    def credited(self, event: Payload) -> None:
        """A part of a voucher that was spent is on it again."""
        self._step("coupon.credited")
        debit = self.debits.get(event["order_id"])
        if debit is None or event["redemption_id"] != debit.redemption_id:
            raise Broken("I5", "a credit of what the order spent, once", f"by {event['order_id']}")
        if self._undo(debit, event, event["credited_minor"]):
            del self.debits[event["order_id"]]
        if event["restored"] != (self.state == "USED" and event["credited_minor"] > 0):
            raise Broken("I7", "a credit that ends only its being used up", f"{self.state}, {event['restored']}")
        face = self.terms.value_minor if self.terms else None
        if face is not None and not 0 <= event["balance_minor"] <= face:
            raise Broken("I17", f"a balance from 0 to {face}", str(event["balance_minor"]))
        self.balance = event["balance_minor"]
        if event["restored"]:
            if self.use is not None:
                self.debits[self.used_by] = self.use
            self.state, self.use, self.used_by = "UNUSED", None, ""

    def expired(self, event: Payload) -> None:
        """The end of validity was written down."""
        self._step("coupon.expired")
        if not _time(event["valid_until"]) == _time(self.valid_until) == _time(event["occurred_at"]):
            raise Broken("I7", f"an expiry at {self.valid_until}", f"at {event['occurred_at']}")
        self.state = "EXPIRED"

    def voided(self, _: Payload) -> None:
        """Withdrawn."""
        self._step("coupon.voided")
        self.state = "VOIDED"

    def extended(self, event: Payload) -> None:
        """Valid for longer."""
        self._step("coupon.extended")
        if _time(event["valid_until_before"]) != _time(self.valid_until):
            raise Broken("I7", f"an extension from {self.valid_until}", f"from {event['valid_until_before']}")
        self.valid_until = event["valid_until"]

    def transferred(self, event: Payload) -> None:
        """Given to another user."""
        self._step("coupon.transferred")
        self.owner, self.friends = event["to_user_id"], []

    def shared(self, event: Payload) -> None:
        """Lent to friends."""
        self._step("coupon.shared")
        self.friends = event["with_user_ids"]

    # --- what they share -------------------------------------------------------------------------------------

    def check_named(self, event: Payload) -> None:
        """Every event after the first names batch and owner."""
        if self.state and (event["user_id"] != self.owner or event["batch_id"] != self.batch_id):
            named = f"{event['user_id']} and {event['batch_id']}"
            raise Broken("custody", f"owner {self.owner} and batch {self.batch_id}", named)

    def _step(self, topic: str) -> None:
        allowed = _BEFORE[topic]
        if self.state in allowed:
            return
        state = self.state or "not issued"
        expected = f"{topic} while {' or '.join(allowed) or 'not issued'}"
        raise Broken(self._invariant(topic), expected.replace("while  ", "while not issued "), f"while {state}")

    def _invariant(self, topic: str) -> str:
        """Which promise a step out of turn breaks."""
        if topic == "coupon.issued" or not self.state:
            return "I1"
        spends = topic in ("coupon.used", "coupon.debited")
        if self.state == "USED" and spends:
            return "I5"
        if self.state in FINAL:
            return "I7"
        if topic == "coupon.returned":
            return "I5"
        return "I4" if self.state == "LOCKED" else "I6"

    def _by_holder(self, event: Payload) -> None:
        if event["order_id"] != self.order_id or event["lock_id"] != self.lock_id:
            found = f"order {event['order_id']}, lock {event['lock_id']}"
            raise Broken("I6", f"order {self.order_id}, lock {self.lock_id}", found)

    def _spend(self, event: Payload) -> None:
        self._by_holder(event)
        if event["holder_id"] != self.holder:
            raise Broken("I6", f"a use by {self.holder}, for whom it is held", f"by {event['holder_id']}")
        if event["late"] != (_time(event["occurred_at"]) >= _time(self.lock_ends)):
            raise Broken("I6", f"late from {self.lock_ends} on", f"late: {event['late']} at {event['occurred_at']}")
        if event["order_id"] in self.debits:
            raise Broken("I5", "one use by an order", f"another by {event['order_id']}")
        if self.terms is not None and self.bounds is not None:
            check_money(event, self.terms, self.bounds)

    def _left(self) -> int | None:
        if self.terms is None or not self.terms.leaves_balance:
            return None
        return self.terms.value_minor if self.balance is None else self.balance

    def _undo(self, spent: Spending, event: Payload, given_minor: int) -> bool:
        """Count what is undone; whether that is all of it."""
        parts = sum(part["discount_minor"] for part in event["lines"])
        undone = parts if event["lines"] else spent.discount_minor - spent.lines
        spent.lines += undone
        spent.returned_minor += given_minor
        if not 0 <= given_minor <= undone or spent.lines > spent.discount_minor:
            raise Broken("I17", f"at most {spent.discount_minor} given back in all", f"{given_minor} of {undone} now")
        if given_minor != (0 if self._rule(event) == "keep_used" else undone):
            raise Broken("I17", f"what the policy gives back of {undone}", str(given_minor))
        return spent.lines == spent.discount_minor

    def _rule(self, event: Payload) -> str:
        return self.terms.return_rules.get(event["reason"], "") if self.terms else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


STEPS: dict[str, Callable[[Coupon, Payload], None]] = {
    f"coupon.{step.__name__}": step
    for step in (
        Coupon.locked, Coupon.lock_extended, Coupon.unlocked, Coupon.used, Coupon.debited, Coupon.returned,
        Coupon.credited, Coupon.expired, Coupon.voided, Coupon.extended, Coupon.transferred, Coupon.shared,
    )
}  # fmt: skip
"""Every step but the first."""
