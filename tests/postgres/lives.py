"""Coupons that take random steps, straight into the log: for tests of what reads it, whoever may ask for the steps."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import events
from ledger.benefit import Benefit
from ledger.commit import Unit, commit_group
from ledger.coupon import Coupon
from ledger.request import Request
from ledger.terms import Terms

T0 = datetime(2026, 3, 1, tzinfo=UTC)
USERS = ["ann", "bob", "cy\\d", "dee"]
REQUEST = Request("merchant-1", "test", "request", "", None)
BALANCE = 500
TERMS = Terms(
    benefit=Benefit(kind="cash_voucher", value_minor=BALANCE, leaves_balance=True),
    currency="EUR",
    stacking_mode="stackable",
)


class Life:
    """One coupon that takes random steps. Which steps a state allows is said in ``ledger/coupon.py``."""

    def __init__(self, chance: random.Random, batch_id: str, number: int, user_id: str | None = None) -> None:
        self.random, self.batch_id = chance, batch_id
        self.coupon = Coupon(f"coupon-{batch_id[:8]}{number}")
        self.now = T0
        self.issue(user_id or chance.choice(USERS))

    def step(self) -> None:
        """One of the steps that are possible now; the ends of a life are rare."""
        self.now += timedelta(minutes=1)
        usual = {
            "UNUSED": [self.lock] * 4 + [self.extend, self.transfer, self.share, self.share],
            "LOCKED": [self.hold_longer, self.unlock, self.use, self.debit, self.debit],
            "USED": [self.return_, self.return_],
        }.get(self.stored_state, [])
        if self.coupon.debits and not self.coupon.voided:
            usual.append(self.credit)
        if self.stored_state == "UNUSED" and self.random.random() < 0.05:
            usual = [self.expire, self.void]
        if usual:
            self.random.choice(usual)()

    @property
    def stored_state(self) -> str:
        coupon = self.coupon
        if coupon.voided or coupon.expired:
            return "VOIDED" if coupon.voided else "EXPIRED"
        if coupon.redemption_id is not None:
            return "USED"
        return "UNUSED" if coupon.lock_id is None else "LOCKED"

    @property
    def holder_id(self) -> str | None:
        """The friend who holds or used it."""
        fact = {"LOCKED": self.coupon.locked, "USED": self.coupon.used}.get(self.stored_state)
        return fact.holder_id if fact and fact.holder_id != self.coupon.user_id else None

    def issue(self, user_id: str) -> None:
        self._record(
            events.CouponIssued,
            user_id=user_id,
            template_id="t",
            template_version=1,
            channel="claim",
            valid_from=T0,
            valid_until=T0 + timedelta(days=5),
            facts={},
        )

    def lock(self, holder_id: str | None = None) -> None:
        self._record(
            events.CouponLocked,
            order_id=f"order-{self.coupon.version}",
            lock_id=f"lock-{self.coupon.version}",
            lock_ends_at=self.now + timedelta(minutes=15),
            order_total_minor=None,
            quote_digest=None,
            holder_id=holder_id or self.random.choice([self.coupon.user_id, *self.coupon.shared_with]),
            discount_minor=None,
            allocation=[],
            channel=None,
            lines_in_scope=[],
        )

    def hold_longer(self) -> None:
        ends_at = self.coupon.lock_ends_at
        assert ends_at is not None
        self._record(events.CouponLockExtended, **self._hold, lock_ends_at=ends_at + timedelta(minutes=5))

    def unlock(self) -> None:
        self._record(events.CouponUnlocked, **self._hold, reason="left")

    def use(self) -> None:
        """What is left, for a voucher is used by the order that empties it."""
        self._record(events.CouponUsed, **self._spending(self.left))

    def debit(self) -> None:
        """A part of it, while it has parts."""
        if self.left > 1:
            amount = self.random.randrange(1, self.left)
            self._record(events.CouponDebited, **self._spending(amount), balance_minor=self.left - amount)

    def credit(self) -> None:
        order_id, debit = self.random.choice(list(self.coupon.debits.items()))
        assert self.coupon.balance_minor is not None
        amount = debit.discount_minor - sum(self.coupon.undone_lines.get(order_id, {}).values())
        restored = self.stored_state == "USED"
        before = sum(self.coupon.returned_by_reason.values()) if restored else self.coupon.balance_minor
        self._record(
            events.CouponCredited,
            order_id=order_id,
            redemption_id=debit.redemption_id,
            reason="order_cancelled",
            credited_minor=amount,
            balance_minor=before + amount,
            restored=restored,
            lines=[],
        )

    def return_(self) -> None:
        left = self.coupon.discount_minor - sum(self.coupon.returned_lines.values())
        part = left > 1 and self.random.random() < 0.5
        amount = self.random.randrange(1, left) if part else left
        self._record(
            events.CouponReturned,
            order_id=self.coupon.used_order_id,
            redemption_id=self.coupon.redemption_id,
            reason="merchant_refund",
            restored=not part,
            valid_until=self.coupon.valid_until + timedelta(days=self.random.randrange(3)),
            returned_minor=amount,
            lines=[{"line_id": "1", "discount_minor": amount}] if part else [],
        )

    def extend(self) -> None:
        before = self.coupon.valid_until
        self._record(
            events.CouponExtended, valid_until_before=before, valid_until=before + timedelta(days=1), reason="storm"
        )

    def transfer(self) -> None:
        others = [user for user in USERS if user != self.coupon.user_id]
        self._record(events.CouponTransferred, to_user_id=self.random.choice(others))

    def share(self, *friends: str) -> None:
        others = [user for user in USERS if user != self.coupon.user_id]
        chosen = list(friends) or self.random.sample(others, self.random.randrange(4))
        self._record(events.CouponShared, with_user_ids=chosen)

    def share_no_more(self) -> None:
        self._record(events.CouponShared, with_user_ids=[])

    def expire(self) -> None:
        self._record(events.CouponExpired, valid_until=self.coupon.valid_until)

    def void(self) -> None:
        self._record(events.CouponVoided, reason="mistake")

    @property
    def left(self) -> int:
        """What is left on it."""
        return BALANCE if self.coupon.balance_minor is None else self.coupon.balance_minor

    @property
    def _hold(self) -> dict[str, Any]:
        return {"order_id": self.coupon.order_id, "lock_id": self.coupon.lock_id}

    def _spending(self, amount: int) -> dict[str, Any]:
        assert self.coupon.locked is not None
        return self._hold | {
            "redemption_id": f"use-{self.coupon.version}",
            "currency": "EUR",
            "discount_minor": amount,
            "merchant_funded_minor": amount,
            "platform_funded_minor": 0,
            "order_total_minor": None,
            "paid_minor": None,
            "allocation": [],
            "holder_id": self.coupon.locked.holder_id,
            "channel": "online",
            "late": False,
        }

    def store(self, shop: Any) -> None:
        """Let what happened so far be committed."""
        with shop.ledger.store.connection() as connection:
            [verdict] = commit_group(shop.ledger.store, connection, [Unit(self.coupon.collect_events())])
        assert verdict.word == "done"

    def _record(self, kind: type[events.CouponEvent], **payload: Any) -> None:
        payload = {"user_id": getattr(self.coupon, "user_id", "")} | payload
        self.coupon.trigger(kind, REQUEST, self.now, batch_id=self.batch_id, **payload)


class Lives:
    """Coupons of one batch, whose steps are mixed in the log."""

    def __init__(self, shop: Any, seed: int) -> None:
        self.store = shop.ledger.store
        self.random = random.Random(seed)
        self.batch_id = shop.batch(quantity=1_000, per_user_limit=None, terms=TERMS)
        self.all: list[Life] = []

    def go_on(self, steps: int) -> None:
        """Some coupons are new, all go on; what happened is committed in an order of its own."""
        self.all += [Life(self.random, self.batch_id, len(self.all) + number) for number in range(4)]
        for _ in range(steps):
            self.random.choice(self.all).step()
        waiting = [life.coupon.collect_events() for life in self.all]
        with self.store.connection() as connection:
            while left := [pending for pending in waiting if pending]:
                verdicts = commit_group(self.store, connection, [Unit([self.random.choice(left).pop(0)])])
                assert [verdict.word for verdict in verdicts] == ["done"]
