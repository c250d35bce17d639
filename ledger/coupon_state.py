"""What a coupon is: the fold of its stream, and what the clock makes of it.

PENDING, EXPIRED and the end of a lock are derived from the clock; events only write down what is already true.

Each event is one step: issued -> UNUSED, locked UNUSED -> LOCKED, unlocked LOCKED -> UNUSED, used LOCKED -> USED,
debited LOCKED -> UNUSED, returned and credited USED -> UNUSED (if restored), expired UNUSED -> EXPIRED,
voided UNUSED -> VOIDED. lock_extended, extended, transferred and shared leave the state as it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger import events
from ledger.aggregate import Aggregate, text_of
from ledger.errors import (
    CouponExpired,
    CouponLocked,
    CouponNotFound,
    CouponNotStarted,
    CouponUsed,
    CouponVoid,
    LedgerError,
    NotOwner,
)
from ledger.request import Request
from ledger.terms import Terms


class CouponState(Aggregate):
    """One instance's state. ``order_id`` and ``lock_id`` name the last hold, live or run out."""

    category = "coupon"
    batch_id: str
    template_id: str
    template_version: int
    user_id: str
    valid_from: datetime
    valid_until: datetime
    order_id: str | None = None
    lock_id: str | None = None
    lock_ends_at: datetime | None = None
    redemption_id: str | None = None
    returned_redemption_id: str | None = None
    locked: events.CouponLocked | None = None
    """The last lock."""
    held_since: datetime | None = None
    """When the order of the last lock began to hold it: its first lock, where it locked again for another basket."""
    let_go_by: str | None = None
    """The request that ended the last lock to lock again."""
    used: events.CouponUsed | None = None
    """The last use."""
    balance_minor: int | None = None
    """What is left on a voucher that was spent in part; ``None`` before that."""
    shared_with: tuple[str, ...] = ()
    used_order_id: str | None = None
    discount_minor: int = 0
    expired: bool = False
    voided: bool = False

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.returned_lines: dict[str, int] = {}
        """What the last use's lines got back, by line id."""
        self.returned_by_reason: dict[str, int] = {}
        """What the last use gave back, by reason, in minor units."""
        self.returned_orders: set[str] = set()
        """Orders whose use was returned whole, until they use it again."""
        self.debits: dict[str, events.CouponSpent] = {}
        """What orders spent of a voucher's balance, by order id."""
        self.undone_lines: dict[str, dict[str, int]] = {}
        """What the lines of such an order got back, by order id and line id."""

    def state_at(self, now: datetime) -> str:
        """PENDING, UNUSED, LOCKED, USED, EXPIRED or VOIDED at that instant.

        A live lock outlasts the end of validity: the shopper was in time, only the payment is still running.
        """
        state = self.state_unheld_at(now)
        over = self.voided or self.expired or self.redemption_id is not None
        return "LOCKED" if self.lock_ends_at is not None and now < self.lock_ends_at and not over else state

    def state_unheld_at(self, now: datetime) -> str:
        """The state at that instant if no order held the coupon."""
        if self.voided:
            return "VOIDED"
        if self.redemption_id is not None:
            return "USED"
        if self.expired or now >= self.valid_until:
            return "EXPIRED"
        return "PENDING" if now < self.valid_from else "UNUSED"

    def held_for(self, order_id: str, user_id: str, now: datetime) -> bool:
        """Whether at that instant the order holds it for this user: a friend's hold is the friend's alone."""
        hold = self.locked
        return (
            self.state_at(now) == "LOCKED"
            and hold is not None
            and (self.order_id, hold.holder_id) == (order_id, user_id)
        )

    def left_minor(self, terms: Terms) -> int | None:
        """What is left on a voucher that leaves a balance, were it not used up; ``None`` for other coupons."""
        if not terms.benefit.leaves_balance:
            return None
        return terms.benefit.value_minor if self.balance_minor is None else self.balance_minor

    def spent_on(self, order_id: str) -> events.CouponSpent:
        """The use by an order that has spent the coupon, or a part of it."""
        spent: events.CouponSpent | None = self.debits.get(order_id) or self.used
        assert spent is not None
        return spent

    def spends_on(self, order_id: str) -> bool:
        """Whether the order has spent the coupon, or a part of it, and not returned that whole."""
        used = self.redemption_id is not None and self.used_order_id == order_id and not self.returned_whole()
        return used or order_id in self.debits

    def returned_whole(self) -> bool:
        """Whether the use was returned and the policy kept the coupon used."""
        return self.redemption_id is not None and self.returned_redemption_id == self.redemption_id

    def _record(
        self, event_class: type[events.CouponEvent], request: Request, occurred_at: datetime, **payload: Any
    ) -> None:
        self.trigger(event_class, request, occurred_at, batch_id=self.batch_id, user_id=self.user_id, **payload)

    def _exists(self) -> None:
        if not self.version:
            raise CouponNotFound(coupon_id=self.key)

    def _owned_by(self, user_id: str) -> None:
        if self.user_id != user_id:
            raise NotOwner(coupon_id=self.key)

    def _end_hold(self, request: Request, now: datetime, reason: str) -> None:
        """Write down the end of a hold before the next fact.

        So each event means one step between states, and a read model counts them without knowing the state before.
        """
        if self.order_id is not None and self.lock_ends_at is not None:
            ended_at = min(now, self.lock_ends_at)
            self._record(
                events.CouponUnlocked,
                request,
                ended_at,
                order_id=self.order_id,
                lock_id=self.lock_id,
                reason=reason,
            )

    def _extend(self, request: Request, now: datetime, valid_until: datetime, reason: str) -> None:
        before = self.valid_until
        self._record(
            events.CouponExtended, request, now, valid_until_before=before, valid_until=valid_until, reason=reason
        )

    def _refuse_unless(self, state: str, *allowed: str) -> None:
        if state in allowed:
            return
        refusals: dict[str, LedgerError] = {
            "PENDING": CouponNotStarted(coupon_id=self.key, valid_from=text_of(self.valid_from)),
            "LOCKED": CouponLocked(coupon_id=self.key, lock_ends_at=text_of(self.lock_ends_at)),
            "USED": CouponUsed(coupon_id=self.key),
            "EXPIRED": CouponExpired(coupon_id=self.key, valid_until=text_of(self.valid_until)),
            "VOIDED": CouponVoid(coupon_id=self.key),
        }
        raise refusals[state]
