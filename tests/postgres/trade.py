"""A shop's trade at random: orders of several coupons of four kinds of batches, paid, refunded in parts and whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Coupon, Redemption
from ledger.errors import Refusal
from ledger.terms import ReturnPolicy, Terms
from ledger.work import Work, fold

T0 = datetime(2026, 3, 30, tzinfo=UTC)
"""Months end within a few days of it, and clocks change."""
USERS = ["ann", "bo\\b", "cy"]
POLICY = ReturnPolicy(
    order_cancelled="restore", merchant_refund="restore_with_grace", buyer_refund="keep_used", grace_days=3
)
REASONS = ["order_cancelled", "merchant_refund", "buyer_refund"]


def terms(benefit: Benefit, share_permyriad: int, currency: str = "EUR") -> Terms:
    """Terms that allow all there is."""
    return Terms(
        benefit=benefit,
        currency=currency,
        stacking_mode="stackable",
        late_confirm="accept",
        transferable=True,
        shareable=True,
        return_policy=POLICY,
        merchant_share_permyriad=share_permyriad,
    )


KINDS = [
    (terms(Benefit(kind="amount_off", value_minor=501), 3_333), "America/St_Johns"),
    (terms(Benefit(kind="cash_voucher", value_minor=703, leaves_balance=True), 5_001), "Asia/Shanghai"),
    (terms(Benefit(kind="percent_off", percent_permyriad=1_000), 0, "USD"), "UTC"),
    (terms(Benefit(kind="order_stated", max_discount_minor=399), 10_000), "Pacific/Auckland"),
]


class Trade:
    """Random commands, at times that only grow."""

    def __init__(self, shop: Any, seed: int) -> None:
        self.shop, self.ledger, self.random = shop, shop.ledger, random.Random(seed)
        self.now = T0
        self.coupons: list[str] = []
        self.batches = [
            shop.batch(terms=terms, time_zone=zone, per_user_limit=None, valid_for_seconds=86_400 * 3)
            for terms, zone in KINDS
        ]

    def go_on(self, steps: int) -> None:
        """Commands, of which some are refused."""
        for _ in range(steps):
            self.now += timedelta(minutes=self.random.choice([0, 0, 1, 20, 60, 150]))
            usual = [self.lock, self.lock, self.confirm, self.confirm, self.return_, self.rest]
            work = self.random.choice([self.issue, self.expire, *usual, *usual])()
            with suppress(Refusal):
                if work is not None:
                    answer = self.ledger.do(work).answer
                    self.coupons += [row["coupon_id"] for row in answer.get("coupons", ()) if "user_id" in row]

    def issue(self) -> Work:
        users = self.random.choices(USERS, k=self.random.randrange(1, 4))
        channel = self.random.choice(["issue", "till", "app"])
        return use_cases.issue(self._request(), self.random.choice(self.batches), users, channel=channel)

    def lock(self) -> Work | None:
        user = self.random.choice(USERS)
        mine = [
            coupon.key
            for coupon in self._folded(lambda coupon: user in (coupon.user_id, *coupon.shared_with))
            if coupon.state_at(self.now) == "UNUSED" or self.random.random() < 0.03
        ]
        if not mine:
            return None
        order, ids = self._order(), self.random.sample(mine, min(len(mine), self.random.randrange(1, 4)))
        ttl = self.random.choice([600, 7_200, 80_000])
        total = self.random.choice([None, 10_000])
        return use_cases.lock(
            self._request(), order, user_id=user, coupon_ids=ids, ttl_seconds=ttl, order_total_minor=total
        )

    def confirm(self) -> Work | None:
        """Most often all that an order holds; sometimes a part of it, and the rest later."""
        orders = [coupon.order_id for coupon in self._folded(lambda coupon: coupon.lock_ends_at is not None)]
        if not orders:
            return None
        order = self.random.choice(orders)
        assert order is not None
        held = self._folded(lambda coupon: coupon.order_id == order and not coupon.voided)
        some = held if self.random.random() < 0.7 else held[:1]
        redemptions = [self._redemption(coupon) for coupon in some]
        return use_cases.confirm(
            self._request(),
            order,
            redemptions,
            paid_minor=self.random.choice([None, 4_321, 9_000]),
            channel=self.random.choice([None, "in_store"]),
        )

    def return_(self) -> Work | None:
        coupons = self._folded(lambda coupon: coupon.redemption_id is not None or bool(coupon.debits))
        coupons = [coupon for coupon in coupons if coupon.debits or not coupon.returned_whole()]
        if not coupons:
            return None
        coupon = self.random.choice(coupons)
        order = self.random.choice([id for id in (coupon.used_order_id, *coupon.debits) if id is not None])
        lines = self.random.choice([(), ({"line_id": "1"},), ({"line_id": "2", "discount_minor": 17},)])
        return use_cases.return_coupons(
            self._request(), order, coupon_ids=[coupon.key], reason=self.random.choice(REASONS), lines=lines
        )

    def expire(self) -> Work | None:
        over = self._folded(lambda coupon: coupon.state_at(self.now) == "EXPIRED" and not coupon.expired)
        return use_cases.expire(self._request(), self.random.choice(over).key) if over else None

    def rest(self) -> Work | None:
        coupons = self._folded(lambda coupon: True)
        if not coupons:
            return None
        coupon = self.random.choice(coupons)
        whose = {"user_id": coupon.user_id}
        friends = [user for user in USERS if user != coupon.user_id]
        until = coupon.valid_until + timedelta(hours=9)
        ids = [coupon.key]
        return self.random.choice(
            [
                lambda: use_cases.unlock(self._request(), self._order(), coupon_ids=ids, reason="changed mind"),
                lambda: use_cases.void(self._request(), coupon.key, reason="mistake"),
                lambda: use_cases.share(self._request(), coupon.key, **whose, with_user_ids=friends),
                lambda: use_cases.transfer(self._request(), coupon.key, **whose, to_user_id=friends[0]),
                lambda: use_cases.extend(self._request(), coupon.key, valid_until=until, reason="storm"),
            ]
        )()

    def _redemption(self, coupon: Coupon) -> Redemption:
        left = 703 if coupon.balance_minor is None else coupon.balance_minor
        amounts = {self.batches[0]: [501, 480], self.batches[1]: [left, left // 2, 101], self.batches[2]: [997]}
        amount = self.random.choice(amounts.get(coupon.batch_id, [399, 0, 333]))
        parts = [amount // 3, amount - amount // 3]
        allocation = [
            {"line_id": str(number), "product_id": "p", "discount_minor": part} for number, part in enumerate(parts, 1)
        ]
        return Redemption(coupon_id=coupon.key, discount_minor=amount, allocation=allocation)

    def _order(self) -> str:
        return f"order-{self.random.randrange(8)}"

    def _request(self) -> Any:
        return self.shop.request(at=self.now)

    def _folded(self, suits: Callable[[Coupon], bool]) -> list[Coupon]:
        streams = self.ledger.store.load([f"coupon-{id}" for id in self.coupons]).streams
        coupons = [fold(Coupon(stream), events) for stream, events in streams.items()]
        return [coupon for coupon in coupons if suits(coupon)]
