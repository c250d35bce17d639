"""The sweeper writes down what is already true by the clock, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers import expiry
from ledger import use_cases
from ledger.application import Ledger
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.errors import Unavailable
from ledger.request import Request
from projections.catalogue import PROJECTIONS
from projections.checkpoints import install
from projections.runner import Runner
from tests.conftest import MERCHANT, Shop
from tests.kafka.broker import wait_until

Sql = Callable[..., list[tuple[Any, ...]]]
LIFE = "select topic from event_log where stream = 'coupon-' || %s order by version"


@pytest.fixture
def project(database: Database) -> Callable[[], Any]:
    """Brings the read models up to the log."""
    runner = Runner(database)

    def catch_up() -> None:
        install(database, PROJECTIONS)
        runner.catch_up()

    return catch_up


@pytest.fixture
def old_batch(shop: Shop, long_ago: datetime) -> str:
    """A batch whose coupons were valid for a month, long ago."""
    month = {"valid_from": long_ago, "valid_until": long_ago + timedelta(days=30), "valid_for_seconds": None}
    return shop.batch(quantity=5_000, per_user_limit=None, **month)


def issued(ledger: Ledger, batch: str, count: int, at: datetime) -> list[str]:
    ids: list[str] = []
    for begin in range(0, count, 1_000):
        users = [f"user-{number}" for number in range(begin, min(count, begin + 1_000))]
        request = Request(MERCHANT, "test", f"issue-{batch}-{begin}", at=at)
        ids += [one["coupon_id"] for one in ledger.do(use_cases.issue(request, batch, users)).answer["coupons"]]
    return ids


def test_all_that_is_due_is_expired_once(
    ledger: Ledger, shop: Shop, sql: Sql, project: Callable[[], Any], old_batch: str, long_ago: datetime
) -> None:
    issued(ledger, old_batch, 2_300, long_ago)
    living = shop.coupon()
    project()
    told: list[int] = []
    assert expiry.sweep(ledger, told.append) == 2_300
    assert told == [1_000, 2_000, 2_300]
    assert sql("select count(*), count(distinct stream) from event_log where topic = 'coupon.expired'") == [
        (2_300,) * 2
    ]
    ((occurred,),) = sql("select distinct payload->>'occurred_at' from event_log where topic = 'coupon.expired'")
    assert datetime.fromisoformat(occurred) == long_ago + timedelta(days=30)
    assert sql(LIFE, living) == [("coupon.issued",)]
    # The read model does not know yet: what it offers again is found to have moved.
    assert expiry.sweep(ledger) == 0
    project()
    assert expiry.sweep(ledger) == 0
    assert sql("select count(*) from event_log where topic = 'coupon.expired'") == [(2_300,)]


def test_a_coupon_that_moved_since_the_read_model_saw_it_is_left_alone(
    ledger: Ledger, shop: Shop, sql: Sql, project: Callable[[], Any], old_batch: str, long_ago: datetime
) -> None:
    moved, still = issued(ledger, old_batch, 2, long_ago)
    project()
    ledger.do(use_cases.lock(shop.request(at=long_ago), "o-1", user_id="user-0", coupon_ids=[moved], ttl_seconds=3_600))
    assert expiry.sweep(ledger) == 1
    assert sql(LIFE, moved) == [("coupon.issued",), ("coupon.locked",)]
    assert sql(LIFE, still) == [("coupon.issued",), ("coupon.expired",)]


def test_ends_of_locks_are_written_down_as_of_their_end(
    ledger: Ledger, shop: Shop, sql: Sql, project: Callable[[], Any], old_batch: str, long_ago: datetime
) -> None:
    """A lock that ended frees its coupon, or expires it when its time is over; a live one stays."""
    (expired,) = issued(ledger, old_batch, 1, long_ago)
    held = {"ttl_seconds": 600}
    ledger.do(use_cases.lock(shop.request(at=long_ago), "o-1", user_id="user-0", coupon_ids=[expired], **held))
    an_hour_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    freed, used, live = issued(ledger, shop.batch(per_user_limit=None), 3, an_hour_ago)
    for number, (coupon, at) in enumerate([(freed, an_hour_ago), (used, an_hour_ago), (live, None)]):
        request = shop.request(at=at)
        ledger.do(use_cases.lock(request, f"o-2{number}", user_id=f"user-{number}", coupon_ids=[coupon], **held))
    project()
    redemption = Redemption(coupon_id=used, discount_minor=1)
    ledger.do(use_cases.confirm(shop.request(at=an_hour_ago), "o-21", [redemption]))
    assert expiry.sweep(ledger) == 2
    assert expiry.sweep(ledger) == 0
    assert [topic for (topic,) in sql(LIFE, expired)][2:] == ["coupon.unlocked", "coupon.expired"]
    assert [topic for (topic,) in sql(LIFE, freed)][2:] == ["coupon.unlocked"]
    assert [topic for (topic,) in sql(LIFE, used)][2:] == ["coupon.used"]
    assert [topic for (topic,) in sql(LIFE, live)][2:] == []
    ends = sql(
        "select payload->>'reason', payload->>'occurred_at', payload->>'actor' from event_log"
        " where topic = 'coupon.unlocked' and stream = 'coupon-' || %s",
        freed,
    )
    assert [(reason, datetime.fromisoformat(at), actor) for reason, at, actor in ends] == [
        ("lock_ended", an_hour_ago + timedelta(minutes=10), "job:expiry")
    ]


def test_the_service_waits_for_its_read_model_and_then_sweeps(
    ledger: Ledger, sql: Sql, project: Callable[[], Any], old_batch: str, long_ago: datetime
) -> None:
    issued(ledger, old_batch, 5, long_ago)
    stop = threading.Event()
    thread = threading.Thread(target=expiry.run, args=(ledger, stop, 0.05))
    thread.start()
    try:
        project()
        wait_until(lambda: sql("select count(*) from event_log where topic = 'coupon.expired'") == [(5,)], "it swept")
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_a_lost_connection_does_not_cost_an_interval(
    ledger: Ledger, sql: Sql, project: Callable[[], Any], old_batch: str, long_ago: datetime, monkeypatch: Any
) -> None:
    """The database is asked again soon, however seldom it is swept."""
    issued(ledger, old_batch, 5, long_ago)
    project()
    lost = [Unavailable(), Unavailable()]
    groups = expiry._groups

    def away(ledger: Ledger) -> Iterator[int]:
        if lost:
            raise lost.pop()
        return groups(ledger)

    monkeypatch.setattr(expiry, "_groups", away)
    stop = threading.Event()
    thread = threading.Thread(target=expiry.run, args=(ledger, stop, 600.0))
    thread.start()
    try:
        wait_until(lambda: sql("select count(*) from event_log where topic = 'coupon.expired'") == [(5,)], "it swept")
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
