"""Alerts told: each crossing once and in order, to Kafka and to whoever made the template."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumers.alerts import AlertTeller
from consumers.inputs import ISSUANCE
from consumers.messages import decode
from consumers.payloads import CouponAlert
from consumers.topics import ALERTS
from ledger import use_cases
from ledger.alerts import Alerts
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store
from ledger.telling import channels
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.conftest import Shop
from tests.kafka.broker import Broker, KafkaConsumer, TopicPartition, issue, running, wait_until

Sql = Callable[..., list[tuple[Any, ...]]]
[MODEL] = [projection for projection in PROJECTIONS if projection.name == "alerts"]
DELIVERED = "select key, channel_id from deliveries where type = 'alert' order by delivery_id"


@pytest.fixture
def teller(broker: Broker, ledger: Ledger) -> Iterator[AlertTeller]:
    teller = AlertTeller(ledger.store, broker.bootstrap, prefix=broker.prefix)
    assert teller.step() == 0  # its row was not there yet
    yield teller
    teller.close()


def tell(database: Database, teller: AlertTeller) -> int:
    """What there is to tell."""
    Runner(database, [MODEL]).catch_up()
    told = 0
    while found := teller.step():
        told += found
    return told


def alerts_on(broker: Broker, count: int) -> list[CouponAlert]:
    payloads = [decode(record).payload for record in broker.records(ALERTS, count)]
    assert len(payloads) == count
    return payloads  # type: ignore[return-value]


def channel(shop: Shop, actor: str) -> str:
    request = replace(shop.request(), actor=actor)
    told = channels.register(
        shop.ledger, request, name="shop", kind="webhook", target="https://shop.example/x", wants=["alert"]
    )
    id: str = told.answer["channel_id"]
    return id


def test_once_for_each_crossing_while_two_consumers_issue(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, teller: AlertTeller
) -> None:
    batch = shop.batch(quantity=300, alerts=Alerts(stock_below=100), name="Spring")
    other = Ledger(Store(database))
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(400)])
    with ExitStack() as stack:
        workers = [stack.enter_context(running(broker.worker(each))) for each in (ledger, other)]
        wait_until(lambda: sum(each.health().messages for each in workers) >= 400, "all are taken")
    other.close()
    assert tell(database, teller) == 1
    ledger.do(use_cases.change_quantity(shop.request(), batch, expected=300, target=500))
    ledger.do(use_cases.change_quantity(shop.request(), batch, expected=500, target=350))
    assert tell(database, teller) == 1
    first, second = alerts_on(broker, 2)
    assert (first.alert, first.number, first.threshold, first.level, first.capacity) == (
        "stock_below",
        1,
        100,
        201,
        300,
    )
    assert (second.number, second.level, second.capacity) == (2, 300, 350)
    assert first.position < second.position
    with ledger.store.connection() as connection:
        crossed = next(iter(ledger.store.read(connection, first.position - 1, 1))).event
    assert crossed.TOPIC == "coupon.issued"


def test_a_rebuild_and_another_process_tell_nothing_twice(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, teller: AlertTeller, sql: Sql
) -> None:
    channel(shop, "test")
    batch = shop.batch(quantity=10, per_user_limit=None, alerts=Alerts(stock_below=5))
    ledger.do(use_cases.issue(shop.request(), batch, ["ann"] * 6))
    assert tell(database, teller) == 1
    assert rebuild(database, MODEL).same is True
    anew = AlertTeller(Store(database), broker.bootstrap, prefix=broker.prefix)
    assert tell(database, anew) == 0
    anew.close()
    assert len(sql(DELIVERED)) == 1
    assert len(alerts_on(broker, 1)) == 1


def test_what_was_sent_before_a_crash_is_sent_again_under_the_same_id(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, teller: AlertTeller, sql: Sql
) -> None:
    """The position goes back to where it was, as when the process dies between acknowledgement and commit."""
    channel(shop, "test")
    batch = shop.batch(quantity=10, per_user_limit=None, alerts=Alerts(stock_below=5))
    ledger.do(use_cases.issue(shop.request(), batch, ["ann"] * 6))
    assert tell(database, teller) == 1
    sql("update followers set position = 0 where name = 'alerts' returning 1")
    assert tell(database, teller) == 1
    ids = {dict(record.headers)["ce_id"] for record in broker.records(ALERTS, 2)}
    assert ids == {f"{batch}-stock_below-1".encode()}
    assert [key for key, _ in sql(DELIVERED)] == [f"alert {batch}-stock_below-1 {sql(DELIVERED)[0][1]}"]


def test_the_creator_of_the_template_is_told_and_else_everybody(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, teller: AlertTeller, sql: Sql
) -> None:
    """Batches may be planned by others: the template's creator wanted to know."""
    theirs, others = channel(shop, "key:other"), None
    batch = shop.batch(quantity=10, per_user_limit=None, alerts=Alerts(stock_below=9))
    ledger.do(use_cases.issue(shop.request(), batch, ["ann"] * 2))
    tell(database, teller)
    assert [to for _, to in sql(DELIVERED)] == [theirs]
    others = channel(shop, "test")
    ledger.do(use_cases.change_quantity(shop.request(), batch, expected=10, target=20))
    ledger.do(use_cases.issue(shop.request(), batch, ["ann"] * 10))
    tell(database, teller)
    assert [to for _, to in sql(DELIVERED)] == [theirs, others]
    ((said,),) = sql("select body from deliveries where channel_id = %s", others)
    assert said["title"] == "“Batch” is running out"
    assert said["text"] == "8 of 20 coupons are left."
    assert (said["batch_id"], said["alert"], said["number"]) == (batch, "stock_below", 2)
    with ledger.store.connection() as connection:
        channels.disable(connection, others)
    ledger.do(use_cases.change_quantity(shop.request(), batch, expected=20, target=40))
    ledger.do(use_cases.issue(shop.request(), batch, ["ann"] * 20))
    tell(database, teller)
    assert [to for _, to in sql(DELIVERED)] == [theirs, others, others]  # it waits, and goes to nobody else instead


Spawn = Callable[[], subprocess.Popen[bytes]]
TOLD = "select position from followers where name = 'alerts'"
WAITS = "select 1 from pg_locks where not granted and relation = 'deliveries'::regclass"


@pytest.fixture
def spawn(broker: Broker, database: Database, tmp_path: Path) -> Iterator[Spawn]:
    """Starts a process that tells alerts."""
    children: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "DATABASE_URL": database.url,
        "COUPON_LEDGER_SCHEMA": database.schema,
        "KAFKA_BOOTSTRAP": broker.bootstrap,
        "COUPON_LEDGER_TOPIC_PREFIX": broker.prefix,
    }

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "coupon_ledger", "alert"]
            children.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def swing(shop: Shop, batch: str, times: int) -> None:
    """Cross the threshold so many times."""
    for _ in range(times):
        for before, after in ((10, 4), (4, 10)):
            shop.ledger.do(use_cases.change_quantity(shop.request(), batch, expected=before, target=after))


def ids_on(broker: Broker) -> list[str]:
    """Ids in the order in which they first came; what came again was the same."""
    topic = TopicPartition(broker.prefix + ALERTS, 0)
    with closing(KafkaConsumer(bootstrap_servers=broker.bootstrap)) as consumer:
        count = consumer.end_offsets([topic])[topic]
    said: dict[str, set[bytes]] = {}
    for record in broker.records(ALERTS, count):
        said.setdefault(dict(record.headers)["ce_id"].decode(), set()).add(record.value)
    assert all(len(values) == 1 for values in said.values())
    return list(said)


def test_killed_between_kafka_and_commit(
    broker: Broker, database: Database, shop: Shop, sql: Sql, spawn: Spawn, teller: AlertTeller
) -> None:
    """The alert is on Kafka and its delivery waits for a lock that the test holds: it is told again under its id."""
    channel(shop, "test")
    batch = shop.batch(quantity=10, alerts=Alerts(stock_below=5))
    swing(shop, batch, 1)
    Runner(database, [MODEL]).catch_up()
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table deliveries in share mode")
        child = spawn()
        wait_until(lambda: sql(WAITS), "the process waits after Kafka's answer")
        child.kill()
        child.wait()
    assert (sql(DELIVERED), sql(TOLD)) == ([], [(0,)])
    assert len(alerts_on(broker, 1)) == 1
    spawn()
    wait_until(lambda: sql(TOLD) > [(0,)], "it is told")
    assert len(alerts_on(broker, 2)) == 2
    assert ids_on(broker) == [f"{batch}-stock_below-1"]
    assert len(sql(DELIVERED)) == 1


def test_each_crossing_is_told_once_by_its_id_over_kills(
    broker: Broker, database: Database, shop: Shop, sql: Sql, spawn: Spawn, teller: AlertTeller
) -> None:
    """The process is killed at random moments while thresholds are crossed."""
    chance = random.Random(20_260_502)
    owed = channel(shop, "test")
    batch = shop.batch(quantity=10, alerts=Alerts(stock_below=5))
    runner, rounds, each = Runner(database, [MODEL]), 4, 5
    for _ in range(rounds):
        child = spawn()
        [(before,)] = sql(TOLD)
        for _ in range(each):
            swing(shop, batch, 1)
            runner.catch_up()
        wait_until(lambda before=before: sql(TOLD) > [(before,)], "it tells")
        for _ in range(chance.randint(0, each)):
            swing(shop, batch, 1)
            runner.catch_up()
        time.sleep(chance.uniform(0, 0.1))
        child.kill()
        child.wait()
    spawn()
    [(crossed, last)] = sql("select count(*), max(position) from alerts")
    wait_until(lambda: sql(TOLD) >= [(last,)], "all are told")
    assert crossed >= rounds * each
    expected = [f"{batch}-stock_below-{number}" for number in range(1, crossed + 1)]
    assert ids_on(broker) == expected
    assert sorted(sql(DELIVERED)) == sorted((f"alert {id} {owed}", owed) for id in expected)


def test_nothing_is_told_before_the_read_model_is_there(ledger: Ledger, teller: AlertTeller) -> None:
    assert teller.step() == 0
