"""While the database is away or slow, a worker keeps its partitions and its place in the group, taking nothing in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from consumers.inputs import ISSUANCE
from consumers.reader import Reader
from consumers.worker import Worker
from ledger.application import Ledger
from ledger.database import Database
from tests.conftest import Shop
from tests.kafka.broker import Broker, issue, running, wait_until

Sql = Callable[..., list[tuple[Any, ...]]]
COUPONS = "select count(*) from event_log where topic = 'coupon.issued'"
ENDS = "select sum(end_offset)::int, sum(next_offset)::int, bool_and(seen_at is not null) from kafka_offsets"
POLL_INTERVAL_SECONDS = 3.0
QUICK = {"heartbeat_interval_ms": 200, "max_poll_interval_ms": int(POLL_INTERVAL_SECONDS * 1_000)}


@pytest.fixture
def assignments(monkeypatch: Any) -> list[tuple[str, list[int]]]:
    """What rebalances gave and took, of all workers."""
    seen: list[tuple[str, list[int]]] = []
    for word in ("assigned", "revoked", "lost"):
        told = getattr(Reader, f"on_partitions_{word}")

        def note(self: Reader, partitions: Any, word: str = word, told: Any = told) -> None:
            if numbers := sorted(number for _, number in partitions):
                seen.append((word, numbers))
            told(self, partitions)

        monkeypatch.setattr(Reader, f"on_partitions_{word}", note)
    return seen


def begin(worker: Worker) -> None:
    wait_until(lambda: len(worker.health().partitions) == 4 and worker.health().messages, "it reads")


def test_an_outage_longer_than_the_poll_interval_costs_no_partition(
    broker: Broker,
    ledger: Ledger,
    database: Database,
    shop: Shop,
    sql: Sql,
    assignments: list[Any],
    monkeypatch: Any,
) -> None:
    """Neither while a try lasts nor between two of them, which together are longer than the interval."""
    monkeypatch.setattr("consumers.worker.FIRST_BACK_OFF_SECONDS", 2.0)
    batch = shop.batch(quantity=1_000)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10)])
    with running(broker.worker(ledger, consumer=QUICK)) as worker:
        begin(worker)
        wait_until(lambda: sql(COUPONS) == [(10,)], "the first are taken")
        with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
            holder.execute("lock table kafka_offsets")
            broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10, 40)])
            time.sleep(POLL_INTERVAL_SECONDS + 3)
            assert worker.health().messages == 10
        wait_until(lambda: sql(COUPONS) == [(40,)], "it goes on")
        assert assignments == [("assigned", [0, 1, 2, 3])]
    assert worker.health().failures > 0


def test_a_statement_longer_than_the_poll_interval_costs_no_partition(
    broker: Broker, ledger: Ledger, database: Database, shop: Shop, sql: Sql, assignments: list[Any]
) -> None:
    """The database answers, but later than the group would wait for its member."""
    batch = shop.batch(quantity=1_000)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10)])
    with running(broker.worker(ledger, consumer=QUICK)) as worker:
        begin(worker)
        wait_until(lambda: sql(COUPONS) == [(10,)], "the first are taken")
        slow = POLL_INTERVAL_SECONDS + 2
        with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as owner:
            owner.execute(
                "create function sleep() returns trigger language plpgsql as"
                f" $$ begin perform pg_sleep({slow}); return null; end $$"
            )
            owner.execute("create trigger sleep after insert on dead_letters execute function sleep()")
        wires = [issue(batch, number) for number in range(10, 40)]
        broker.send(ISSUANCE.topic, [*wires, wires[0]._replace(value=b"poison")], partition=0)
        wait_until(lambda: sql(COUPONS) == [(40,)], "they are taken")
        broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(40, 50)])
        wait_until(lambda: sql(COUPONS) == [(50,)], "it goes on")
        assert assignments == [("assigned", [0, 1, 2, 3])]
    assert (worker.health().failures, worker.health().repeats, worker.health().dead) == (0, 0, 1)


def test_rebalances_are_served_while_the_database_is_away(
    broker: Broker, ledger: Ledger, database: Database, shop: Shop, sql: Sql
) -> None:
    """A partition that moves away paused and comes back is read again."""
    batch = shop.batch(quantity=1_000)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10)])
    quick = QUICK | {"max_poll_interval_ms": 30_000}
    first, second = broker.worker(ledger, consumer=quick), broker.worker(ledger, consumer=quick)
    with running(first):
        begin(first)
        with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
            holder.execute("lock table kafka_offsets")
            broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10, 40)])
            with running(second):
                wait_until(lambda: len(second.health().partitions) == 2, "they share the partitions", seconds=20)
                assert len(first.health().partitions) == 2
            wait_until(lambda: len(first.health().partitions) == 4, "the first has all again", seconds=20)
        wait_until(lambda: sql(COUPONS) == [(40,)], "all partitions are read")
    assert first.health().effects + second.health().effects == 40


def test_how_far_partitions_go_is_in_the_database(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, monkeypatch: Any
) -> None:
    """While messages come and while none do."""
    monkeypatch.setattr("consumers.worker.COMMIT_SECONDS", 0.1)
    batch = shop.batch(quantity=1_000)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(40)])
    with running(broker.worker(ledger)) as worker:
        wait_until(lambda: sql(ENDS) == [(40, 40, True)], "the ends are known")
        before = sql("select min(seen_at) from kafka_offsets")
        wait_until(lambda: sql("select min(seen_at) from kafka_offsets") > before, "they are asked for again")
    assert worker.health().lag == 0
