"""What an order does with a coupon: hold it, spend it, let it go. Giving its use back is in ``coupon_return.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ledger import events
from ledger.aggregate import derived_id, text_of
from ledger.coupon_state import CouponState
from ledger.errors import (
    CouponLocked,
    CouponUsed,
    InvalidField,
    LockExpired,
    LockMismatch,
    NotApplicable,
    NotLocked,
    NotOwner,
    OutOfHours,
)
from ledger.redemption import Redemption, check_scope, check_total
from ledger.request import Request
from ledger.terms import LOCK_TTL_LIMIT_SECONDS, Terms

LONGEST_LOCK = timedelta(seconds=LOCK_TTL_LIMIT_SECONDS)


class OrderedCoupon(CouponState):
    """The commands of orders."""

    def check_holder(self, user_id: str) -> None:
        """Raise ``NotOwner`` unless the coupon is the user's, or shared with the user."""
        if user_id != self.user_id and user_id not in self.shared_with:
            raise NotOwner(coupon_id=self.key)

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
        discount_minor: int | None = None,
        allocation: Sequence[Mapping[str, Any]] = (),
        channel: str | None = None,
        lines_in_scope: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Hold the coupon for an order of its owner, or of a friend with whom it is shared.

        A coupon that this order already holds for the user keeps its lock; a ``ttl_seconds`` that ends later extends
        it, to a day after it began at most. What is said of the order and is not what the lock holds is judged anew,
        and makes another lock, which ends no earlier. The shopper was in time then: only its validity is not judged.

        ``channel`` says that the ledger saw the basket; ``discount_minor`` and ``allocation`` are what it found the
        coupon to be worth, unless the terms leave that to the order system: then ``lines_in_scope`` are kept.
        """
        self._exists()
        self.check_holder(user_id)
        asked_seconds = terms.lock_ttl_seconds if ttl_seconds is None else ttl_seconds
        if not 1 <= asked_seconds <= LOCK_TTL_LIMIT_SECONDS:
            raise InvalidField(f"ttl_seconds is from 1 to {LOCK_TTL_LIMIT_SECONDS}", field="ttl_seconds")
        lock_ends_at = now + timedelta(seconds=asked_seconds)
        if order_id in self.debits:
            raise CouponUsed("the order has spent a part of this voucher already", coupon_id=self.key)
        order = {
            "order_total_minor": order_total_minor,
            "quote_digest": quote_digest,
            "discount_minor": discount_minor,
            "allocation": [dict(part) for part in allocation],
            "channel": channel,
            "lines_in_scope": [dict(line) for line in lines_in_scope],
        }
        held = self.held_for(order_id, user_id, now)
        if not held:
            self._refuse_unless(self.state_at(now), "UNUSED")
        elif self._holds_for(order):
            if ttl_seconds is not None:
                self._extend_lock(request, now, lock_ends_at)
            return
        if not terms.usable_at(now):
            raise OutOfHours(coupon_id=self.key)
        check_total(self.key, terms, order_total_minor, priced=discount_minor is not None)
        if held:
            lock_ends_at = self._not_before(lock_ends_at)
        self._end_hold(request, now, "locked_again" if held else "lock_ended")
        self._record(
            events.CouponLocked,
            request,
            now,
            order_id=order_id,
            lock_id=derived_id(request.merchant_id, order_id, request.request_id),
            lock_ends_at=lock_ends_at,
            holder_id=user_id,
            **order,
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
        channel: str | None = None,
        lapsed: events.CouponLocked | None = None,
        carried: Mapping[str, int] | None = None,
    ) -> None:
        """Spend the coupon on the order that holds it. Where this order used it at this discount, nothing happens.

        Validity and hours were judged at the lock, so a live lock is confirmed after their end too. After the lock's
        end it is late: terms may let it count while the coupon is still valid, still its holder's to use, and nobody
        else holds it. ``lapsed`` is such a hold whose end was written down (``lapsed_hold``). ``carried`` is what other
        coupons take off each line of the order.

        A voucher that leaves a balance is debited, until the use that empties it. Where no ``channel`` is told it is
        the lock's, or ``online``.
        """
        self._exists()
        if self._spent(order_id, redemption):
            return
        state = self.state_at(now)
        if state in ("USED", "VOIDED"):
            self._refuse_unless(state)
        hold = self._hold_of(order_id, lock_id, lapsed if terms.late_confirm == "accept" else None)
        late = state != "LOCKED"
        if late and (terms.late_confirm == "refuse" or state != "UNUSED"):
            raise LockExpired(coupon_id=self.key, lock_ended_at=text_of(self.lock_ends_at or hold.lock_ends_at))
        if order_total_minor is None:
            order_total_minor = hold.order_total_minor
        if late:
            self.check_holder(hold.holder_id)
        channel = channel or hold.channel or "online"
        priced = hold.discount_minor is not None
        discount_minor, allocation = redemption.under(hold, carried or {})
        if redemption.discount_minor == 0 and terms.benefit.kind != "order_stated":
            raise NotApplicable("a discount of 0 would spend the coupon for nothing", coupon_id=self.key)
        check_total(self.key, terms, order_total_minor, priced=priced)
        check_scope(self.key, terms, channel, allocation, priced=priced)
        self._check_most(terms, hold, order_total_minor, discount_minor)
        if self.order_id is None:
            self._lock_again(request, now, hold)
        merchant_part = terms.merchant_funded_minor(discount_minor)
        self._spend(
            request,
            now,
            self.left_minor(terms),
            order_id=order_id,
            lock_id=hold.lock_id,
            redemption_id=derived_id(self.id, str(self.version + 1)),
            currency=terms.currency,
            discount_minor=discount_minor,
            merchant_funded_minor=merchant_part,
            platform_funded_minor=discount_minor - merchant_part,
            order_total_minor=order_total_minor,
            paid_minor=paid_minor,
            allocation=allocation,
            holder_id=hold.holder_id,
            channel=channel,
            late=late,
        )

    def unlock(
        self,
        request: Request,
        now: datetime,
        *,
        order_id: str,
        lock_id: str | None,
        reason: str,
        let_go: bool = False,
    ) -> None:
        """Let the coupon go that the order holds.

        ``let_go`` says that the order held it before (``was_held``): then nothing happens where its hold is over, by
        the clock or because somebody ended it. That the end by the clock is written down makes no difference.
        """
        self._exists()
        state = self.state_at(now)
        live = state == "LOCKED" and self.order_id == order_id
        if let_go and not live and state != "VOIDED":
            return
        if state in ("USED", "VOIDED"):
            self._refuse_unless(state)
        if state != "LOCKED":
            raise NotLocked(coupon_id=self.key)
        hold = self._hold_of(order_id, lock_id, None)
        self._record(events.CouponUnlocked, request, now, order_id=order_id, lock_id=hold.lock_id, reason=reason)

    def end_lock(self, request: Request, now: datetime, *, order_id: str, lock_id: str | None) -> None:
        """Write down the end of a lock by the clock. Refused before it: the lock may have been extended since."""
        self._exists()
        state = self.state_at(now)
        if state in ("USED", "VOIDED"):
            self._refuse_unless(state)
        hold = self._hold_of(order_id, lock_id, None)
        if state == "LOCKED":
            raise CouponLocked("the lock has not ended", coupon_id=self.key, lock_ends_at=text_of(self.lock_ends_at))
        named = {"order_id": order_id, "lock_id": hold.lock_id}
        self._record(events.CouponUnlocked, request, now, reason="lock_ended", **named)

    # --- the steps that these share --------------------------------------------------------------------------

    def _spent(self, order_id: str, redemption: Redemption) -> bool:
        """Whether the order has already spent it like this. Raises ``CouponUsed`` where it did so otherwise."""
        if self.returned_whole():
            return False
        if self.redemption_id is not None and not self.voided and self.used_order_id == order_id:
            discount_minor = self.discount_minor
        elif order_id in self.debits:
            discount_minor = self.debits[order_id].discount_minor
        else:
            return False
        if redemption.discount_minor not in (None, discount_minor):
            raise CouponUsed(coupon_id=self.key)
        return True

    def _hold_of(self, order_id: str, lock_id: str | None, lapsed: events.CouponLocked | None) -> events.CouponLocked:
        hold = self.locked if self.order_id is not None else lapsed
        if hold is None:
            raise NotLocked(coupon_id=self.key)
        if hold.order_id != order_id or lock_id not in (None, hold.lock_id):
            raise LockMismatch(coupon_id=self.key)
        return hold

    def _check_most(
        self, terms: Terms, hold: events.CouponLocked, order_total_minor: int | None, discount_minor: int
    ) -> None:
        """Not more than the terms allow on such an order, than the lock found, or than is left on a voucher.

        Where the lock saw a basket, what the order is said to cost later raises nothing.
        """
        benefit = terms.benefit
        bounds = [benefit.most_minor(order_total_minor), hold.discount_minor, self.left_minor(terms)]
        if hold.channel is not None and benefit.kind == "order_stated":
            bounds.append(benefit.most_minor(hold.order_total_minor))
        most = min((bound for bound in bounds if bound is not None), default=None)
        if most is not None and discount_minor > most:
            raise NotApplicable(
                "the discount is more than the coupon's terms allow",
                coupon_id=self.key,
                discount_minor=discount_minor,
                most_minor=most,
            )

    def _spend(self, request: Request, now: datetime, left_minor: int | None, **spent: Any) -> None:
        """A voucher that leaves a balance is debited while something is left; everything else is used."""
        balance_minor = 0 if left_minor is None else left_minor - spent["discount_minor"]
        if balance_minor:
            self._record(events.CouponDebited, request, now, balance_minor=balance_minor, **spent)
        else:
            self._record(events.CouponUsed, request, now, **spent)

    def _holds_for(self, order: Mapping[str, Any]) -> bool:
        """Whether the live lock is for just this order, as far as the call says: without a basket it may say less."""
        said = order if order["channel"] else {name: value for name, value in order.items() if value not in (None, [])}
        return all(getattr(self.locked, name) == value for name, value in said.items())

    def _not_before(self, ends_at: datetime) -> datetime:
        """That end or the live lock's, whichever is later, to a day after the order began to hold the coupon at most.

        So no lock is shortened, and an order cannot renew it for ever.
        """
        assert self.lock_ends_at is not None
        assert self.held_since is not None
        return max(self.lock_ends_at, min(ends_at, self.held_since + LONGEST_LOCK))

    def _extend_lock(self, request: Request, now: datetime, ends_at: datetime) -> None:
        ends_at = self._not_before(ends_at)
        if ends_at != self.lock_ends_at:
            named = {"order_id": self.order_id, "lock_id": self.lock_id}
            self._record(events.CouponLockExtended, request, now, lock_ends_at=ends_at, **named)

    def _lock_again(self, request: Request, now: datetime, hold: events.CouponLocked) -> None:
        """A late use follows a lock as any other does, though the end of that lock was written down meanwhile."""
        kept = ("order_id", "lock_id", "order_total_minor", "quote_digest", "holder_id", "discount_minor", "allocation")
        whole = {name: getattr(hold, name) for name in (*kept, "channel", "lines_in_scope")}
        self._record(events.CouponLocked, request, now, lock_ends_at=now, **whole)
