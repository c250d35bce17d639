"""The event store: a table of the ``eventsourcing`` library's shape, opened with our role and schema.

The library's recorder reads it as its own (a test holds that); it gives us the pool and the mapper. Our reads bring
several streams, earlier answers and the clock in one round trip, and writing goes through ``commit_group``
(migrations/0008), because the library's own insert commits one caller at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
import psycopg
from eventsourcing.persistence import JSONTranscoder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from ledger.database import Database
from ledger.errors import OutcomeUnknown, Unavailable
from ledger.events import Event, Recorded
from ledger.mapper import EventMapper

T = TypeVar("T")

CLOCK_LIFE_SECONDS = 5
"""The database clock is carried on for so long before one caller asks again, and twice as long by any: clocks drift."""
RETRY_SECONDS = 5.0
"""After a lost connection, how long another is tried: stale ones fail at once, but a silent network takes its time."""
POOL_WAIT_SECONDS = 2.0
"""What bounds waiting for a connection. A bound on how many wait would keep psycopg_pool 3.3 from reconnecting."""
TROUBLE = (
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The server ended the session, and psycopg has them among errors of the statement.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,  # a server that was demoted and is no longer the one to write to
)


class _Datastore(PostgresDatastore):
    """The library's datastore on a pool that we configure: URL, schema, role and bounds."""

    def __init__(self, database: Database, pool_size: int) -> None:
        super().__init__(
            dbname="", host="", port="", user="", password="", schema=database.schema, originator_id_type="text"
        )
        self.pool = ConnectionPool(  # type: ignore[assignment]  # the library subclasses it for rotating passwords
            database.url,
            kwargs={"row_factory": dict_row, "autocommit": True} | database.session(),
            min_size=1,
            max_size=pool_size,
            timeout=POOL_WAIT_SECONDS,
            reconnect_timeout=1,
            open=False,
        )

    def register_type_adapters(self) -> None:
        """Nothing: we insert without the library's composite type, and a store connects on first use only."""


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request that had an effect before."""

    body_hash: str
    answer: dict[str, Any]
    position: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one read saw."""

    now: datetime
    """By the database clock."""
    streams: dict[str, list[Event]]
    answered: dict[tuple[str, str], AnsweredRequest]
    """Earlier answers, by merchant and request id."""
    stock: dict[str, tuple[int, int]]
    """What the batches asked about may still issue, and the version of their streams."""
    quota: dict[tuple[str, str], int]
    """What users asked about got of a batch, by batch and user id."""
    orders: dict[tuple[str, str], list[str]]
    """The coupons, as streams, that orders asked about ever locked, by merchant and order id."""

    def add_orders(self, later: Snapshot) -> None:
        """Take the coupons of orders, and of their streams those that were not seen before."""
        self.orders.update(later.orders)
        for stream, events in later.streams.items():
            self.streams.setdefault(stream, events)

    @classmethod
    def of_nothing(cls, now: datetime) -> Snapshot:
        """What is seen without reading."""
        return cls(now, {}, {}, {}, {}, {})


class Store:
    """One ledger's log. Opens its pool on first use, so build it after a fork."""

    def __init__(self, database: Database, pool_size: int = 4) -> None:
        self.database = database
        self.mapper = EventMapper(JSONTranscoder())
        self.recorder = PostgresApplicationRecorder(_Datastore(database, pool_size), events_table_name="events")
        # Where commit_group tells that it wrote, so that the library's subscriptions and projections hear of it.
        self.recorder.channel_name = f"{database.schema}_events"
        self._pool_size = pool_size
        self._clock: tuple[float, datetime] | None = None
        self._asking_clock = threading.Lock()

    def close(self) -> None:
        """Close the pool's connections."""
        self.recorder.datastore.pool.close()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """A pooled connection in autocommit. Raises ``Unavailable`` when the database cannot be reached in time."""
        pool = self.recorder.datastore.pool
        try:
            pool.open()
            with pool.connection() as connection:
                yield connection
        except TROUBLE as error:
            raise Unavailable(_first_line(error)) from error

    def retrying(self, do: Callable[[psycopg.Connection[dict[str, Any]]], T]) -> T:
        """Do what may be done twice, on another connection when one is lost: after a restart all of them are.

        Raises ``OutcomeUnknown`` when it was lost at least once and never came to an end, otherwise ``Unavailable``.
        """
        lost, ends_at = False, 0.0
        for _ in range(self._pool_size + 1):
            try:
                with self.connection() as connection:
                    return do(connection)
            except Unavailable as error:
                if not _is_lost(error.__cause__):
                    if lost:
                        raise OutcomeUnknown() from error
                    raise
            if not lost:
                lost, ends_at = True, time.monotonic() + RETRY_SECONDS
            elif time.monotonic() > ends_at:
                break
        raise OutcomeUnknown()

    def now(self, connection: psycopg.Connection[Any] | None = None) -> datetime:
        """The database clock, carried on by this machine's monotonic one since a statement told it lately."""
        if self._clock is not None:
            told_at, moment = self._clock
            elapsed = time.monotonic() - told_at
            # When it is old, one caller asks; the others carry it on instead of all asking at once.
            if elapsed < CLOCK_LIFE_SECONDS:
                return moment + timedelta(seconds=elapsed)
            if elapsed < 2 * CLOCK_LIFE_SECONDS:
                if not self._asking_clock.acquire(blocking=False):
                    return moment + timedelta(seconds=elapsed)
                try:
                    return self.load((), (), connection).now
                finally:
                    self._asking_clock.release()
        return self.load((), (), connection).now

    def load(
        self,
        streams: Sequence[str],
        requests: Sequence[tuple[str, str]] = (),
        connection: psycopg.Connection[Any] | None = None,
        *,
        shares: Collection[tuple[str, str]] = (),
        orders: Collection[tuple[str, str]] = (),
    ) -> Snapshot:
        """Whole streams, earlier answers to requests (merchant, request id), and the clock, in one round trip.

        ``shares`` asks for the stock of batches and the quota of users: (batch id, user id). ``orders`` (merchant id,
        order id) asks for the streams of all coupons that they ever locked too.
        """
        if connection is None:
            try:
                return self.retrying(lambda pooled: self.load(streams, requests, pooled, shares=shares, orders=orders))
            except OutcomeUnknown:
                raise Unavailable("the connection was lost while reading") from None
        asked = {
            "streams": streams,
            "requests": [{"merchant_id": merchant_id, "request_id": id} for merchant_id, id in requests],
            "shares": [{"batch_id": batch_id, "user_id": user_id} for batch_id, user_id in shares],
            "orders": [{"merchant_id": merchant_id, "order_id": id} for merchant_id, id in orders],
        }
        cursor = connection.cursor(row_factory=tuple_row, binary=True)
        # As one JSON text: psycopg takes several times as long to write an array.
        clock, *rows = cursor.execute(_LOAD, {"asked": orjson.dumps(asked).decode()}, prepare=True)
        now = clock[-1].astimezone(UTC)
        self._clock = (time.monotonic(), now)
        snapshot = Snapshot(now, {stream: [] for stream in streams}, {}, {}, {}, {})
        for kind, id, number, text, state, _ in rows:
            if kind == "event":
                snapshot.streams.setdefault(id, []).append(self.mapper.decode(id, number, text, state))
            elif kind == "stock":
                snapshot.stock[id] = (number, int(text))
            elif kind == "order":
                snapshot.orders.setdefault((id, text), []).append(state.decode())
            elif kind == "quota":
                snapshot.quota[id, text] = number
            else:
                body_hash, _, answer = state.partition(b" ")
                snapshot.answered[id, text] = AnsweredRequest(body_hash.decode(), orjson.loads(answer), number)
        return snapshot

    def history(self, stream: str) -> list[Recorded]:
        """One whole stream with positions and store times."""
        with self.connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row, binary=True)
            return [self._recorded(row) for row in cursor.execute(_HISTORY, (stream,))]

    def read(self, connection: psycopg.Connection[Any], after: int, limit: int) -> Iterable[Recorded]:
        """The log after a position, in order: at most ``limit`` events.

        It may read ``position > after`` because commit_group makes commit order the order of positions.
        """
        cursor = connection.cursor(row_factory=tuple_row, binary=True)
        return map(self._recorded, cursor.execute(_READ, (after, limit), prepare=True))

    def head(self) -> int:
        """The last position of the log; 0 when it is empty."""
        with self.connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            row = cursor.execute("select coalesce(max(notification_id), 0) from events").fetchone()
        assert row is not None
        head: int = row[0]
        return head

    def _recorded(self, row: tuple[Any, ...]) -> Recorded:
        stream, version, topic, state, position, recorded_at = row
        return Recorded(position, recorded_at.astimezone(UTC), self.mapper.decode(stream, version, topic, state))


_READ = """
select originator_id, originator_version, topic, state, notification_id, recorded_at
  from events where notification_id > %s order by notification_id limit %s
"""

_HISTORY = """
select originator_id, originator_version, topic, state, notification_id, recorded_at
  from events where originator_id = %s order by originator_version
"""

# The clock, what batches have left (and their version) and users have got, earlier answers, coupons of orders, then
# events in the order of their streams. Each look-up is lateral, so that a plan made while a table was small never reads
# the whole of it.
_LOAD = """
with locked as materialized (
    select distinct q.merchant_id, q.order_id, e.originator_id
      from jsonb_to_recordset(%(asked)s::jsonb->'orders') as q (merchant_id text, order_id text)
     cross join lateral (select originator_id from events
                          where topic = 'coupon.locked'
                            and order_of_lock(state) = q.merchant_id || E'\\n' || q.order_id) e
)
select 'clock', '', 0::bigint, '', null::bytea, clock_timestamp()
union all
select 'stock', batch_id, quantity - issued, v.version::text, null, null
  from batch_stock
 cross join lateral (select max(originator_version) as version from events
                      where originator_id = 'batch-' || batch_id) v
 where batch_id = any(array(select value->>'batch_id' from jsonb_array_elements(%(asked)s::jsonb->'shares')))
union all
select 'quota', q.batch_id, s.issued, q.user_id, null, null
  from jsonb_to_recordset(%(asked)s::jsonb->'shares') as q (batch_id text, user_id text)
 cross join lateral (select issued from user_quota s
                      where s.batch_id = q.batch_id and s.user_id = q.user_id limit 1) s
union all
select 'answer', q.merchant_id, r.position, q.request_id, convert_to(r.body_hash || ' ' || r.answer, 'utf8'), null
  from jsonb_to_recordset(%(asked)s::jsonb->'requests') as q (merchant_id text, request_id text)
 cross join lateral (select * from requests r
                      where r.merchant_id = q.merchant_id and r.request_id = q.request_id limit 1) r
union all
select 'order', merchant_id, 0, order_id, convert_to(originator_id, 'utf8'), null from locked
union all
(select 'event', originator_id, originator_version, topic, state, null
   from events where originator_id = any(array(select jsonb_array_elements_text(%(asked)s::jsonb->'streams')
                                 union select originator_id from locked))
  order by originator_id, originator_version)
"""


def _is_lost(error: BaseException | None) -> bool:
    """Whether the connection broke, which tells nothing of what was done; otherwise nothing was."""
    if isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return True  # the session ended, perhaps while it committed: so it is when the server's own log has no room
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PoolClosed | PoolTimeout):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
