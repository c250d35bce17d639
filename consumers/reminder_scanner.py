"""The scanner of reminders: sends what is due to ``coupons.reminders.v1``, and takes it out of the read model.

It finds what is due by an index, and never looks at a coupon. What it was killed over is sent again under the same id,
which has no second effect. Of several processes one works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import orjson
import psycopg
from kafka.errors import KafkaError
from psycopg.rows import class_row

from consumers.messages import Wire, encode
from consumers.outlet import Outlet
from consumers.patience import keep_doing
from consumers.payloads import ReminderDue
from consumers.topics import REMINDERS
from ledger.errors import ServiceError
from ledger.store import Store
from ledger.telling.reminding import NEWS_DAYS, Due, ReminderType

SOURCE = "/coupon-ledger/reminders"
GROUP_LIMIT = 500
"""Reminders of one transaction; their acknowledgements are awaited together."""
PURGE_LIMIT = 5_000
PURGE_SECONDS = 60.0
KEPT_DAYS = NEWS_DAYS + 1
"""For so long after its end a reminder is known as sent and told. Then nobody would be told of it any more."""
IDLE_SECONDS = 0.5

Connection = psycopg.Connection[Any]


class Row(NamedTuple):
    """A reminder that is due."""

    merchant_id: str
    user_id: str
    batch_id: str
    notify_day: date
    type: ReminderType
    due_at: datetime
    ends_at: datetime
    coupon_ids: list[str]
    sent: bool
    """Whether it was sent before, and nothing more is to be done than to take the row away."""


class Scanner:
    """Sends what is due. The store is the projector's, whose rows it takes away."""

    def __init__(
        self, store: Store, bootstrap: str | list[str], *, prefix: str = "", kafka: Mapping[str, Any] | None = None
    ) -> None:
        """``kafka`` holds settings of kafka-python's clients, such as security."""
        self._store = store
        self._outlet = Outlet(bootstrap, f"{prefix}{REMINDERS}", kafka or {})
        self._purge_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Scan until told to stop; the reminders in hand are finished first.

        The database and the broker may come and go: the same reminders are sent again.
        """

        def step() -> float:
            if self.step():
                return 0.0
            self._purge_now_and_then()
            return IDLE_SECONDS

        # Without the read model's view the projections have not been started yet.
        keep_doing("reminders", step, stop, (ServiceError, KafkaError, psycopg.errors.UndefinedTable))
        self._outlet.close()

    def step(self) -> int:
        """Send some of what is due, and say how many reminders.

        0 where nothing is, where another process works, and while the read model is rebuilt, so that what is compared
        there holds still. Raises ``Unavailable`` or ``KafkaError``; all is then as it was, or is sent again.
        """
        with self._store.connection() as connection, connection.transaction():
            connection.execute(_PLANS)
            [turn] = connection.execute(_TURN, prepare=True).fetchall()
            if not turn["mine"] or _is_rebuilt(connection):
                return 0
            rows = connection.cursor(row_factory=class_row(Row)).execute(_DUE, (GROUP_LIMIT,), prepare=True).fetchall()
            if not rows:
                return 0
            self._outlet.send([_message(row) for row in rows if not row.sent])
            # While this is held nothing is folded, so a row and its mark never stand beside each other.
            connection.execute("select from projection_checkpoints where name = 'reminders' for update")
            if _is_rebuilt(connection):
                return 0
            keys = [[*row[:5], row.ends_at] for row in rows]
            connection.execute(_DONE, (orjson.dumps(keys).decode(),), prepare=True)
            return len(rows)

    def purge(self) -> int:
        """Forget some reminders that nobody would be told of any more, and say how many rows went."""
        with self._store.connection() as connection:
            parameters = {"days": KEPT_DAYS, "limit": PURGE_LIMIT}
            return (
                connection.execute(_PURGE_SENT, parameters).rowcount
                + connection.execute(_PURGE_TOLD, parameters).rowcount
            )

    def _purge_now_and_then(self) -> None:
        if time.monotonic() >= self._purge_at and not self.purge():
            self._purge_at = time.monotonic() + PURGE_SECONDS


def _is_rebuilt(connection: Connection) -> bool:
    [row] = connection.execute(_REBUILT, prepare=True).fetchall()
    return bool(row["rebuilt"])


def _message(row: Row) -> Wire:
    due_at, ends_at = row.due_at.astimezone(UTC), row.ends_at.astimezone(UTC)
    wallet = row.merchant_id, row.user_id, row.batch_id
    due = Due(*wallet, row.notify_day, row.type, ends_at, tuple(row.coupon_ids))
    payload = ReminderDue(
        merchant_id=due.merchant_id,
        user_id=due.user_id,
        batch_id=due.batch_id,
        reminder=due.type,
        notify_day=due.day,
        ends_at=ends_at,
        coupon_ids=list(due.coupon_ids),
    )
    return encode(payload, source=SOURCE, id=due.id, time=due_at)


def run(store: Store, bootstrap: str | list[str], stop: threading.Event, *, prefix: str = "") -> None:
    """Scan until told to stop, in a process of its own."""
    Scanner(store, bootstrap, prefix=prefix).run(stop)


# Plans made while a table was small must not outlive its growth: every look-up is by a key. What the scanner waits for,
# the projector holds as long as it folds a chunk.
_PLANS = """
set local enable_seqscan = off;
set local enable_hashjoin = off;
set local enable_mergejoin = off;
set local lock_timeout = '5s';
"""

_TURN = "select pg_try_advisory_xact_lock('reminders_sent'::regclass::oid::int, 0) as mine"

# projections/rebuild.py holds this lock for as long as it works.
_REBUILT = """
select exists(
    select from pg_locks
     where locktype = 'advisory' and granted and objsubid = 2
       and database = (select oid from pg_database where datname = current_database())
       and classid = 'projection_checkpoints'::regclass::oid
       and objid = (hashtext('reminders')::bigint & 4294967295)::oid) as rebuilt
"""

_DUE = """
select merchant_id, user_id, batch_id, notify_day, type, due_at, ends_at,
       array(select jsonb_object_keys(coupons) limit 100) as coupon_ids,
       exists(select from reminders_sent s
               where s.merchant_id = r.merchant_id and s.user_id = r.user_id and s.batch_id = r.batch_id
                 and s.notify_day = r.notify_day and s.type = r.type) as sent
  from reminders r
 where due_at <= now()
 order by due_at limit %s
"""

_DONE = """
with done as (
    select c->>0 as merchant_id, c->>1 as user_id, c->>2 as batch_id, (c->>3)::date as notify_day, c->>4 as type,
           (c->>5)::timestamptz as ends_at
      from jsonb_array_elements(%s::jsonb) c
), sent as (
    insert into reminders_sent (merchant_id, user_id, batch_id, notify_day, type, ends_at)
    select * from done on conflict do nothing
)
delete from reminders r using done d
 where r.merchant_id = d.merchant_id and r.user_id = d.user_id and r.batch_id = d.batch_id
   and r.notify_day = d.notify_day and r.type = d.type
"""

_PURGE_SENT = """
delete from reminders_sent where ctid = any(array(
    select ctid from reminders_sent where ends_at < now() - make_interval(days => %(days)s) limit %(limit)s))
"""

_PURGE_TOLD = """
delete from reminders_told where ctid = any(array(
    select ctid from reminders_told where ends_at < now() - make_interval(days => %(days)s) limit %(limit)s))
"""
