"""The coupon: one instance owned by one user, from issue to its last state.

PENDING, EXPIRED and the end of a lock are derived from the clock; events only write down what is already true.

Each event is one step: issued -> UNUSED, locked UNUSED -> LOCKED, unlocked LOCKED -> UNUSED, used LOCKED -> USED,
returned USED -> UNUSED (if restored), expired UNUSED -> EXPIRED, voided UNUSED -> VOIDED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ledger import events
from ledger.aggregate import Aggregate, derived_id, text_of
from ledger.errors import (
    CouponExpired,
    CouponLocked,
    CouponNotExpired,
    CouponNotFound,
    CouponNotStarted,
    CouponUsed,
    CouponVoid,
    InvalidField,
    LedgerError,
    LockExpired,
    LockMismatch,
    NotApplicable,
    NotLocked,
    NotOwner,
    NotUsed,
)
from ledger.request import Request
from ledger.terms import LOCK_TTL_LIMIT_SECONDS, MONEY_LIMIT_MINOR, Terms

ALLOCATION_LIMIT = 1_000


@dataclass(frozen=True, kw_only=True)
class Redemption:
    """What an order system says of one coupon's use."""

    coupon_id: str
    discount_minor: int
    allocation: Sequence[Mapping[str, Any]] = ()
    """``[{"line_id", "product_id", "discount_minor"}]``; where given, it sums to the discount."""

    def __post_init__(self) -> None:
        if type(self.discount_minor) is not int or not 0 <= self.discount_minor < MONEY_LIMIT_MINOR:
            raise InvalidField("discount_minor is a whole number from 0 to below 10^12", field="discount_minor")
        if len(self.allocation) > ALLOCATION_LIMIT:
            raise InvalidField(f"an allocation has at most {ALLOCATION_LIMIT} lines", field="allocation")
        parts: list[Any] = [part.get("discount_minor") for part in self.allocation]
        if parts and (any(type(part) is not int or part < 0 for part in parts) or sum(parts) != self.discount_minor):
            raise InvalidField("the allocation's parts are whole and sum to discount_minor", field="allocation")


class Coupon(Aggregate):
    """One instance. ``order_id`` and ``lock_id`` name the last hold, live or run out."""

    category = "coupon"
    batch_id: str
    template_id: str
    template_version: int
    user_id: str
    valid_from: datetime
    valid_until: datetime
    issued_request_id: str
    order_id: str | None = None
    lock_id: str | None = None
    lock_ends_at: datetime | None = None
    locked_total_minor: int | None = None
    redemption_id: str | None = None
    returned_redemption_id: str | None = None
    used_order_id: str | None = None
    discount_minor: int = 0
    expired: bool = False
    voided: bool = False

    def state_at(self, now: datetime) -> str:
        """PENDING, UNUSED, LOCKED, USED, EXPIRED or VOIDED at that instant.

        A live lock outlasts the end of validity: the shopper was in time, only the payment is still running.
        """
        if self.voided:
            return "VOIDED"
        if self.redemption_id is not None:
            return "USED"
        if self.expired:
            return "EXPIRED"
        if self.lock_ends_at is not None and now < self.lock_ends_at:
            return "LOCKED"
        if now >= self.valid_until:
            return "EXPIRED"
        return "PENDING" if now < self.valid_from else "UNUSED"

    def lock(
        self,
        request: Request,
        now: datetime,
        terms: Terms,
        *,
        order_id: str,
        user_id: str,
        ttl_seconds: int | None,
        order_total_minor: int | None,
        quote_digest: str | None,
    ) -> None:
        """Hold the coupon for an order. A coupon that this order already holds keeps its lock."""
        self._exists()
        if self.user_id != user_id:
            raise NotOwner(coupon_id=self.key)
        state = self.state_at(now)
        if state == "LOCKED" and self.order_id == order_id:
            return
        self._refuse_unless(state, "UNUSED")
        self._check_total(terms, order_total_minor)
        ttl_seconds = terms.lock_ttl_seconds if ttl_seconds is None else ttl_seconds
        if not 1 <= ttl_seconds <= LOCK_TTL_LIMIT_SECONDS:
            raise InvalidField(f"ttl_seconds is from 1 to {LOCK_TTL_LIMIT_SECONDS}", field="ttl_seconds")
        self._end_hold(request, now, "lock_ended")
        self._record(
            events.CouponLocked,
            request,
            now,
            order_id=order_id,
            lock_id=derived_id(request.merchant_id, order_id, request.request_id),
            lock_ends_at=now + timedelta(seconds=ttl_seconds),
            order_total_minor=order_total_minor,
            quote_digest=quote_digest,
        )

    def confirm(
        self,
        request: Request,
        now: datetime,
        terms: Terms,
        redemption: Redemption,
        *,
        order_id: str,
        lock_id: str | None,
        order_total_minor: int | None,
        paid_minor: int | None,
    ) -> None:
        """Spend the coupon on the order that holds it. Where this order used it at this discount, nothing happens."""
        self._exists()
        state = self.state_at(now)
        if state == "USED" and (self.used_order_id, self.discount_minor) == (order_id, redemption.discount_minor):
            return
        if state in ("USED", "VOIDED"):
            self._refuse_unless(state)
        self._check_hold(order_id, lock_id)
        if state != "LOCKED":
            raise LockExpired(coupon_id=self.key, lock_ended_at=text_of(self.lock_ends_at))
        if order_total_minor is None:
            order_total_minor = self.locked_total_minor
        self._check_total(terms, order_total_minor)
        self._check_scope(terms, redemption)
        most = terms.benefit.most_minor(order_total_minor)
        if most is not None and redemption.discount_minor > most:
            raise NotApplicable(
                "the discount is more than the coupon's terms allow",
                coupon_id=self.key,
                discount_minor=redemption.discount_minor,
                most_minor=most,
            )
        merchant_part = terms.merchant_funded_minor(redemption.discount_minor)
        self._record(
            events.CouponUsed,
            request,
            now,
            order_id=order_id,
            lock_id=self.lock_id,
            redemption_id=derived_id(self.id, str(self.version + 1)),
            currency=terms.currency,
            discount_minor=redemption.discount_minor,
            merchant_funded_minor=merchant_part,
            platform_funded_minor=redemption.discount_minor - merchant_part,
            order_total_minor=order_total_minor,
            paid_minor=paid_minor,
            allocation=[dict(part) for part in redemption.allocation],
        )

    def unlock(self, request: Request, now: datetime, *, order_id: str, lock_id: str | None, reason: str) -> None:
        """Let the coupon go. Allowed after the lock's end too, so that a late cancel is no error."""
        self._exists()
        state = self.state_at(now)
        if state in ("USED", "VOIDED"):
            self._refuse_unless(state)
        self._check_hold(order_id, lock_id)
        self._record(events.CouponUnlocked, request, now, order_id=order_id, lock_id=self.lock_id, reason=reason)

    def return_(self, request: Request, now: datetime, terms: Terms, *, order_id: str, reason: str) -> None:
        """Undo the use after a refund, as the pinned return policy says for this reason."""
        self._exists()
        if self.voided:
            raise CouponVoid(coupon_id=self.key)
        if self.redemption_id is None or self.returned_redemption_id == self.redemption_id:
            raise NotUsed(coupon_id=self.key)
        if self.used_order_id != order_id:
            raise LockMismatch("another order used the coupon", coupon_id=self.key)
        rule = terms.return_policy.rule(reason)
        valid_until = self.valid_until
        if rule == "restore_with_grace":
            valid_until = max(valid_until, now + timedelta(days=terms.return_policy.grace_days))
        self._record(
            events.CouponReturned,
            request,
            now,
            order_id=order_id,
            redemption_id=self.redemption_id,
            reason=reason,
            restored=rule != "keep_used",
            valid_until=valid_until,
            returned_minor=self.discount_minor,
            lines=[],
        )

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

    def _record(
        self, event_class: type[events.CouponEvent], request: Request, occurred_at: datetime, **payload: Any
    ) -> None:
        self.trigger(event_class, request, occurred_at, batch_id=self.batch_id, user_id=self.user_id, **payload)

    def _exists(self) -> None:
        if not self.version:
            raise CouponNotFound(coupon_id=self.key)

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

    def _check_total(self, terms: Terms, order_total_minor: int | None) -> None:
        """The order's total must reach the minimum spend, and be known where the terms depend on it."""
        if order_total_minor is None:
            if terms.min_spend_minor or terms.benefit.percent_permyriad is not None:
                raise NotApplicable("the coupon's terms need order_total_minor", coupon_id=self.key)
        elif order_total_minor < terms.min_spend_minor:
            raise NotApplicable(
                "the order is below the coupon's minimum spend",
                coupon_id=self.key,
                min_spend_minor=terms.min_spend_minor,
                order_total_minor=order_total_minor,
            )

    def _check_scope(self, terms: Terms, redemption: Redemption) -> None:
        """Where the terms list products and the allocation names some, they must be of the list."""
        if not terms.scope.products:
            return
        named = {str(part["product_id"]) for part in redemption.allocation if part.get("product_id") is not None}
        if foreign := named.difference(terms.scope.products):
            raise NotApplicable("the coupon does not cover a product", coupon_id=self.key, product_id=min(foreign))

    def _check_hold(self, order_id: str, lock_id: str | None) -> None:
        if self.order_id is None:
            raise NotLocked(coupon_id=self.key)
        if self.order_id != order_id or lock_id not in (None, self.lock_id):
            raise LockMismatch(coupon_id=self.key)

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
