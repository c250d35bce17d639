"""The coupon: one instance owned by one user, and all that can be done with it from issue to its last state.

What it is, and which step each event means, is in ``coupon_state.py``; what orders do with it, in ``coupon_use.py``;
what refunds give back, in ``coupon_return.py``; here is what its merchant, its owner and the clock do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ledger import events
from ledger.aggregate import text_of
from ledger.coupon_return import ReturnedCoupon
from ledger.coupon_use import OrderedCoupon
from ledger.errors import CouponNotExpired, InvalidField, InvalidPeriod, NotShareable, NotTransferable
from ledger.redemption import ALLOCATION_LIMIT, Redemption
from ledger.request import Request
from ledger.terms import Terms

__all__ = ["ALLOCATION_LIMIT", "FRIEND_LIMIT", "Coupon", "Redemption"]

FRIEND_LIMIT = 50
"""Friends with whom one coupon may be shared."""


class Coupon(OrderedCoupon, ReturnedCoupon):
    """One instance, and its commands."""

    def void(self, request: Request, now: datetime, *, reason: str) -> None:
        """Withdraw a coupon that is not used. A live lock ends with it."""
        self._exists()
        state = self.state_at(now)
        if state in ("USED", "EXPIRED", "VOIDED"):
            self._refuse_unless(state)
        self._end_hold(request, now, "voided")
        self._record(events.CouponVoided, request, now, reason=reason)

    def expire(self, request: Request, now: datetime) -> None:
        """Write down that validity has ended."""
        self._exists()
        if self.expired or self.state_at(now) != "EXPIRED":
            raise CouponNotExpired(coupon_id=self.key, state=self.state_at(now))
        self._end_hold(request, now, "lock_ended")
        self._record(events.CouponExpired, request, self.valid_until, valid_until=self.valid_until)

    def extend(self, request: Request, now: datetime, *, valid_until: datetime, reason: str) -> None:
        """Let an unused coupon be valid for longer. What has expired stays so: issue another."""
        self._exists()
        self._refuse_unless(self.state_at(now), "PENDING", "UNUSED")
        if valid_until.tzinfo is None:
            raise InvalidPeriod("valid_until needs a time zone", field="valid_until")
        if valid_until <= self.valid_until:
            detail = f"valid_until is later than it was, {text_of(self.valid_until)}"
            raise InvalidPeriod(detail, field="valid_until")
        self._extend(request, now, valid_until.astimezone(UTC), reason)

    def transfer(self, request: Request, now: datetime, terms: Terms, *, user_id: str, to_user_id: str) -> None:
        """Give the coupon to another user, which ends its sharing. Nobody may hold it.

        It stays counted against the limits of the user to whom it was issued; the receiver's are not charged.
        """
        self._exists()
        self._owned_by(user_id)
        self._refuse_unless(self.state_at(now), "PENDING", "UNUSED")
        if not terms.transferable:
            raise NotTransferable(coupon_id=self.key)
        if to_user_id == user_id:
            raise InvalidField("a coupon is given to another user", field="to_user_id")
        self._end_hold(request, now, "lock_ended")
        self._record(events.CouponTransferred, request, now, to_user_id=to_user_id)

    def share(
        self, request: Request, now: datetime, terms: Terms, *, user_id: str, with_user_ids: Sequence[str]
    ) -> None:
        """Let these friends use it too, instead of those before them; nobody where empty.

        The first of them to lock it holds it. A friend's live lock outlasts the end of the sharing.
        """
        self._exists()
        self._owned_by(user_id)
        self._refuse_unless(self.state_at(now), "PENDING", "UNUSED", "LOCKED")
        if not terms.shareable:
            raise NotShareable(coupon_id=self.key)
        friends = tuple(with_user_ids)
        if len(friends) > FRIEND_LIMIT or len({user_id, *friends}) != len(friends) + 1:
            raise InvalidField(f"a coupon is shared with at most {FRIEND_LIMIT} other users", field="with_user_ids")
        if friends != self.shared_with:
            self._record(events.CouponShared, request, now, with_user_ids=list(friends))
