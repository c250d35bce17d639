"""Case bulk: issuance messages from a real Kafka topic to durable events, beside raw COPY of the rows that they become.

The messages lie in the topic before the clock starts. The product's own consumer processes take them; their clock runs
from the first assignment of a partition to the last coupon stored. Then the rows that they wrote (events, quotas,
stock, requests) are written again into fresh tables of the same schema, with the same indexes and triggers and in the
same order, by COPY and by INSERT of arrays, some thousands of rows a transaction; reading them out is not counted.
``measure_growth`` is the same issuance on logs that are already long.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from benchmarks.contenders.base import Place
from benchmarks.options import Options
from benchmarks.processes import cpu_seconds
from benchmarks.results import Row, size_name
from benchmarks.servers import schema
from benchmarks.stored import MERCHANT, store_events
from consumers import inputs
from consumers.messages import encode
from consumers.payloads import IssueRequested
from consumers.topics import ISSUANCE, ensure_topics
from coupon_ledger.demo.sending import Sender
from coupon_ledger.embedded import EmbeddedKafka
from coupon_ledger.processes import running
from coupon_ledger.settings import Settings
from ledger import use_cases
from ledger.aggregate import derived_id
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.database import Database
from ledger.migrate import migrate
from ledger.request import Request
from ledger.store import Store
from ledger.terms import Terms

TRANSACTION_ROWS = 10_000
"""Of the raw rivals; ten times as many were no faster."""
GROWTH_ROWS = 100_000
"""At most, so that a short log stays short."""
STALLED_SECONDS = 60.0
BATCH_REQUEST = "bulk-batch"

Connection = psycopg.Connection[Any]
_numbers = count(1)


@dataclass(frozen=True)
class Messages:
    """Requests to issue a coupon of one batch to each of many users, waiting in a topic."""

    bootstrap: str
    count: int


def measure(options: Options) -> Iterator[Row]:
    """The ledger's rows for each number of consumer processes, and those of the raw rivals after the first."""
    with waiting(options, options.bulk_rows) as messages:
        for turn, processes in enumerate(options.processes):
            with fresh(options) as database:
                yield issue(database, messages, processes)
                if turn == 0:
                    for contender in RAW:
                        with fresh(options) as target:
                            yield write_again(contender, database, target)


def measure_growth(options: Options, long: Mapping[int, Place]) -> Iterator[Row]:
    """Rows ``growth_bulk_<size>``: one consumer process, on the long logs given and on short ones of its own."""
    with waiting(options, min(options.bulk_rows, GROWTH_ROWS)) as messages:
        for size in options.stored:
            with ExitStack() as own:
                if size in long:
                    database = Database(long[size].address, long[size].schema)
                else:
                    database = own.enter_context(fresh(options))
                    store_events(database.url, database.schema, size)
                yield replace(issue(database, messages, 1), case=f"growth_bulk_{size_name(size)}")


# --- the ledger ---------------------------------------------------------------------------------------


def issue(database: Database, messages: Messages, processes: int) -> Row:
    """Have so many consumer processes take all messages into the ledger."""
    ledger = Ledger(Store(database))
    try:
        batch_id = running_batch(ledger, messages.count)
        base = ledger.store.head()
        settings = Settings().model_copy(
            update={
                "database_url": database.url,
                "schema_": database.schema,
                "kafka_bootstrap": messages.bootstrap,
            }
        )
        with tempfile.TemporaryDirectory() as logs, running(Path(logs), settings.as_environment()) as consumers:
            for number in range(processes):
                consumers.start(f"issuance-{number}", "consume", "issuance")
            pids = [child.pid for child in consumers.children.values()]
            await_count(ledger.store, "select count(*) as reached from kafka_offsets", 1, consumers.check)
            cpu, began_at = cpu_seconds(*pids), time.perf_counter()
            head = "select max(notification_id) as reached from events"
            await_count(ledger.store, head, base + messages.count, consumers.check)
            cpu, seconds = cpu_seconds(*pids) - cpu, time.perf_counter() - began_at
        with ledger.store.connection() as connection:
            found = connection.execute(_FOUND, {"base": base, "batch_id": batch_id}).fetchone()
    finally:
        ledger.close()
    assert found is not None
    exact = {found[name] for name in ("coupons", "users", "stock", "quotas")} == {messages.count} and not found["dead"]
    return _row("ledger", processes, messages.count, seconds, cpu, exact=exact)


_FOUND = """
select count(*) as coupons, count(distinct convert_from(state, 'utf8')::jsonb->>'user_id') as users,
       (select issued from batch_stock where batch_id = %(batch_id)s) as stock,
       (select count(*) from user_quota where batch_id = %(batch_id)s) as quotas,
       (select count(*) from dead_letters) as dead
  from events where notification_id > %(base)s and topic = 'coupon.issued'
"""


def running_batch(ledger: Ledger, quantity: int) -> str:
    """The batch that the messages name, for its id comes from its request."""
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
    template = ledger.do(use_cases.create_template(_request("bulk-template"), name="bulk", terms=terms)).answer
    plan = BatchPlan(name="bulk", quantity=quantity, per_user_limit=1, valid_for_seconds=90 * 86_400)
    work = use_cases.create_batch(_request(BATCH_REQUEST), plan, template_id=template["template_id"])
    batch_id: str = ledger.do(work).answer["batch_id"]
    ledger.do(use_cases.start_batch(_request("bulk-start"), batch_id))
    return batch_id


def _request(request_id: str) -> Request:
    return Request(MERCHANT, "bench", request_id)


def await_count(store: Store, query: str, enough: int, check: Callable[[], None]) -> None:
    """Wait until what the query counts is that much. Raises when a consumer ended, or it does not grow any more."""
    reached, grew_at = -1, time.monotonic()
    with store.connection() as connection:
        while reached < enough:
            row = connection.execute(query.encode(), prepare=True).fetchone()
            assert row is not None
            if row["reached"] > reached:
                reached, grew_at = row["reached"], time.monotonic()
            elif time.monotonic() - grew_at > STALLED_SECONDS:
                raise RuntimeError(f"{query}: it stays at {reached}, and should reach {enough}")
            check()
            time.sleep(0.01)


@contextmanager
def waiting(options: Options, count: int) -> Iterator[Messages]:
    """A broker of its own with that many messages."""
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-bench-") as state, EmbeddedKafka(Path(state)) as server:
        messages = Messages(server.address, count)
        ensure_topics(messages.bootstrap)
        batch_id = derived_id("batch", MERCHANT, BATCH_REQUEST)
        now = datetime.now(UTC)
        with Sender(messages.bootstrap, ISSUANCE) as sender:
            for number in range(count):
                asked = IssueRequested(
                    merchant_id=MERCHANT, batch_id=batch_id, user_id=f"user-{number}", channel="mail"
                )
                wire = encode(asked, source="urn:bench", id=f"issue-{number}", time=now)
                sender.send(wire, sender.partition_of(asked.key.encode()))
        options.tell(f"{count:,} messages wait in {ISSUANCE}")
        yield messages


@contextmanager
def fresh(options: Options) -> Iterator[Database]:
    """A migrated ledger of its own."""
    database = Database(options.url, f"bulk_{next(_numbers)}")
    with schema(options.url, database.schema):
        migrate(options.url, database.schema)
        yield database


def _row(contender: str, processes: int, rows: int, seconds: float, cpu: float, *, exact: bool) -> Row:
    return Row(
        case="bulk",
        contender=contender,
        callers=1,
        processes=processes,
        rate_per_s=round(rows / seconds, 1),
        p50_ms=None,
        p99_ms=None,
        cpu_s_per_1000=round(cpu / rows * 1_000, 4),
        exact=exact,
    )


# --- the raw rivals -----------------------------------------------------------------------------------

# Of each table the rows that came with a part of the log, in the order in which they were written.
OUTCOME = {
    "events": "select * from events where notification_id between {first} and {last} order by notification_id",
    "user_quota": "select q.* from event_log e join user_quota q on q.batch_id = e.payload->>'batch_id'"
    " and q.user_id = e.payload->>'user_id' where e.position between {first} and {last} order by e.position",
    "batch_stock": "select * from batch_stock where {first} = 1",
    "requests": "select * from requests where {first} = 1",
}

Write = Callable[[Connection, Connection, int, int], float]
"""Reads the rows of these positions from one ledger and writes them to the other; the seconds of the writing."""


def _copy(source: Connection, target: Connection, first: int, last: int) -> float:
    parts = {}
    for table, query in OUTCOME.items():
        with source.cursor().copy(f"copy ({query.format(first=first, last=last)}) to stdout (format binary)") as out:
            parts[table] = b"".join(out)
    begun = time.perf_counter()
    with target.transaction():
        for table, part in parts.items():
            with target.cursor().copy(f"copy {table} from stdin (format binary)") as into:
                into.write(part)
    return time.perf_counter() - begun


def _insert_arrays(source: Connection, target: Connection, first: int, last: int) -> float:
    statements = []
    for table, query in OUTCOME.items():
        cursor = source.cursor(binary=True).execute(query.format(first=first, last=last).encode())
        if rows := cursor.fetchall():
            arrays = ", ".join(f"%b::{_type_of(column.type_code)}[]" for column in cursor.description or ())
            columns = [list(values) for values in zip(*rows, strict=True)]
            statements.append((f"insert into {table} select * from unnest({arrays})", columns))
    begun = time.perf_counter()
    with target.transaction():
        for statement, columns in statements:
            target.execute(statement.encode(), columns, prepare=True)
    return time.perf_counter() - begun


def _type_of(oid: int) -> str:
    found = psycopg.adapters.types.get(oid)
    assert found is not None
    return found.name


RAW: dict[str, tuple[Write, int]] = {
    "copy": (_copy, TRANSACTION_ROWS),
    "copy_by_poll": (_copy, inputs.ISSUANCE.max_poll_records),
    "insert_arrays": (_insert_arrays, TRANSACTION_ROWS),
}
"""How each writes, and how many events a transaction; ``copy_by_poll`` commits as often as a consumer does."""


def write_again(contender: str, outcome: Database, empty: Database) -> Row:
    """Write the rows of one ledger into the tables of another."""
    with _owner(outcome) as source, _owner(empty) as target:
        events = _count(source, "events")
        seconds, cpu = 0.0, time.process_time()
        write, size = RAW[contender]
        for first in range(1, events + 1, size):
            seconds += write(source, target, first, first + size - 1)
        cpu = time.process_time() - cpu
        exact = all(_count(source, table) == _count(target, table) for table in OUTCOME)
    return _row(contender, 1, events, seconds, cpu, exact=exact)


def _count(connection: Connection, table: str) -> int:
    found: int = connection.execute(f"select count(*) from {table}".encode()).fetchall()[0][0]
    return found


def _owner(database: Database) -> Connection:
    return psycopg.connect(
        database.url, autocommit=True, options=f"-c search_path={database.schema}", row_factory=tuple_row
    )
