"""Reminders from the log to the user's inbox: each once, whoever is killed and whatever comes twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumers.inputs import REMINDERS
from consumers.messages import Wire
from consumers.reminder_scanner import Scanner
from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import PROJECTOR_ROLE, Database
from ledger.reminders import Reminders
from ledger.store import Store
from ledger.telling import channels
from ledger.telling.reminding import Due, tell
from ledger.terms import Terms
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.conftest import Shop
from tests.kafka.broker import Broker, consume, running, wait_until

Sql = Callable[..., list[tuple[Any, ...]]]
CHECKOUT = Path(__file__).parents[2]
[MODEL] = [projection for projection in PROJECTIONS if projection.name == "reminders"]
TOLD = "select count(*), count(distinct user_id) from user_messages"
SENT = "select count(*) from reminders_sent"
LEFT = "select count(*) from reminders"
DELIVERED = "select count(*), count(distinct user_id) from deliveries where type = 'reminder'"
OFFSETS = "select coalesce(sum(next_offset), 0)::int from kafka_offsets"
TERMS = Terms(
    benefit=Benefit(kind="amount_off", value_minor=500),
    currency="EUR",
    stacking_mode="stackable",
    reminders=Reminders(days_before=(1,)),
)

SCANNER = """
import sys
from consumers import reminder_scanner
from consumers.worker import stop_on_signals
from ledger.database import PROJECTOR_ROLE, Database
from ledger.store import Store
url, schema, bootstrap, prefix, group, number = sys.argv[1:]
reminder_scanner.GROUP_LIMIT = 25
stop = stop_on_signals()
reminder_scanner.run(Store(Database(url, schema, PROJECTOR_ROLE)), bootstrap, stop, prefix=prefix)
"""
# A group of Kafka's own for each process stands for the wait until the broker gives up a killed one; see test_crashes.
CONSUMER = """
import sys
from consumers.inputs import REMINDERS
from consumers.worker import run, stop_on_signals
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store
url, schema, bootstrap, prefix, group, number = sys.argv[1:]
consumer = {"group_id": f"{group}-{number}", "max_poll_records": 20}
run(Ledger(Store(Database(url, schema))), bootstrap, REMINDERS, stop_on_signals(), prefix=prefix, group=group,
    consumer=consumer)
"""

Spawn = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def spawn(broker: Broker, database: Database) -> Iterator[Spawn]:
    """Starts processes that work on the test's reminders."""
    children: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        words = [database.url, database.schema, broker.bootstrap, broker.prefix, broker.group, str(len(children))]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"}
        children.append(subprocess.Popen([sys.executable, "-c", script, *words], env=environment))
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
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0


@pytest.fixture
def scanner(broker: Broker, database: Database) -> Iterator[Scanner]:
    store = Store(Database(database.url, database.schema, PROJECTOR_ROLE))
    scanner = Scanner(store, broker.bootstrap, prefix=broker.prefix)
    yield scanner
    scanner._outlet.close()
    store.close()


def ending(shop: Shop, users: int, *, in_seconds: float = 1.5, **plan: Any) -> tuple[str, list[str]]:
    """A batch whose coupons end in a day and a little, and so are told of in that little."""
    end = datetime.now(UTC) + timedelta(days=1, seconds=in_seconds)
    batch_id = shop.batch(terms=TERMS, quantity=users, valid_until=end, valid_for_seconds=None, **plan)
    work = use_cases.issue(shop.request(), batch_id, [f"user-{number}" for number in range(users)])
    return batch_id, [coupon["coupon_id"] for coupon in shop.ledger.do(work).answer["coupons"]]


def scan(scanner: Scanner, count: int) -> None:
    """Send so many reminders, once they are due."""
    found = 0

    def enough() -> bool:
        nonlocal found
        found += scanner.step()
        return found >= count

    wait_until(enough, f"{count} reminders are sent")
    assert found == count


def channel(shop: Shop, kind: Any = "webhook", **more: Any) -> None:
    target = "https://shop.example/hooks" if kind == "webhook" else None
    channels.register(shop.ledger, shop.request(), name="shop", kind=kind, target=target, wants=["reminder"], **more)


def test_from_issue_to_the_inbox_and_the_channels(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, scanner: Scanner
) -> None:
    channel(shop)
    channel(shop, "email")
    batch_id, coupons = ending(shop, 3)
    Runner(database).catch_up()
    assert scanner.step() == 0
    scan(scanner, 3)
    assert (sql(LEFT), sql(SENT)) == ([(0,)], [(3,)])
    told = consume(broker.worker(ledger, REMINDERS), 3).health()
    assert (told.effects, told.repeats, told.dead) == (3, 0, 0)
    ((title, body, kind),) = sql("select title, body, kind from messages")
    day = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    assert (title, kind) == (f"“Batch” ends on {day}", "reminder")
    assert day in body
    assert sql("select user_id from user_messages order by 1") == [("user-0",), ("user-1",), ("user-2",)]
    assert sql(DELIVERED) == [(6, 3)]
    ((said,),) = sql("select body from deliveries where user_id = 'user-1' limit 1")
    assert (said["batch_id"], said["coupon_ids"], said["user_id"]) == (batch_id, [coupons[1]], "user-1")
    # A message of the same reminder once more, as after a crash, and all of them for a group that knows nothing.
    [record] = broker.records(REMINDERS.topic, 3, partitions=4)[:1]
    broker.send(REMINDERS.topic, [Wire(record.key, record.value, record.headers)])
    again = consume(broker.worker(ledger, REMINDERS, group=f"{broker.group}-anew"), 4).health()
    assert (again.effects, again.repeats, again.dead) == (0, 4, 0)
    assert (sql(TOLD), sql(DELIVERED)) == ([(3, 3)], [(6, 3)])


@pytest.mark.parametrize(
    ("time_zone", "batch_zone", "last_day", "over_at"),
    [
        ("Pacific/Kiritimati", "UTC", "2030-06-02", "2030-06-02T10:00:00Z"),
        ("UTC", "Pacific/Kiritimati", "2030-06-01", "2030-06-02T00:00:00Z"),
    ],
)
def test_the_last_day_is_of_the_clock_that_says_when(
    ledger: Ledger, shop: Shop, sql: Sql, time_zone: str, batch_zone: str, last_day: str, over_at: str
) -> None:
    """The terms that the batch pinned, whatever a later version says."""
    terms = Terms(**{**vars(TERMS), "time_zone": time_zone})
    end = datetime(2030, 6, 1, 15, tzinfo=UTC)
    batch_id = shop.batch(terms=terms, valid_until=end, valid_for_seconds=None, time_zone=batch_zone)
    ((template_id,),) = sql("select substr(stream, 10) from event_log where topic = 'template.created'")
    revised = Terms(**{**vars(TERMS), "time_zone": batch_zone})
    ledger.do(use_cases.revise_template(shop.request(), template_id, name="Five off", terms=revised))
    coupon = shop.coupon(batch_id=batch_id)
    due = Due(shop.request().merchant_id, "user-1", batch_id, end.date(), "expiry", end, (coupon,))
    with ledger.store.connection() as connection, connection.transaction():
        [receipt] = tell(ledger, connection, [due])
    assert receipt is not None
    ((title, body, expires_at),) = sql("select title, body, expires_at from messages")
    assert (title, last_day in body) == (f"“Batch” ends on {last_day}", True)
    assert expires_at == datetime.fromisoformat(over_at)


def test_what_no_longer_holds_is_told_to_nobody(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, scanner: Scanner
) -> None:
    """Used, voided, extended or given away after the message was sent; one user has another coupon left."""
    terms = Terms(**{**vars(TERMS), "transferable": True})
    end = datetime.now(UTC) + timedelta(days=1, seconds=2)
    batch_id = shop.batch(terms=terms, valid_until=end, valid_for_seconds=None, per_user_limit=None)
    names = ["used", "voided", "extended", "given", "kept", "kept"]
    answer = ledger.do(use_cases.issue(shop.request(), batch_id, names)).answer["coupons"]
    ids = [coupon["coupon_id"] for coupon in answer]
    Runner(database).catch_up()
    scan(scanner, 5)
    for number, user in ((0, "used"), (4, "kept")):
        lock = use_cases.lock(shop.request(), f"o-{number}", user_id=user, coupon_ids=[ids[number]])
        ledger.do(lock)
        redemption = Redemption(coupon_id=ids[number], discount_minor=500)
        ledger.do(use_cases.confirm(shop.request(), f"o-{number}", [redemption], order_total_minor=9_999))
    ledger.do(use_cases.void(shop.request(), ids[1], reason="mistake"))
    ledger.do(use_cases.extend(shop.request(), ids[2], valid_until=end + timedelta(days=9), reason="storm"))
    ledger.do(use_cases.transfer(shop.request(), ids[3], user_id="given", to_user_id="other"))
    told = consume(broker.worker(ledger, REMINDERS), 5).health()
    assert (told.effects, told.repeats, told.dead) == (1, 0, 0)
    assert sql("select user_id from user_messages") == [("kept",)]


def test_claims_that_open(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, scanner: Scanner
) -> None:
    """Who asked is told when they are open; not of a batch that does not run, nor who asked to hear no more."""
    opens = datetime.now(UTC) + timedelta(seconds=2)
    open_, paused = shop.batch(claim_from=opens, name="Open"), shop.batch(claim_from=opens)
    for batch_id, user in ((open_, "ann"), (open_, "bob"), (paused, "ann")):
        ledger.do(use_cases.request_claim_reminder(shop.request(), batch_id, user))
    ledger.do(use_cases.pause_batch(shop.request(), paused, reason="not yet"))
    Runner(database).catch_up()
    scan(scanner, 3)
    ledger.do(use_cases.cancel_claim_reminder(shop.request(), open_, "bob"))
    told = consume(broker.worker(ledger, REMINDERS), 3).health()
    assert (told.effects, told.dead) == (1, 0)
    assert sql("select user_id, title from user_messages join messages using (message_no)") == [
        ("ann", "“Open” is open")
    ]


def test_killed_between_acknowledgement_and_commit(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    """The broker has the messages and nobody wrote that down: they are sent again, and have no second effect."""
    ending(shop, 5)
    Runner(database).catch_up()
    waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%%''reminders'' for update'"
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("select from projection_checkpoints where name = 'reminders' for update")
        child = spawn(SCANNER)
        wait_until(lambda: sql(waits), "the scanner waits after its messages were acknowledged")
        kill(child)
    assert (sql(LEFT), sql(SENT)) == ([(5,)], [(0,)])
    child = spawn(SCANNER)
    wait_until(lambda: sql(LEFT) == [(0,)], "the reminders are sent again")
    finish(child)
    records = broker.records(REMINDERS.topic, 10, partitions=4)
    assert len({dict(record.headers)["ce_id"] for record in records}) == 5
    told = consume(broker.worker(ledger, REMINDERS), 10).health()
    assert (told.effects, told.repeats) == (5, 5)
    assert sql(TOLD) == [(5, 5)]


def test_scanner_and_consumer_killed_at_random_moments(
    broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn
) -> None:
    chance = random.Random(20_261_122)
    rounds, users = 5, 120
    count = rounds * users
    channel(shop)
    for _ in range(rounds):
        ending(shop, users, in_seconds=0.5)
        Runner(database).catch_up()
        before = sql(SENT), sql(OFFSETS)
        scanner, consumer = spawn(SCANNER), spawn(CONSUMER)
        wait_until(lambda before=before: (sql(SENT), sql(OFFSETS)) != before, "one of them works")
        time.sleep(chance.uniform(0, 0.4))
        for child in chance.sample([scanner, consumer], 2):
            kill(child)
            time.sleep(chance.uniform(0, 0.1))
    scanner, consumer = spawn(SCANNER), spawn(CONSUMER)
    wait_until(lambda: sql(LEFT) == [(0,)], "all are sent", seconds=60)
    wait_until(lambda: sql(TOLD) == [(count, users)], "all are told", seconds=60)
    kill(scanner)
    kill(consumer)
    records = broker.records(REMINDERS.topic, count, partitions=4)
    broker.send(REMINDERS.topic, [Wire(record.key, record.value, record.headers) for record in records])
    anew = broker.worker(ledger, REMINDERS, group=f"{broker.group}-anew")
    with running(anew):
        wait_until(lambda: anew.health().messages >= 2 * len(records), "all come once more")
    assert (anew.health().effects, anew.health().dead) == (0, 0)
    assert (sql(TOLD), sql(SENT), sql(DELIVERED)) == ([(count, users)], [(count,)], [(count, users)])
    assert sql("select count(*) from dead_letters") == [(0,)]
    assert rebuild(database, MODEL).same is True
    assert sql(LEFT) == [(0,)]


def test_of_two_scanners_one_works_and_none_during_a_rebuild(
    broker: Broker, database: Database, shop: Shop, sql: Sql, scanner: Scanner
) -> None:
    ending(shop, 5, in_seconds=0)
    Runner(database).catch_up()
    with Database(database.url, database.schema, PROJECTOR_ROLE).connect() as other:
        other.execute("select pg_advisory_lock('reminders_sent'::regclass::oid::int, 0)")
        assert scanner.step() == 0

    def look(_done: int, _total: int) -> None:
        assert scanner.step() == 0

    rebuild(database, MODEL, look)
    assert sql(SENT) == [(0,)]


def test_what_is_over_is_forgotten(database: Database, sql: Sql, scanner: Scanner) -> None:
    for days in (0, 7, 9, 90):
        over = datetime.now(UTC) - timedelta(days=days)
        row = ("m", f"u-{days}", "b", over.date(), "expiry", over)
        sql("insert into reminders_sent values (%s, %s, %s, %s, %s, %s) returning 1", *row)
        sql("insert into reminders_told values (%s, %s) returning 1", f"r-{days}", over)
    assert scanner.purge() == 4
    assert scanner.purge() == 0
    assert sql("select user_id from reminders_sent order by 1") == [("u-0",), ("u-7",)]
    assert sql("select reminder_id from reminders_told order by 1") == [("r-0",), ("r-7",)]
