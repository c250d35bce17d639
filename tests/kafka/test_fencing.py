"""The stored offsets are the truth: what was consumed is not consumed again, and nothing is passed over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from consumers.inbox import Inbox, TopicReplaced
from consumers.inputs import ISSUANCE
from ledger.application import Ledger
from ledger.database import Database
from ledger.errors import Unavailable
from ledger.store import Store
from tests.conftest import Shop
from tests.kafka.broker import Broker, consume, issue, running, wait_until

Sql = Callable[..., list[tuple[Any, ...]]]
OFFSETS = "select next_offset from kafka_offsets where partition = 0"
COUPONS = "select count(*) from event_log where topic = 'coupon.issued'"


@pytest.fixture
def polled(broker: Broker, shop: Shop) -> dict[tuple[str, int], list[Any]]:
    """Twenty requests and a poison message, as one poll brings them."""
    batch = shop.batch()
    wires = [issue(batch, number) for number in range(20)]
    broker.send(ISSUANCE.topic, [*wires, wires[0]._replace(value=b"poison")], partition=0)
    records = broker.records(ISSUANCE.topic, 21)
    return {(records[0].topic, 0): records}


def inbox(ledger: Ledger, broker: Broker) -> Inbox:
    return Inbox(ledger, ISSUANCE, broker.group, "live")


def test_a_zombie_has_no_effect_and_does_not_move_the_offset(
    broker: Broker, ledger: Ledger, sql: Sql, polled: dict[tuple[str, int], list[Any]]
) -> None:
    (partition,) = polled
    zombies, owner = [inbox(ledger, broker), inbox(ledger, broker)], inbox(ledger, broker)
    assert [box.begin(polled) for box in (*zombies, owner)] == [{partition: 0}] * 3
    taken = owner.take(polled)
    assert (taken.effects, taken.dead, taken.next_offsets) == (20, 1, {partition: 21})
    for zombie, stale in zip(zombies, (polled, {partition: polled[partition][:5]}), strict=True):
        late = zombie.take(stale)
        assert (late.messages, late.next_offsets, late.seeks) == (0, {}, {partition: 21})
    assert sql(OFFSETS) == [(21,)]
    assert sql(COUPONS) == [(20,)]
    assert sql("select count(*) from dead_letters") == [(1,)]


def test_a_poll_that_overlaps_takes_only_what_is_new(
    broker: Broker, ledger: Ledger, sql: Sql, polled: dict[tuple[str, int], list[Any]]
) -> None:
    (partition,) = polled
    first, second = inbox(ledger, broker), inbox(ledger, broker)
    first.begin(polled)
    second.begin(polled)
    first.take({partition: polled[partition][:8]})
    taken = second.take(polled)
    assert (taken.messages, taken.effects, taken.repeats) == (13, 12, 0)
    assert sql(COUPONS) == [(20,)]


def test_a_gap_is_read_again_and_accepted_only_when_the_topic_has_one(
    broker: Broker, ledger: Ledger, sql: Sql, polled: dict[tuple[str, int], list[Any]]
) -> None:
    (partition,) = polled
    box = inbox(ledger, broker)
    box.begin(polled)
    box.take({partition: polled[partition][:3]})
    late = {partition: polled[partition][10:]}
    assert box.take(late).seeks == {partition: 3}
    assert sql(COUPONS) == [(3,)]
    # The records from 3 were asked for, and 10 is the first that came: there are none between.
    assert box.take(late).next_offsets == {partition: 21}
    assert sql(COUPONS) == [(13,)]


def test_a_topic_that_was_made_anew_is_not_skipped_in_silence(
    broker: Broker, ledger: Ledger, sql: Sql, polled: dict[tuple[str, int], list[Any]]
) -> None:
    box = inbox(ledger, broker)
    box.begin(polled)
    sql("update kafka_offsets set next_offset = 1000 where partition = 0 returning 1")
    box.begin(polled)
    with pytest.raises(TopicReplaced):
        box.take(polled)
    assert sql(COUPONS) == [(0,)]


def test_while_another_owner_is_writing_nothing_is_taken(
    broker: Broker, ledger: Ledger, database: Database, sql: Sql, polled: dict[tuple[str, int], list[Any]]
) -> None:
    box = inbox(ledger, broker)
    box.begin(polled)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as other:
        other.execute("select * from kafka_offsets for update")
        with pytest.raises(Unavailable):
            box.take(polled)
    assert (sql(OFFSETS), sql(COUPONS)) == ([(0,)], [(0,)])
    assert box.take(polled).effects == 20


def test_workers_that_come_and_go_share_the_work(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    batch = shop.batch(quantity=10_000)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(1_000)])
    quick = {"heartbeat_interval_ms": 200, "max_poll_records": 100}
    first, second = broker.worker(ledger, consumer=quick), broker.worker(ledger, consumer=quick)
    with running(first):
        wait_until(lambda: first.health().messages, "the first began")
        with running(second):
            wait_until(lambda: len(second.health().partitions) == 2, "they share the partitions")
            broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(1_000, 2_000)])
            wait_until(lambda: sql(COUPONS) == [(2_000,)], "all coupons are issued")
        broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(2_000, 2_500)])
        wait_until(lambda: sql(COUPONS) == [(2_500,)], "the first has all partitions again")
    assert second.health().effects > 0
    assert first.health().effects + second.health().effects == 2_500
    assert first.health().repeats + second.health().repeats == 0
    assert sql("select sum(next_offset)::int from kafka_offsets") == [(2_500,)]


@pytest.mark.parametrize("attempt", range(3))
def test_a_join_that_outlasts_a_poll_is_not_forgotten(
    broker: Broker, ledger: Ledger, monkeypatch: Any, attempt: int
) -> None:
    """Else the first worker reads on without being a member, and the second one gets all partitions."""
    monkeypatch.setattr("consumers.reader.POLL_MILLISECONDS", 1)
    quick = {"heartbeat_interval_ms": 200}
    first, second = broker.worker(ledger, consumer=quick), broker.worker(ledger, consumer=quick)
    with running(first):
        wait_until(lambda: len(first.health().partitions) == 4, "the first has all partitions")
        time.sleep(0.5)  # the leader's metadata arrives, and it joins again
        with running(second):
            wait_until(lambda: len(second.health().partitions) == 2, "they share the partitions")
            assert len(first.health().partitions) == 2


def test_a_database_that_cuts_its_sessions_loses_and_doubles_nothing(
    broker: Broker, database: Database, shop: Shop, sql: Sql, monkeypatch: Any
) -> None:
    monkeypatch.setattr("consumers.worker.LONGEST_BACK_OFF_SECONDS", 0.2)
    batch = shop.batch(quantity=10_000)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(2_000)])
    name = broker.group
    ledger = Ledger(Store(Database(make_conninfo(database.url, application_name=name), database.schema)))
    worker = broker.worker(ledger, consumer={"max_poll_records": 20})
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
    try:
        with running(worker):
            for count in range(100, 1_100, 100):
                wait_until(lambda least=count: worker.health().messages >= least, f"{count} are taken")
                sql(cut, name)
            wait_until(lambda: sql("select sum(next_offset)::int from kafka_offsets") == [(2_000,)], "all are taken")
    finally:
        ledger.close()
    assert worker.health().failures > 0
    assert sql(COUPONS) == [(2_000,)]
    assert sql("select count(*) from dead_letters") == [(0,)]


def test_a_stopped_worker_begins_where_the_database_says_and_not_where_kafka_says(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    batch = shop.batch()
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10)], partition=0)
    consume(broker.worker(ledger), 10)
    sql("update kafka_offsets set next_offset = 4 where partition = 0 returning 1")
    health = consume(broker.worker(ledger), 6).health()
    assert (health.effects, health.repeats) == (0, 6)
    assert sql(OFFSETS) == [(10,)]
