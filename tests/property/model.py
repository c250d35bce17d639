"""What the ledger should answer: its rules again, said as plainly as can be, without events and without a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

STATE_REFUSALS = {
    "PENDING": "coupon_not_started",
    "LOCKED": "coupon_locked",
    "USED": "coupon_used",
    "EXPIRED": "coupon_expired",
    "VOIDED": "coupon_void",
}
POLICIES = {
    "as source 001 says": {"order_cancelled": "restore", "merchant_refund": "restore", "buyer_refund": "keep_used"},
    "generous": {
        "order_cancelled": "restore_with_grace",
        "merchant_refund": "keep_used",
        "buyer_refund": "restore_with_grace",
    },
}
GRACE = timedelta(days=1)
LOCK_TTL = timedelta(seconds=30)


class Refused(Exception):
    """The code of the refusal that is due."""


@dataclass
class BatchModel:
    id: str
    policy: str
    quantity: int
    limit: int | None
    claim_until: datetime | None
    delay: timedelta
    lasting: timedelta
    stored: str = "DRAFT"
    issued: Counter[str] = field(default_factory=Counter)

    def state(self, now: datetime) -> str:
        over = self.claim_until is not None and now >= self.claim_until
        return "ENDED" if over and self.stored in ("RUNNING", "PAUSED") else self.stored

    def step(self, now: datetime, to: str, *allowed: str) -> None:
        if self.state(now) not in allowed:
            raise Refused("batch_state_conflict")
        self.stored = to

    def change_quantity(self, now: datetime, expected: int, target: int) -> None:
        if self.state(now) not in ("DRAFT", "RUNNING", "PAUSED"):
            raise Refused("batch_state_conflict")
        if expected != self.quantity or target < self.issued.total():
            raise Refused("quantity_conflict")
        self.quantity = target

    def issue(self, now: datetime, user_ids: list[str]) -> None:
        if self.state(now) != "RUNNING":
            raise Refused("batch_not_open")
        asked = Counter(user_ids)
        if self.limit is not None and any(self.issued[user] + asked[user] > self.limit for user in asked):
            raise Refused("user_limit_reached")
        if self.issued.total() + len(user_ids) > self.quantity:
            raise Refused("sold_out")
        self.issued += asked


@dataclass
class CouponModel:
    id: str
    batch: BatchModel
    user_id: str
    valid_from: datetime
    valid_until: datetime
    order: str | None = None
    lock_ends: datetime | None = None
    used_by: str | None = None
    kept: bool = False
    end: str = ""

    def state(self, now: datetime) -> str:
        if self.end == "VOIDED" or self.used_by is not None:
            return self.end or "USED"
        if not self.end and self.lock_ends is not None and now < self.lock_ends:
            return "LOCKED"
        if self.end or now >= self.valid_until:
            return "EXPIRED"
        return "PENDING" if now < self.valid_from else "UNUSED"

    def lock(self, now: datetime, order: str, user_id: str) -> None:
        if self.user_id != user_id:
            raise Refused("not_owner")
        state = self.state(now)
        if state == "LOCKED" and self.order == order:
            return
        if state != "UNUSED":
            raise Refused(STATE_REFUSALS[state])
        self.order, self.lock_ends = order, now + LOCK_TTL

    def hold(self, now: datetime, order: str) -> None:
        """Refuse an order that has, or had last, no hold on the coupon."""
        state = self.state(now)
        if state in ("USED", "VOIDED"):
            raise Refused(STATE_REFUSALS[state])
        if self.order is None:
            raise Refused("not_locked")
        if self.order != order:
            raise Refused("lock_mismatch")

    def confirm(self, now: datetime, order: str) -> None:
        if self.state(now) == "USED" and self.used_by == order:
            return
        self.hold(now, order)
        if self.state(now) != "LOCKED":
            raise Refused("lock_expired")
        self.order, self.lock_ends, self.used_by, self.kept = None, None, order, False

    def unlock(self, now: datetime, order: str) -> None:
        self.hold(now, order)
        self.order = self.lock_ends = None

    def give_back(self, now: datetime, order: str, reason: str) -> None:
        if self.end == "VOIDED":
            raise Refused("coupon_void")
        if self.used_by is None or self.kept:
            raise Refused("not_used")
        if self.used_by != order:
            raise Refused("lock_mismatch")
        rule = POLICIES[self.batch.policy][reason]
        if rule == "keep_used":
            self.kept = True
            return
        self.used_by = None
        if rule == "restore_with_grace":
            self.valid_until = max(self.valid_until, now + GRACE)

    def void(self, now: datetime) -> None:
        state = self.state(now)
        if state in ("USED", "EXPIRED", "VOIDED"):
            raise Refused(STATE_REFUSALS[state])
        self.order, self.lock_ends, self.end = None, None, "VOIDED"

    def expire(self, now: datetime) -> None:
        if self.end or self.state(now) != "EXPIRED":
            raise Refused("coupon_not_expired")
        self.order, self.lock_ends, self.end = None, None, "EXPIRED"

    def copy(self) -> CouponModel:
        """The same now, for a command of several coupons that may yet be refused."""
        return replace(self)
