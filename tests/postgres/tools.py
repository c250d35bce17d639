"""Tools of the tests on PostgreSQL: callers at once, the writers' lock, a wire to cut, and pictures of all tables."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ledger.database import Database
from ledger.errors import LedgerError
from ledger.events import Recorded
from ledger.store import Store

T = TypeVar("T")

WRITERS_LOCK = "select pg_advisory_xact_lock('events'::regclass::oid::bigint)"
"""The lock that commit_group takes before it writes."""


def at_once(count: int, ask: Callable[[int], T]) -> list[T | LedgerError]:
    """What callers get who all ask at the same moment, each from a thread of its own."""
    start = threading.Barrier(count)

    def call(number: int) -> T | LedgerError:
        start.wait()
        try:
            return ask(number)
        except LedgerError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


@contextmanager
def writers_blocked(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Hold the writers' lock, so that every commit waits."""
    with database.connect() as connection, connection.transaction():
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        connection.execute(WRITERS_LOCK)
        yield connection


def wait_for_writers(database: Database, count: int = 1) -> list[int]:
    """The process ids of that many backends that wait for the writers' lock."""
    query = (
        "select pid from pg_locks where locktype = 'advisory' and not granted"
        " and objid = ('events'::regclass::oid::bigint & 4294967295)::oid"
    )
    with database.connect() as connection:
        for _ in range(500):
            pids = [row[0] for row in connection.execute(query)]
            if len(pids) >= count:
                return pids
            connection.execute("select pg_sleep(0.01)")
    raise AssertionError("nobody waits for the writers' lock")


def terminate(database: Database, pids: list[int]) -> None:
    """End backends as an administrator does, and wait until they are gone."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        for pid in pids:
            connection.execute("select pg_terminate_backend(%s, 5000)", (pid,))


def whole_log(store: Store) -> list[Recorded]:
    """Every event."""
    with store.connection() as connection:
        return list(store.read(connection, 0, 1_000_000))


def picture(database: Database) -> dict[str, list[Any]]:
    """Every row of every table of the schema."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = %s order by 1", (database.schema,)
        ).fetchall()
        return {
            table: connection.execute(
                sql.SQL("select t::text from {} t order by 1").format(sql.Identifier(database.schema, table))
            ).fetchall()
            for (table,) in tables
        }


GUARDS_FROM_EVENTS = {
    "batch_stock": """
        select b.originator_id, q.quantity, coalesce(i.issued, 0)
          from (select distinct originator_id from events where topic like 'batch.%%') b
          join lateral (select (convert_from(state, 'utf8')::json->>'quantity')::bigint as quantity from events
                         where originator_id = b.originator_id
                           and topic in ('batch.created', 'batch.quantity_changed')
                         order by originator_version desc limit 1) q on true
          left join (select 'batch-' || (convert_from(state, 'utf8')::json->>'batch_id') as batch, count(*) as issued
                       from events where topic = 'coupon.issued' group by 1) i on i.batch = b.originator_id
        except all select 'batch-' || batch_id, quantity, issued from batch_stock where batch_id not like ' %%'""",
    "user_quota": """
        select c.batch_id, c.user_id, c.issued
          from (select convert_from(state, 'utf8')::json->>'batch_id' as batch_id,
                       convert_from(state, 'utf8')::json->>'user_id' as user_id, count(*)::int as issued
                  from events where topic = 'coupon.issued' group by 1, 2) c
          join events b on b.originator_id = 'batch-' || c.batch_id and b.originator_version = 1
         where convert_from(b.state, 'utf8')::json->>'per_user_limit' is not null
        except all select batch_id, user_id, issued from user_quota
                    where batch_id not like ' %%' and user_id not like ' %%'""",
}


def assert_guards_equal_events(database: Database) -> None:
    """Compute the guards of stock and users again from the log, both ways.

    Keys that begin with a space are of other limits: tests/postgres/test_limits.py counts those.
    """
    with database.connect() as connection:
        for table, query in GUARDS_FROM_EVENTS.items():
            recomputed, stored = query.split("except all")
            missing = connection.execute(query.replace("%%", "%")).fetchall()
            extra = connection.execute(f"{stored} except all {recomputed}".replace("%%", "%")).fetchall()
            assert (table, missing, extra) == (table, [], [])


class Wire:
    """A socket between the ledger and its server, so that a test can take the server away.

    ``url`` leads through it. ``cut()`` ends what is open and refuses what comes; ``lose_reply()`` ends a connection
    in place of its next reply, as when the network breaks after a commit; ``mute()`` swallows replies and ends
    nothing, as a network does that drops packets; ``mend()`` makes it whole again.
    """

    def __init__(self, url: str) -> None:
        self._target = conninfo_to_dict(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = psycopg.conninfo.make_conninfo(
            url, host="127.0.0.1", hostaddr="", port=self._listener.getsockname()[1], sslmode="disable"
        )
        self._open: list[socket.socket] = []
        self._whole, self._lost, self._mute = True, False, False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._end(self._listener)
        self._listener.close()

    def cut(self) -> None:
        self._whole = False
        self._end(*self._open)
        self._open.clear()

    def lose_reply(self) -> None:
        self._lost = True

    def mute(self) -> None:
        self._mute = True

    def mend(self) -> None:
        self._whole, self._lost, self._mute = True, False, False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole:
                client.close()
                continue
            server = self._connect()
            self._open += [client, server]
            threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._target.get("host") or "127.0.0.1"), int(self._target.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _carry(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        try:
            while data := source.recv(65_536):
                if replies and self._lost:
                    break
                if not (replies and self._mute):
                    sink.sendall(data)
        except OSError:
            pass  # the other direction ended both
        self._end(source, sink)
        source.close()

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
