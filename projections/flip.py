"""The flip: a table takes the live one's place in one transaction, and the live one is kept beside it.

Readers see the old table until then, and wait for a moment at most. A long read is waited for, not ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from ledger.errors import LedgerError
from projections import analytics, checkpoints
from projections.projection import Projection
from projections.refold import Progress, Refold

LIMIT_SECONDS = 900.0
"""Longer than an analyst's transaction may last. What was folded for an hour is not to be lost to a long read."""
PAUSE_SECONDS = 1.0

Connection = psycopg.Connection[Any]
log = logging.getLogger(__name__)


class ReadInTheWay(LedgerError):
    """Somebody reads this read model for too long for another table to take its place."""


def flip(
    connection: Connection,
    fold: Refold,
    projection: Projection,
    table: str,
    reach: Callable[[], int],
    progress: Progress,
    moved: Callable[[int], None] = lambda _position: None,
    settle: Callable[[], None] = lambda: None,
) -> None:
    """Put the table in the live one's place, at the same position or a later one. ``settle`` is of that transaction.

    Raises ``ReadInTheWay``, or ``Unfoldable``; then all stays as it was.
    """
    give_up_at = time.monotonic() + LIMIT_SECONDS
    reads = set[tuple[Any, ...]]()
    told: list[int] = []
    while True:
        fold.fold_to(reach(), progress, moved)  # so that little is left to fold while the runner waits
        position = fold.position
        try:
            with connection.transaction():
                _flip_now(connection, fold, projection, table, progress)
                settle()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            # A long read of the old table is in the way. It must not cost the whole rebuild, nor may we wait for it
            # for long, because everybody else queues behind us.
            fold.position = position
            before, reads = reads, set(checkpoints.rows(connection, _READS, (projection.name,)))
            sessions = sorted(pid for pid, _ in reads & before)  # others only happened to read just now
            if time.monotonic() > give_up_at:
                text = f"{projection.name} is still being read by the sessions {sessions}: nothing was changed"
                raise ReadInTheWay(text, name=projection.name, sessions=sessions) from None
            if sessions != told:
                log.warning("the new table of %s waits for the reads of the sessions %s", projection.name, sessions)
            told = sessions
            time.sleep(PAUSE_SECONDS)


def _flip_now(connection: Connection, fold: Refold, projection: Projection, table: str, progress: Progress) -> None:
    name = projection.name
    # The runner moves its checkpoint before it writes, so with this row locked it is not writing.
    connection.execute("select from projection_checkpoints where name = %s for update", (name,))
    version, position = checkpoints.at(connection, name)
    fold.fold_to(position, progress)
    live = f"{name}_v{version}"
    connection.execute(_BRIEFLY)
    if exists(connection, name):
        # First the view and then its table, as a reader takes them.
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(name)))
    _rename(connection, table, f"{name}_next")
    connection.execute("delete from projections_before where name = %s", (name,))
    drop_tables(connection, name, "before|rebuild")
    if exists(connection, live):
        _rename(connection, live, f"{live}_before")
        connection.execute(
            "insert into projections_before (name, version, position) values (%s, %s, %s)", (name, version, position)
        )
    _rename(connection, f"{name}_next", projection.table)
    connection.execute("delete from projection_checkpoints where name = %s", (name,))
    connection.execute(
        "insert into projection_checkpoints (name, version, position) values (%s, %s, %s)",
        (name, projection.version, fold.position),
    )
    projection.show(connection)
    analytics.show(connection)


def drop_tables(connection: Connection, name: str, kinds: str) -> int:
    """Drop what there is beside a read model's live table, of any version: ``before``, ``rebuild``. How many.

    Whoever has the claim knows that a table of a rebuild is one that died.
    """
    found = checkpoints.rows(connection, _BESIDE, (f"{name}_v[0-9]+_({kinds})",))
    for (table,) in found:
        drop(connection, table)
    return len(found)


def drop(connection: Connection, table: str) -> None:
    """Drop a table if it is there, with all that looks at it."""
    connection.execute(sql.SQL("drop table if exists {} cascade").format(sql.Identifier(table)))


def exists(connection: Connection, table: str) -> bool:
    """Whether there is such a table or view."""
    [(found,)] = checkpoints.rows(connection, "select to_regclass(quote_ident(%s)) is not null", (table,))
    return bool(found)


def _rename(connection: Connection, table: str, to: str) -> None:
    names = {"table": sql.Identifier(table), "to": sql.Identifier(to)}
    connection.execute(sql.SQL("alter table {table} rename to {to}").format(**names))


# Readers wait behind us for a moment only: less than the second after which PostgreSQL looks for a deadlock, so that
# where there is one it is the flip that gives way, and tries again. A flip that was told of is not lost in a crash.
_BRIEFLY = """
set local lock_timeout = '500ms';
set local synchronous_commit = on;
"""

# By their transactions, which tell one long read from many short ones of the same session.
_READS = """
select l.pid, l.virtualtransaction
  from pg_locks l join pg_class c on c.oid = l.relation
 where l.granted and l.pid <> pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
   and c.relnamespace = current_schema()::regnamespace and c.relname ~ ('^' || %s || '(_v[0-9]+(_before)?)?$')
 group by l.pid, l.virtualtransaction
"""

_BESIDE = """
select relname from pg_class
 where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname ~ ('^' || %s || '$')
"""
