"""Case kafka: from a produced message to the durable event, and to the row that a reader sees.

``kafka_backlog``: messages lie in the topic, and one consumer process takes them. The rival is what such consumers
mostly are: a transaction for each message, with a row that remembers the message, and offsets committed to Kafka after
each poll. ``kafka_steady``: so many messages a second, and how long each takes from its ``send`` to be durable (by the
time that the store gave it) and, of the ledger, to be visible (a checkpoint of the read models has passed it). Broker,
database, producer, consumer and projector share the machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaConsumer, KafkaProducer
from psycopg.rows import tuple_row

from benchmarks.bulk import Messages, await_count, fresh, running_batch, waiting
from benchmarks.options import Options
from benchmarks.processes import cpu_seconds
from benchmarks.results import Row
from benchmarks.servers import schema
from benchmarks.stored import MERCHANT
from consumers.messages import encode
from consumers.payloads import IssueRequested
from consumers.topics import ISSUANCE
from coupon_ledger.processes import Processes, running
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store

BACKLOG = 40_000
"""Messages, for the ledger; the rival takes as many of them as it can in the seconds of a measurement."""
STEADY_PER_SECOND = 500
PROBE_SECONDS = 0.002
QUANTITY = 1_000_000

TABLES = """
create table batch (id text primary key, remaining bigint not null check (remaining >= 0));
create table coupon (id uuid primary key, batch_id text not null, user_id text not null, state text not null,
                     created_at timestamptz not null default clock_timestamp());
create table message (id text primary key, coupon_id uuid not null);
"""


def measure(options: Options) -> Iterator[Row]:
    """Rows ``kafka_backlog`` and ``kafka_steady``."""
    with waiting(options, min(BACKLOG, options.bulk_rows)) as messages:
        with fresh(options) as database, _ledger(database, messages.bootstrap) as (ledger, processes):
            batch_id = running_batch(ledger, QUANTITY)
            yield _backlog(ledger, processes, messages)
            yield from _steady(ledger, processes, messages.bootstrap, batch_id, options.seconds)
        with _rival(options, messages.bootstrap) as (connection, child):
            yield _rival_backlog(connection, child, messages.count, options.seconds)
        with _rival(options, messages.bootstrap, "latest") as (connection, child):
            times = _send(messages.bootstrap, "batch", options.seconds)
            yield _rival_steady(connection, child, times)


# --- the ledger ---------------------------------------------------------------------------------------


@contextmanager
def _ledger(database: Database, bootstrap: str) -> Iterator[tuple[Ledger, Processes]]:
    """A ledger, and room for processes of it."""
    settings = Settings().model_copy(
        update={"database_url": database.url, "schema_": database.schema, "kafka_bootstrap": bootstrap}
    )
    ledger = Ledger(Store(database))
    try:
        with tempfile.TemporaryDirectory() as logs, running(Path(logs), settings.as_environment()) as processes:
            yield ledger, processes
    finally:
        ledger.close()


def _backlog(ledger: Ledger, processes: Processes, messages: Messages) -> Row:
    base = ledger.store.head()
    processes.start("issuance", "consume", "issuance")
    pid = processes.children["issuance"].pid
    await_count(ledger.store, "select count(*) as reached from kafka_offsets", 1, processes.check)
    cpu, began_at = cpu_seconds(pid), time.perf_counter()
    head = "select max(notification_id) as reached from events"
    await_count(ledger.store, head, base + messages.count, processes.check)
    seconds, cpu = time.perf_counter() - began_at, cpu_seconds(pid) - cpu
    with ledger.store.connection() as connection:
        found = connection.execute(_ISSUED, (base,)).fetchone()
    assert found is not None
    exact = found["users"] == found["coupons"] == messages.count
    return _row("kafka_backlog", "ledger", messages.count / seconds, cpu / messages.count, exact=exact)


_ISSUED = """
select count(*) as coupons, count(distinct payload->>'user_id') as users
  from event_log where position > %s and topic = 'coupon.issued'
"""


def _steady(ledger: Ledger, processes: Processes, bootstrap: str, batch_id: str, seconds: float) -> Iterator[Row]:
    processes.start("projector", "project")
    base = ledger.store.head()
    level = "select coalesce(min(position), 0) as reached from projection_checkpoints"
    await_count(ledger.store, level, base, processes.check)
    pids = [child.pid for child in processes.children.values()]
    cpu = cpu_seconds(*pids)
    with _probing(ledger.store.database) as seen:
        times = _send(bootstrap, batch_id, seconds)
        await_count(ledger.store, level, base + len(times), processes.check)
        time.sleep(0.1)
    cpu = cpu_seconds(*pids) - cpu
    with ledger.store.connection() as connection:
        rows = connection.cursor(row_factory=tuple_row).execute(_RECORDED, (base,)).fetchall()
    exact = len(rows) == len(times)
    rate = _rate(times)
    durable = [recorded - times[id] for id, recorded, _ in rows]
    yield _row("kafka_steady", "ledger", rate, cpu / len(times), durable, exact=exact)
    positions = [position for _, position in seen]
    visible = [seen[bisect_left(positions, position)][0] - times[id] for id, _, position in rows]
    yield _row("kafka_steady", "ledger_visible", rate, cpu / len(times), visible, exact=exact)


_RECORDED = """
select split_part(payload->>'request_id', ' ', 2), extract(epoch from recorded_at)::float8, position
  from event_log where position > %s and topic = 'coupon.issued'
"""


@contextmanager
def _probing(database: Database) -> Iterator[list[tuple[float, int]]]:
    """What a reader sees: when, and how far all read models were; each position once."""
    seen: list[tuple[float, int]] = []
    ends = threading.Event()

    def probe() -> None:
        with database.connect() as connection:
            while not ends.is_set():
                row = connection.execute("select min(position) from projection_checkpoints", prepare=True).fetchone()
                assert row is not None
                if not seen or row[0] > seen[-1][1]:
                    seen.append((time.time(), row[0]))
                time.sleep(PROBE_SECONDS)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield seen
    finally:
        ends.set()
        thread.join()


def _send(bootstrap: str, batch_id: str, seconds: float) -> dict[str, float]:
    """Send at an even pace. Answers when each message was handed to the producer, by its id."""
    times: dict[str, float] = {}
    run = uuid.uuid4().hex[:8]
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=1)) as out:
        out.partitions_for(ISSUANCE)
        began_at = time.perf_counter()
        for number in range(round(STEADY_PER_SECOND * seconds)):
            id = f"steady-{run}-{number}"
            asked = IssueRequested(merchant_id=MERCHANT, batch_id=batch_id, user_id=f"{run}-{number}", channel="mail")
            wire = encode(asked, source="urn:bench", id=id, time=datetime.now(UTC))
            time.sleep(max(0.0, began_at + number / STEADY_PER_SECOND - time.perf_counter()))
            times[id] = time.time()
            out.send(ISSUANCE, **wire._asdict())
        out.flush(timeout=30)
    return times


# --- the rival ----------------------------------------------------------------------------------------


@contextmanager
def _rival(
    options: Options, bootstrap: str, begin: str = "earliest"
) -> Iterator[tuple[psycopg.Connection[Any], subprocess.Popen[bytes]]]:
    """Tables of its own and its consumer process, which has its partitions."""
    name = f"transaction_each_{uuid.uuid4().hex[:8]}"
    with schema(options.url, name), psycopg.connect(options.url, autocommit=True) as connection:
        connection.execute(f'create schema "{name}"')
        connection.execute(f'set search_path to "{name}"')
        connection.execute(TABLES)
        connection.execute("insert into batch values ('batch', %s)", (QUANTITY,))
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.from_kafka", options.url, name, bootstrap, begin]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            try:
                assert child.stdout is not None
                child.stdout.readline()
                yield connection, child
            finally:
                child.terminate()


def _rival_backlog(
    connection: psycopg.Connection[Any], child: subprocess.Popen[bytes], count: int, seconds: float
) -> Row:
    """What it takes in these seconds from its first message on, or until it has all."""
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at and not _coupons(connection):
        time.sleep(0.01)
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at and _coupons(connection) < count:
        time.sleep(0.01)
    cpu = cpu_seconds(child.pid)
    [(done, took)] = connection.execute(
        "select count(*), extract(epoch from max(created_at) - min(created_at))::float8 from coupon"
    ).fetchall()
    return _row("kafka_backlog", "transaction_each", done / took, cpu / done, exact=_is_exact(connection))


def _rival_steady(connection: psycopg.Connection[Any], child: subprocess.Popen[bytes], times: dict[str, float]) -> Row:
    ends_at = time.monotonic() + 60
    while _coupons(connection) < len(times) and time.monotonic() < ends_at:
        time.sleep(0.05)
    rows = connection.execute(
        "select m.id, extract(epoch from created_at)::float8 from message m join coupon on coupon.id = coupon_id"
    ).fetchall()
    durable = [created - times[id] for id, created in rows]
    exact = len(rows) == len(times) and _is_exact(connection)
    cpu = cpu_seconds(child.pid) / len(times)
    return _row("kafka_steady", "transaction_each", _rate(times), cpu, durable, exact=exact)


def _coupons(connection: psycopg.Connection[Any]) -> int:
    [(count,)] = connection.execute("select count(*) from coupon").fetchall()
    return int(count)


def _is_exact(connection: psycopg.Connection[Any]) -> bool:
    """Whether stock, coupons and messages say the same."""
    [(remaining, coupons, messages)] = connection.execute(
        "select (select remaining from batch), (select count(*) from coupon), (select count(*) from message)"
    ).fetchall()
    return QUANTITY - int(remaining) == int(coupons) == int(messages)


def consume(url: str, name: str, bootstrap: str, begin: str) -> None:
    """One transaction for each message, for ever."""
    with (
        psycopg.connect(url, autocommit=True, options=f"-c search_path={name}") as connection,
        closing(
            KafkaConsumer(
                ISSUANCE,
                bootstrap_servers=bootstrap,
                group_id=name,
                enable_auto_commit=False,
                auto_offset_reset=begin,
                max_poll_records=500,
            )
        ) as consumer,
    ):
        ready = False
        while True:
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    _take(connection, record)
            consumer.commit()
            if not ready and consumer.assignment():
                for partition in consumer.assignment():
                    consumer.position(partition)
                sys.stdout.write("ready\n")
                sys.stdout.flush()
                ready = True


def _take(connection: psycopg.Connection[Any], record: Any) -> None:
    headers = dict(record.headers)
    coupon_id = uuid.uuid4()
    with connection.transaction():
        seen = connection.execute(
            "insert into message values (%s, %s) on conflict do nothing", (headers["ce_id"].decode(), coupon_id)
        )
        if (
            seen.rowcount
            and connection.execute(
                "update batch set remaining = remaining - 1 where id = 'batch' and remaining > 0"
            ).rowcount
        ):
            asked = IssueRequested.model_validate_json(record.value)
            connection.execute(
                "insert into coupon values (%s, %s, %s, 'UNUSED')", (coupon_id, asked.batch_id, asked.user_id)
            )


# --- rows ---------------------------------------------------------------------------------------------


def _rate(times: dict[str, float]) -> float:
    moments = sorted(times.values())
    return (len(moments) - 1) / max(1e-9, moments[-1] - moments[0])


def _row(case: str, contender: str, rate: float, cpu: float, latencies: Sequence[float] = (), *, exact: bool) -> Row:
    ordered = sorted(latencies)
    return Row(
        case=case,
        contender=contender,
        callers=1,
        processes=1,
        rate_per_s=round(rate, 1),
        p50_ms=round(ordered[len(ordered) // 2] * 1_000, 1) if ordered else None,
        p99_ms=round(ordered[len(ordered) * 99 // 100] * 1_000, 1) if ordered else None,
        cpu_s_per_1000=round(cpu * 1_000, 4),
        exact=exact,
    )


if __name__ == "__main__":
    consume(*sys.argv[1:])
