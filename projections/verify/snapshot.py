"""One moment of the database, held still for reading while writers go on, and tables of the session's own beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ledger.database import Database

Connection = psycopg.Connection[tuple[Any, ...]]

# Reading the whole log is no request's time. Nothing here is found by key alone, so plans are made for what is there,
# and a cursor that is read to its end is planned for that.
_SESSION = """
set application_name = 'coupon-ledger verify';
set statement_timeout = 0;
set transaction_timeout = 0;
set idle_in_transaction_session_timeout = 0;
set plan_cache_mode = auto;
set cursor_tuple_fraction = 1.0;
set work_mem = '256MB';
set jit = off;
set client_min_messages = error;
"""

# What the log says that guards should count, for the database to compare: it spills to disk where memory would not do.
_BOOKS = {
    # Who is counted for what: the owners of ledger/limits.py. most is null where no limit is meant.
    "owed": "batch_id text, owner text, position bigint, most bigint",
    # Whose request each event was: alone is 1 where a coupon's own id guards against repeats, 2 for an expiry.
    "asked": "merchant_id text, request_id text, position bigint, alone smallint",
    # Uses: no two have one id.
    "redeemed": "redemption_id text, position bigint",
    # Coupons for which a code was exchanged that is good for one.
    "exchanged": "stream text, codes_id text, batch_id text, position bigint",
}


class Moment(NamedTuple):
    """What is looked at."""

    connection: Connection
    head: int
    """The last position of the log."""
    now: datetime
    """By the database clock."""


@contextmanager
def moment(database: Database) -> Iterator[Moment]:
    """A session whose reads all see one moment; it takes no lock that a writer waits for, and writes nothing."""
    with database.connect() as connection:
        connection.execute(_SESSION)
        for name, columns in _BOOKS.items():
            query = sql.SQL("create temporary table {} ({})").format(sql.Identifier(name), sql.SQL(columns))
            connection.execute(query)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            [(head, now)] = rows(connection, "select coalesce(max(notification_id), 0), clock_timestamp() from events")
            yield Moment(connection, head, now)


def rows(connection: Connection, query: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.cursor(row_factory=tuple_row).execute(query, parameters).fetchall()


def streamed(connection: Connection, query: Any, parameters: Any = None, size: int = 10_000) -> Iterator[Any]:
    """The rows of a query that may have any number of them."""
    with connection.cursor(name="verify_rows", row_factory=tuple_row) as cursor:
        cursor.itersize = size
        cursor.execute(query, parameters)
        yield from cursor


class Books:
    """What is told to the session's own tables, some thousand rows at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.owed: list[tuple[str, str, int, int | None]] = []
        self.asked: list[tuple[str, str, int, int]] = []
        self.redeemed: list[tuple[str, int]] = []
        self.exchanged: list[tuple[str, str, str, int]] = []

    def write(self) -> None:
        """Put what was told so far into the tables."""
        for name in _BOOKS:
            told: list[Any] = getattr(self, name)
            if told:
                self._copy(name, told)
                told.clear()

    def close(self) -> None:
        """Write the rest, and let the planner know how much it is."""
        self.write()
        for name in _BOOKS:
            self._connection.execute(sql.SQL("analyze {}").format(sql.Identifier(name)))

    def _copy(self, name: str, told: list[Any]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(told)
        # An id of a log that was meddled with may hold what PostgreSQL takes in no text.
        block = text.getvalue().replace("\x00", "\\0")
        query = sql.SQL("copy {} from stdin (format csv, force_not_null ({}))").format(
            sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, _TEXTS[name]))
        )
        with self._connection.cursor().copy(query) as copy:
            copy.write(block)


# An empty text is one, and no null.
_TEXTS = {
    name: [column.split()[0] for column in columns.split(", ") if column.endswith(" text")]
    for name, columns in _BOOKS.items()
}
