"""The rows of every read model equal the aggregates folded from their streams, at any instant that one asks for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from ledger import use_cases
from ledger.application import Ledger
from ledger.batch import Batch
from ledger.benefit import Benefit
from ledger.coupon import Coupon, Redemption
from ledger.database import Database
from ledger.errors import BatchNotFound, CouponNotFound, Refusal
from ledger.terms import ReturnPolicy, Terms
from ledger.work import Work, fold
from projections import checkpoints, queries
from projections.models.moves import COUPON_EVENTS
from projections.runner import Runner

T0 = datetime(2026, 3, 1, tzinfo=UTC)
USERS = ["user-1", "user-2", "us\\er 3"]
TERMS = Terms(
    benefit=Benefit(kind="cash_voucher", value_minor=500, leaves_balance=True),
    currency="EUR",
    stacking_mode="stackable",
    late_confirm="accept",
    transferable=True,
    shareable=True,
    return_policy=ReturnPolicy(
        order_cancelled="restore", merchant_refund="restore_with_grace", buyer_refund="keep_used", grace_days=9
    ),
)


class History:
    """Random commands over three batches, at times that only grow."""

    def __init__(self, ledger: Ledger, shop: Any, seed: int) -> None:
        self.ledger, self.shop, self.random = ledger, shop, random.Random(seed)
        self.now = T0
        self.coupons: list[str] = []
        window = {"valid_from": T0 + timedelta(days=3), "valid_until": T0 + timedelta(days=12)}
        self.batches = [
            shop.batch(terms=TERMS, per_user_limit=None, campaign="spring", valid_for_seconds=None, **window),
            shop.batch(terms=TERMS, per_user_limit=None, valid_delay_seconds=86_400, valid_for_seconds=5 * 86_400),
            shop.batch(terms=TERMS, per_user_limit=2, valid_for_seconds=8 * 86_400),
        ]

    def step(self) -> None:
        """One command, most often a sensible one."""
        self.now += timedelta(hours=self.random.choice([0, 0, 0, 0, 1, 3, 9]))
        usual = [self.claim, self.lock, self.confirm]
        seldom = [self.hold, self.hold, self.return_, self.expire, self.give, self.rest, self.rest]
        kind = self.random.choice([*usual, *usual, *seldom])
        work = kind()
        if work is not None:
            with suppress(Refusal):
                receipt = self.ledger.do(work)
                if "valid_from" in receipt.answer:
                    self.coupons.append(receipt.answer["coupon_id"])

    def claim(self) -> Work:
        return use_cases.claim(self._request(), self.random.choice(self.batches), self.random.choice(USERS))

    def lock(self) -> Work | None:
        coupon = self._coupon()
        if coupon is None:
            return None
        order, ttl = f"order-{self.random.randrange(4)}", self.random.choice([600, 7_200, 43_200])
        user = self.random.choice([coupon.user_id, *coupon.shared_with])
        return use_cases.lock(self._request(), order, user_id=user, coupon_ids=[coupon.key], ttl_seconds=ttl)

    def hold(self) -> Work | None:
        """Longer, by the order that holds it."""
        coupon = self._coupon(self._live)
        if coupon is None or coupon.order_id is None:
            return None
        ids = [coupon.key]
        return use_cases.lock(
            self._request(), coupon.order_id, user_id=coupon.user_id, coupon_ids=ids, ttl_seconds=86_400
        )

    def confirm(self) -> Work | None:
        late = self.random.random() < 0.2
        coupon = self._coupon(lambda coupon: coupon.order_id is not None if late else self._live(coupon))
        if coupon is None or coupon.order_id is None:
            return None
        left = 500 if coupon.balance_minor is None else coupon.balance_minor
        redemption = Redemption(coupon_id=coupon.key, discount_minor=self.random.choice([left, left, left // 2, 100]))
        return use_cases.confirm(self._request(), coupon.order_id, [redemption])

    def return_(self) -> Work | None:
        coupon = self._coupon(lambda coupon: coupon.redemption_id is not None or bool(coupon.debits))
        if coupon is None:
            return None
        order = self.random.choice([id for id in (coupon.used_order_id, *coupon.debits) if id is not None])
        reason = self.random.choice(["order_cancelled", "merchant_refund", "buyer_refund"])
        return use_cases.return_coupons(self._request(), order, coupon_ids=[coupon.key], reason=reason)

    def give(self) -> Work | None:
        """Given away, shared, or made to last longer."""
        coupon = self._coupon(lambda coupon: coupon.state_at(self.now) in ("PENDING", "UNUSED"))
        if coupon is None:
            return None
        friends = self.random.sample([user for user in USERS if user != coupon.user_id], self.random.randrange(3))
        until = coupon.valid_until + timedelta(hours=5)
        whose = {"user_id": coupon.user_id}
        return self.random.choice(
            [
                lambda: use_cases.transfer(self._request(), coupon.key, **whose, to_user_id=self.random.choice(USERS)),
                lambda: use_cases.share(self._request(), coupon.key, **whose, with_user_ids=friends),
                lambda: use_cases.extend(self._request(), coupon.key, valid_until=until, reason="storm"),
            ]
        )()

    def expire(self) -> Work | None:
        coupon = self._coupon(lambda coupon: coupon.state_at(self.now) == "EXPIRED" and not coupon.expired)
        return use_cases.expire(self._request(), coupon.key) if coupon else None

    def rest(self) -> Work | None:
        coupon = self._coupon()
        if coupon is None:
            return None
        order = coupon.order_id or "order-1"
        return self.random.choice(
            [
                lambda: use_cases.unlock(self._request(), order, coupon_ids=[coupon.key], reason="changed mind"),
                lambda: use_cases.void(self._request(), coupon.key, reason="mistake"),
                lambda: use_cases.pause_batch(self._request(), self.batches[2], reason="look"),
                lambda: use_cases.resume_batch(self._request(), self.batches[2]),
                lambda: use_cases.change_quantity(self._request(), self.batches[1], expected=100, target=90),
            ]
        )()

    def folded(self) -> list[Coupon]:
        streams = self.ledger.store.load([f"coupon-{id}" for id in self.coupons]).streams
        return [fold(Coupon(stream), events) for stream, events in streams.items()]

    def folded_batch(self, batch_id: str) -> Batch:
        stream = f"batch-{batch_id}"
        return fold(Batch(stream), self.ledger.store.load([stream]).streams[stream])

    def _request(self) -> Any:
        return self.shop.request(at=self.now)

    def _live(self, coupon: Coupon) -> bool:
        return coupon.state_at(self.now) == "LOCKED"

    def _coupon(self, suits: Callable[[Coupon], bool] = lambda coupon: True) -> Coupon | None:
        coupons = [coupon for coupon in self.folded() if suits(coupon)]
        return self.random.choice(coupons) if coupons else None


def stored_state(coupon: Coupon) -> str:
    if coupon.voided:
        return "VOIDED"
    if coupon.redemption_id is not None:
        return "USED"
    if coupon.expired:
        return "EXPIRED"
    return "UNUSED" if coupon.lock_id is None else "LOCKED"


def holder_of(coupon: Coupon) -> str | None:
    """The friend who holds or used it."""
    fact = {"LOCKED": coupon.locked, "USED": coupon.used}.get(stored_state(coupon))
    return fact.holder_id if fact is not None and fact.holder_id != coupon.user_id else None


def check_rows(history: History, database: Database) -> None:
    """Every row of coupon status and wallet is its aggregate, field by field."""
    with database.connect(row_factory=dict_row) as connection:
        status = {row["coupon_id"]: row for row in connection.execute("select * from coupon_status")}
        wallet = {row["coupon_id"]: row for row in connection.execute("select * from wallet")}
    coupons = history.folded()
    assert status.keys() == wallet.keys() == {coupon.key for coupon in coupons}
    for coupon in coupons:
        common = {
            "coupon_id": coupon.key,
            "merchant_id": coupon.merchant_id,
            "batch_id": coupon.batch_id,
            "template_id": coupon.template_id,
            "template_version": coupon.template_version,
            "user_id": coupon.user_id,
            "state": stored_state(coupon),
            "valid_from": coupon.valid_from,
            "valid_until": coupon.valid_until,
            "order_id": coupon.used_order_id or coupon.order_id,
            "holder_id": holder_of(coupon),
            "lock_ends_at": coupon.lock_ends_at,
            "discount_minor": coupon.discount_minor,
            "balance_minor": coupon.balance_minor,
            "version": coupon.version,
        }
        recorded = history.ledger.store.history(coupon.id)
        alone = {"lock_id": coupon.lock_id, "redemption_id": coupon.redemption_id, "position": recorded[-1].position}
        issued_at = {"issued_at": recorded[0].event.occurred_at}
        assert status[coupon.key] == common | alone | issued_at
        assert wallet[coupon.key] == common | issued_at


def check_instant(history: History, database: Database, now: datetime) -> None:
    """What a caller is told at an instant is what the aggregates say of it, and the law holds exactly."""
    coupons = history.folded()
    with database.connect() as connection:
        for coupon in coupons:
            assert queries.coupon(connection, coupon.merchant_id, coupon.key, now).state == coupon.state_at(now)
        for user_id in USERS:
            listed = queries.wallet(connection, "merchant-1", user_id, now).coupons
            assert {row.coupon_id: row.state for row in listed} == {
                coupon.key: coupon.state_at(now)
                for coupon in coupons
                if user_id in (coupon.user_id, *coupon.shared_with)
            }
        for batch_id in history.batches:
            balance = queries.balance(connection, "merchant-1", batch_id, now)
            states = Counter(coupon.state_at(now) for coupon in coupons if coupon.batch_id == batch_id)
            told = {name: getattr(balance, name.lower()) for name in queries.STATES}
            assert told == {name: states[name] for name in queries.STATES}
            assert balance.issued == sum(told.values())
            batch = history.folded_batch(batch_id)
            assert (balance.state, balance.quantity) == (batch.state_at(now), batch.quantity)


@pytest.mark.parametrize("seed", range(4))
def test_rows_equal_the_aggregates(ledger: Ledger, shop: Any, database: Database, seed: int) -> None:
    history = History(ledger, shop, seed)
    for number in range(250):
        history.step()
        if history.random.random() < 0.1 or number == 249:
            Runner(database, chunk_events=history.random.choice([1, 3, 50, 5_000])).catch_up()
            check_rows(history, database)
            check_instant(history, database, history.now + timedelta(hours=history.random.randrange(-100, 300)))
    with database.connect() as connection:
        topics = {recorded.event.TOPIC for recorded in ledger.store.read(connection, 0, 10_000)}
    assert topics >= {event.TOPIC for event in COUPON_EVENTS}


def test_answers_are_right_at_every_boundary(ledger: Ledger, shop: Any, database: Database) -> None:
    """The instants where a coupon's state changes by the clock, one microsecond before, at, and after."""
    history = History(ledger, shop, 11)
    for _ in range(120):
        history.step()
    Runner(database).catch_up()
    boundaries: set[datetime] = set()
    for coupon in history.folded():
        boundaries |= {coupon.valid_from, coupon.valid_until}
        if coupon.lock_ends_at:
            boundaries.add(coupon.lock_ends_at)
    assert len(boundaries) > 10
    for boundary in history.random.sample(sorted(boundaries), 12):
        for microseconds in (-1, 0, 1):
            check_instant(history, database, boundary + timedelta(microseconds=microseconds))


def test_the_law_and_the_money_hold_after_every_event(ledger: Ledger, shop: Any, database: Database) -> None:
    """Counters equal a plain count over the log up to each position, folded one event at a time."""
    history = History(ledger, shop, 5)
    for _ in range(80):
        history.step()
    with database.connect() as connection:
        log = list(ledger.store.read(connection, 0, 10_000))
    runner = Runner(database, chunk_events=1)
    seen: Counter[tuple[str, str]] = Counter()
    batch_of: dict[str, str] = {}
    with database.connect(row_factory=dict_row) as connection:
        for recorded in log:
            runner_folds_one(runner, recorded.position)
            event: Any = recorded.event
            if recorded.event.TOPIC == "coupon.issued":
                batch_of[event.originator_id] = event.batch_id
            if batch_id := batch_of.get(event.originator_id):
                seen[batch_id, event.TOPIC] += 1
                if recorded.event.TOPIC in ("coupon.used", "coupon.debited"):
                    seen[batch_id, "discount"] += event.discount_minor
                seen[batch_id, "given back"] += getattr(event, "returned_minor", 0)
                seen[batch_id, "given back"] += getattr(event, "credited_minor", 0)
            for row in connection.execute("select * from batch_balance"):
                states = [row[name] for name in ("unused", "locked", "used", "expired", "voided")]
                assert row["issued"] == sum(states)
                assert min(states) >= 0
                assert row["issued"] == seen[row["batch_id"], "coupon.issued"]
                returns = ("coupon.returned", "coupon.credited")
                assert row["returned"] == sum(seen[row["batch_id"], topic] for topic in returns)
                assert row["discount_minor"] == seen[row["batch_id"], "discount"]
                assert row["returned_minor"] == seen[row["batch_id"], "given back"]
    assert seen.total() > 100


def runner_folds_one(runner: Runner, position: int) -> None:
    """Fold up to this position and no further."""
    checkpoints.install(runner.database, runner.projections)
    with checkpoints.connect(runner.database) as connection, closing(runner._ahead):
        runner._round(connection)
        assert set(checkpoints.running(connection).values()) == {position}


def test_another_merchant_sees_nothing(ledger: Ledger, shop: Any, database: Database) -> None:
    batch_id = shop.batch()
    coupon_id = shop.coupon(batch_id=batch_id)
    Runner(database).catch_up()
    now = datetime.now(UTC)
    with database.connect() as connection:
        assert queries.coupon(connection, "merchant-1", coupon_id, now).state == "UNUSED"
        with pytest.raises(CouponNotFound):
            queries.coupon(connection, "merchant-2", coupon_id, now)
        with pytest.raises(BatchNotFound):
            queries.balance(connection, "merchant-2", batch_id, now)
        assert queries.wallet(connection, "merchant-2", "user-1", now).coupons == []
        assert queries.balances(connection, "merchant-2") == []
        assert [row.batch_id for row in queries.balances(connection, "merchant-1")] == [batch_id]
