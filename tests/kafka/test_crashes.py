"""A consumer killed with -9 at any moment leaves each message with one effect."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumers.inputs import ISSUANCE, ORDERS
from ledger.application import Ledger
from ledger.database import Database
from tests.conftest import Shop
from tests.kafka.broker import Broker, consume, issue, wait_until
from tests.kafka.test_orders import created, paid

Sql = Callable[..., list[tuple[Any, ...]]]
CHECKOUT = Path(__file__).parents[2]
COUPONS = "select count(*), count(distinct payload->>'user_id') from event_log where topic = 'coupon.issued'"
HELD_AND_USED = (
    "select topic, count(*), count(distinct stream) from event_log"
    " where topic in ('coupon.locked', 'coupon.used') group by topic order by topic"
)
OFFSET = "select coalesce(sum(next_offset), 0)::int from kafka_offsets"
WAITS_FOR_TABLE = "select 1 from pg_locks where not granted and relation = 'dead_letters'::regclass"
WAITS_FOR_WAITING = "select 1 from pg_locks where not granted and relation = 'waiting_messages'::regclass"
WAITS_FOR_LOG = "select 1 from pg_locks where not granted and locktype = 'advisory' and objid = 'events'::regclass::oid"

# The broker waits 15 s for a member that was killed. A group of Kafka's own for each process stands for that wait;
# it also knows no committed offset, so every process is offered every message again. Our offsets are the group's.
CHILD = """
import sys
from consumers import worker
from consumers.inputs import BY_NAME
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store
name, url, schema, bootstrap, prefix, group, number, most = sys.argv[1:]
ledger = Ledger(Store(Database(url, schema)))
consumer = {"group_id": f"{group}-{number}", "max_poll_records": int(most)}
worker.run(ledger, bootstrap, BY_NAME[name], worker.stop_on_signals(), prefix=prefix, group=group, consumer=consumer)
ledger.close()
"""

Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn(broker: Broker, database: Database) -> Iterator[Spawn]:
    """Starts processes that consume the test's topic of issuance, or of orders."""
    children: list[subprocess.Popen[bytes]] = []

    def start(most: int = 1_000, name: str = "issuance") -> subprocess.Popen[bytes]:
        words = [name, database.url, database.schema, broker.bootstrap, broker.prefix, broker.group, str(len(children))]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"}
        children.append(subprocess.Popen([sys.executable, "-c", CHILD, *words, str(most)], env=environment))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def kill(child: subprocess.Popen[bytes]) -> None:
    assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()


def finish(child: subprocess.Popen[bytes]) -> None:
    """Stop it as an operator would."""
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0


def test_killed_between_effects_and_commit(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    """The effects are written and the dead letter waits for a lock that the test holds: nothing may remain."""
    batch = shop.batch()
    wires = [issue(batch, number) for number in range(30)]
    broker.send(ISSUANCE.topic, [*wires, wires[0]._replace(value=b"poison")], partition=0)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table dead_letters in share mode")
        child = spawn()
        wait_until(lambda: sql(WAITS_FOR_TABLE), "the consumer waits after its effects")
        kill(child)
    assert (sql(COUPONS), sql(OFFSET)) == ([(0, 0)], [(0,)])
    child = spawn()
    wait_until(lambda: sql(OFFSET) == [(31,)], "all are taken")
    assert sql(COUPONS) == [(30, 30)]
    assert sql("select reason from dead_letters") == [("malformed_json",)]
    finish(child)
    again = consume(broker.worker(ledger, group=f"{broker.group}-anew"), 31).health()
    assert (again.effects, again.repeats, again.dead) == (0, 30, 1)
    assert sql(COUPONS) == [(30, 30)]


def test_an_orders_consumer_killed_between_effects_and_commit(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    """The locks and uses of a poll stand in two groups of one transaction: none may remain, then each once."""
    coupons = [shop.coupon() for _ in range(8)]
    wires = []
    for number, coupon in enumerate(coupons):
        wires += [created(f"o-{number}", coupon), paid(f"o-{number}", coupon)]
    broker.send(ORDERS.topic, [*wires, wires[0]._replace(value=b"poison")], partition=0)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table dead_letters in share mode")
        child = spawn(name="orders")
        wait_until(lambda: sql(WAITS_FOR_TABLE), "the consumer waits after its effects")
        kill(child)
    assert (sql(HELD_AND_USED), sql(OFFSET)) == ([], [(0,)])
    child = spawn(name="orders")
    wait_until(lambda: sql(OFFSET) == [(17,)], "all are taken")
    finish(child)
    once = [("coupon.locked", 8, 8), ("coupon.used", 8, 8)]
    assert sql(HELD_AND_USED) == once
    again = consume(broker.worker(ledger, ORDERS, group=f"{broker.group}-anew"), 17).health()
    assert (again.effects, again.repeats, again.dead) == (0, 16, 1)
    assert sql(HELD_AND_USED) == once


def test_killed_while_what_waited_has_its_effect(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    """The payment waits; its order comes, both have their effects, and the payment is not yet out of the table."""
    coupons = [shop.coupon() for _ in range(8)]
    broker.send(ORDERS.topic, [paid(f"o-{number}", coupon) for number, coupon in enumerate(coupons)], partition=0)
    consume(broker.worker(ledger, ORDERS), 8)
    assert sql("select count(*) from waiting_messages") == [(8,)]
    wires = [created(f"o-{number}", coupon) for number, coupon in enumerate(coupons)]
    broker.send(ORDERS.topic, wires, partition=0)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table waiting_messages in share mode")
        child = spawn(name="orders")
        wait_until(lambda: sql(WAITS_FOR_WAITING), "the consumer waits after its effects")
        kill(child)
    assert (sql(HELD_AND_USED), sql(OFFSET)) == ([], [(8,)])
    child = spawn(name="orders")
    wait_until(lambda: sql(OFFSET) == [(16,)], "all are taken")
    finish(child)
    once = [("coupon.locked", 8, 8), ("coupon.used", 8, 8)]
    assert (sql(HELD_AND_USED), sql("select count(*) from waiting_messages")) == (once, [(0,)])
    again = consume(broker.worker(ledger, ORDERS, group=f"{broker.group}-anew"), 16).health()
    assert (again.effects, again.repeats, again.early) == (0, 16, 0)
    assert sql(HELD_AND_USED) == once


def test_a_stopped_consumer_finishes_the_group_in_hand(
    broker: Broker, database: Database, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    batch = shop.batch()
    wires = [issue(batch, number) for number in range(30)]
    broker.send(ISSUANCE.topic, [*wires, wires[0]._replace(value=b"poison")], partition=0)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table dead_letters in share mode")
        child = spawn()
        wait_until(lambda: sql(WAITS_FOR_TABLE), "the consumer has effects and no commit")
        child.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    assert child.wait(20) == 0
    assert (sql(COUPONS), sql(OFFSET)) == ([(30, 30)], [(31,)])
    assert sql("select reason from dead_letters") == [("malformed_json",)]


def test_killed_before_effects_and_after_commit(
    broker: Broker, database: Database, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    batch = shop.batch()
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(30)])
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("select pg_advisory_xact_lock('events'::regclass::oid::bigint)")
        child = spawn()
        wait_until(lambda: sql(WAITS_FOR_LOG), "the consumer waits before its effects")
        kill(child)
    assert (sql(COUPONS), sql(OFFSET)) == ([(0, 0)], [(0,)])
    child = spawn()
    wait_until(lambda: sql(OFFSET) != [(0,)], "the consumer has committed")
    kill(child)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(30, 40)])
    child = spawn()
    wait_until(lambda: sql(OFFSET) == [(40,)], "all are taken")
    finish(child)
    assert sql(COUPONS) == [(40, 40)]


def test_killed_at_random_moments_and_everything_delivered_twice(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    chance = random.Random(20_261_121)
    count = 6_000
    batch = shop.batch(quantity=count)
    wires = [issue(batch, number) for number in range(count)]
    broker.send(ISSUANCE.topic, wires)
    broker.send(ISSUANCE.topic, wires[::2])
    total = count + count // 2
    kills = 0
    while sql(OFFSET) != [(total,)]:
        before = sql(OFFSET)[0][0]
        child = spawn(most=50)
        wait_until(lambda least=before: sql(OFFSET)[0][0] > least, "the consumer works")
        if kills < 6:
            time.sleep(chance.uniform(0, 0.15))
            kill(child)
            kills += 1
        else:
            wait_until(lambda: sql(OFFSET) == [(total,)], "all are taken", seconds=60)
            finish(child)
    assert kills >= 3
    assert sql(COUPONS) == [(count, count)]
    assert sql("select issued from batch_stock") == [(count,)]
    assert sql("select count(*) from dead_letters") == [(0,)]
    again = consume(broker.worker(ledger, group=f"{broker.group}-anew"), total).health()
    assert (again.effects, again.repeats, again.dead) == (0, total, 0)
    assert sql(COUPONS) == [(count, count)]
