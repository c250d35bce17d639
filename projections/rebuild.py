"""Rebuild: a read model folded again from the first event, beside the live one, then put in its place.

The same path serves a table that is in doubt, a read model that is FAULTED, and a new version. Readers see the old
table until the flip, which is one transaction; writes and the live runner go on meanwhile. The table of before is
kept, so that ``switch_back`` can put it in place again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ledger.database import Database
from ledger.errors import LedgerError
from projections import analytics, checkpoints, faults
from projections.difference import Difference, difference
from projections.projection import Projection
from projections.refold import Progress, Refold

FLIP_LIMIT_SECONDS = 900.0
"""Longer than an analyst's transaction may last. What was folded for an hour is not to be lost to a long read."""
FLIP_PAUSE_SECONDS = 1.0

Connection = psycopg.Connection[Any]
log = logging.getLogger(__name__)


class RebuildRunning(LedgerError):
    """This read model is being rebuilt or switched back by somebody else."""


class NothingBefore(LedgerError):
    """No table of before is kept for this read model."""


class OtherRelease(LedgerError):
    """The table of before has a version that this release cannot fold."""


class ReadInTheWay(LedgerError):
    """Somebody reads this read model for too long for another table to take its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did."""

    name: str
    version: int
    position: int
    """Of the log, at the flip."""
    rows: int
    """Of the new table, where it was compared."""
    difference: Difference | None
    """From the live table at one position; ``None`` when that is of another version."""
    skips: int
    """Events that were passed over, because an operator let this version pass over them."""
    folded_again: int
    """Events of which that was taken back, because they were folded."""
    skips_before: int
    """Events that the live table, of another version, was let pass over, and that were folded into the new one."""

    @property
    def same(self) -> bool | None:
        """Whether the live table held exactly these rows; ``None`` when it is of another version."""
        return None if self.difference is None else self.difference.differing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedBack:
    """What a switch back did."""

    name: str
    version: int
    position: int
    """Of the log, at the flip."""
    folded: int
    """Events that came since the table was put aside, and were folded into it first."""


def rebuild(
    database: Database,
    projection: Projection,
    progress: Progress = lambda _done, _total: None,
    *,
    fold_skipped_by: str | None = None,
) -> Rebuilt:
    """Fold the read model again and flip to the result, which is right by definition: it is the log's.

    ``progress(done, total)`` counts positions. ``fold_skipped_by`` is who has the events folded that this version was
    let pass over: with the flip, that is taken back on the record. Raises ``RebuildRunning``, ``ReadInTheWay``, or
    ``Unfoldable``; then all stays as it was. It does not matter whether a runner runs.
    """
    folded_again = 0

    def take_back() -> None:
        nonlocal folded_again
        if fold_skipped_by is not None:
            folded_again = faults.take_back(connection, projection.name, projection.version, fold_skipped_by)

    checkpoints.install(database, [projection])
    with _claimed(database, projection) as connection:
        table = f"{projection.table}_rebuild"
        _drop(connection, table)
        try:
            with connection.transaction():
                projection.create_table(connection, table)
            with _refold(database, connection, projection, table, 0, fold_skipped_by is not None) as fold:
                version, position = checkpoints.at(connection, projection.name)
                fold.fold_to(position, progress)
                comparable = version == projection.version and _exists(connection, projection.table)
                found = _compared(connection, fold, projection, table) if comparable else None
                rows = found.folded_rows if found else _count(connection, table)
                reach = partial(checkpoints.head, connection)
                _flip(connection, fold, projection, table, reach, progress, settle=take_back)
        except BaseException:
            if not connection.closed:
                _drop(connection, table)
            raise
        others = len(faults.skipped(connection, projection.name, version)) if version != projection.version else 0
        return Rebuilt(
            name=projection.name,
            version=projection.version,
            position=fold.position,
            rows=rows,
            difference=found,
            skips=fold.skips,
            folded_again=folded_again,
            skips_before=others,
        )


def switch_back(
    database: Database, projection: Projection, progress: Progress = lambda _done, _total: None
) -> SwitchedBack:
    """Put the table of before in place again, folded up to where the live one is, and keep the live one as it.

    So a second switch back undoes the first. Raises ``RebuildRunning``, ``NothingBefore``, ``OtherRelease`` when the
    table is of a version that this release does not fold, ``ReadInTheWay``, or ``Unfoldable``; then all stays as it
    was.
    """
    with _claimed(database, projection) as connection:
        version, position = _before(connection, projection.name)
        if version != projection.version:
            raise OtherRelease(
                f"the table of before is version {version} and this release folds version {projection.version}:"
                f" switch back with the release that folds version {version}",
                name=projection.name,
            )
        table = f"{projection.table}_before"

        def moved(to: int) -> None:
            connection.execute("update projections_before set position = %s where name = %s", (to, projection.name))

        with _refold(database, connection, projection, table, position) as fold:
            # No further than the live one: what stopped that one may stop this one too.
            reach = partial(_position, connection, projection.name)
            _flip(connection, fold, projection, table, reach, progress, moved)
            return SwitchedBack(
                name=projection.name, version=version, position=fold.position, folded=fold.position - position
            )


def drop_before(database: Database, projection: Projection) -> None:
    """Free the room of the table of before. Raises ``RebuildRunning`` or ``NothingBefore``."""
    with _claimed(database, projection) as connection, connection.transaction():
        version, _ = _before(connection, projection.name)
        connection.execute("delete from projections_before where name = %s", (projection.name,))
        _drop(connection, f"{projection.name}_v{version}_before")


@contextmanager
def _claimed(database: Database, projection: Projection) -> Iterator[Connection]:
    """A session that alone may replace the read model's table."""
    with checkpoints.connect(database) as connection:
        connection.execute("set statement_timeout = 0")
        key = (projection.name,)
        claim = "select pg_try_advisory_lock('projection_checkpoints'::regclass::oid::int, hashtext(%s))"
        [(claimed,)] = checkpoints.rows(connection, claim, key)
        if not claimed:
            raise RebuildRunning(name=projection.name)
        yield connection


@contextmanager
def _refold(
    database: Database,
    connection: Connection,
    projection: Projection,
    table: str,
    position: int,
    fold_skipped: bool = False,
) -> Iterator[Refold]:
    fold = Refold(database, connection, {projection: table}, position=position, fold_skipped=fold_skipped)
    try:
        yield fold
    finally:
        fold.close()


def _position(connection: Connection, name: str) -> int:
    _, position = checkpoints.at(connection, name)
    return position


def _before(connection: Connection, name: str) -> tuple[int, int]:
    """Version and position of the table of before."""
    found = checkpoints.rows(connection, "select version, position from projections_before where name = %s", (name,))
    if not found:
        raise NothingBefore(name=name)
    [(version, position)] = found
    return version, position


def _drop(connection: Connection, table: str) -> None:
    connection.execute(sql.SQL("drop table if exists {} cascade").format(sql.Identifier(table)))


def _count(connection: Connection, table: str) -> int:
    [(count,)] = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchall()
    return int(count)


def _compared(connection: Connection, fold: Refold, projection: Projection, table: str) -> Difference:
    """The live table and the new one, in one snapshot and at one position: the new one is folded up to it."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        _, position = checkpoints.at(connection, projection.name)
        fold.fold_to(position)
        return difference(connection, projection, sql.Identifier(projection.table), sql.Identifier(table))


def _flip(
    connection: Connection,
    fold: Refold,
    projection: Projection,
    table: str,
    reach: Callable[[], int],
    progress: Progress,
    moved: Callable[[int], None] = lambda _position: None,
    settle: Callable[[], None] = lambda: None,
) -> None:
    """Put the table in the live one's place, at the same position or a later one. ``settle`` is of that transaction."""
    give_up_at = time.monotonic() + FLIP_LIMIT_SECONDS
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
            time.sleep(FLIP_PAUSE_SECONDS)


def _flip_now(connection: Connection, fold: Refold, projection: Projection, table: str, progress: Progress) -> None:
    name = projection.name
    # The runner moves its checkpoint before it writes, so with this row locked it is not writing.
    connection.execute("select from projection_checkpoints where name = %s for update", (name,))
    version, position = checkpoints.at(connection, name)
    fold.fold_to(position, progress)
    live = f"{name}_v{version}"
    connection.execute(_BRIEFLY)
    if _exists(connection, name):
        # First the view and then its table, as a reader takes them.
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(name)))
    _rename(connection, table, f"{name}_next")
    connection.execute("delete from projections_before where name = %s", (name,))
    for (kept,) in checkpoints.rows(connection, _KEPT, (f"{name}_v[0-9]+_before",)):
        _drop(connection, kept)
    if _exists(connection, live):
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


def _exists(connection: Connection, table: str) -> bool:
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

_KEPT = """
select relname from pg_class
 where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname ~ ('^' || %s || '$')
"""
