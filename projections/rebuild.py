"""Rebuild: a read model folded again from the first event, beside the live one, then put in its place.

The same path serves a table that is in doubt, a read model that is FAULTED, and a new version. Readers see the old
table until the flip, which is one transaction; writes and the live runner go on meanwhile. The table of before is
kept, so that ``switch_back`` can put it in place again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ledger.database import Database
from ledger.errors import LedgerError
from projections import checkpoints, faults
from projections.difference import Difference, difference
from projections.faults import Unfoldable
from projections.flip import ReadInTheWay, drop, drop_tables, exists, flip
from projections.projection import Projection
from projections.refold import Progress, Refold

Connection = psycopg.Connection[Any]


class RebuildRunning(LedgerError):
    """This read model is being rebuilt or switched back by somebody else."""


class NothingBefore(LedgerError):
    """No table of before is kept for this read model."""


class OtherRelease(LedgerError):
    """The table of before has a version that this release cannot fold."""


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
    """``rebuild_each`` of one read model. Raises what stood in its way."""
    [done] = rebuild_each(database, [projection], progress, fold_skipped_by=fold_skipped_by)
    if isinstance(done, LedgerError):
        raise done
    return done


def rebuild_each(
    database: Database,
    projections: Sequence[Projection],
    progress: Progress = lambda _done, _total: None,
    *,
    fold_skipped_by: str | None = None,
) -> Iterator[Rebuilt | Unfoldable | ReadInTheWay]:
    """Fold read models again and flip to the results, which are right by definition: they are the log's.

    They are told one by one, as they are done. One that cannot be folded, or whose place is not free, stays as it was,
    and the others go on. The log is read once for all, up to where the first of them is compared with its live table;
    but again for each that an event had stopped, which is compared where it stopped.

    ``progress(done, total)`` counts positions. ``fold_skipped_by`` is who has the events folded that this version was
    let pass over: with the flip, that is taken back on the record. Raises ``RebuildRunning`` before it begins. It does
    not matter whether a runner runs.
    """
    checkpoints.install(database, projections)
    with _claimed(database, projections) as connection:
        refold = partial(Refold, database, connection, fold_skipped=fold_skipped_by is not None)
        tables = {projection: f"{projection.table}_rebuild" for projection in projections}
        try:
            for projection, table in tables.items():
                drop_tables(connection, projection.name, "rebuild")
                with connection.transaction():
                    projection.create_table(connection, table)
            stopped = _stopped(connection, projections)
            with closing(refold({each: table for each, table in tables.items() if each not in stopped})) as together:
                yield from _fold_together(together, _first_compared(connection, together.tables), progress)
            begin = dict.fromkeys(together.tables, together.position) | dict.fromkeys(stopped, 0)
            for projection, position in begin.items():
                table = tables[projection]
                with closing(refold({projection: table}, position=position)) as fold:
                    try:
                        yield _finish(connection, fold, projection, table, progress, fold_skipped_by)
                    except (Unfoldable, ReadInTheWay) as error:
                        yield error
        finally:
            if not connection.closed:
                for table in tables.values():
                    drop(connection, table)


def _stopped(connection: Connection, projections: Iterable[Projection]) -> list[Projection]:
    """Those that an event stopped in this version."""
    running = checkpoints.running(connection)
    live = {projection: checkpoints.at(connection, projection.name)[0] for projection in projections}
    return [each for each, version in live.items() if version == each.version and (each.name, version) not in running]


def _first_compared(connection: Connection, projections: Iterable[Projection]) -> int:
    """The first position at which a table is compared with its live one; the head where none will be."""
    live = {projection: checkpoints.at(connection, projection.name) for projection in projections}
    compared = [position for projection, (version, position) in live.items() if version == projection.version]
    return min(compared, default=checkpoints.head(connection))


def _fold_together(fold: Refold, position: int, progress: Progress) -> Iterator[Unfoldable]:
    """Fold all up to a position but those that cannot be, which are told and left."""
    while fold.tables and fold.position < position:
        try:
            fold.fold_to(position, progress)
        except Unfoldable as error:
            fold.leave([projection for projection in fold.tables if projection.name == error.facts["name"]])
            yield error


def _finish(
    connection: Connection,
    fold: Refold,
    projection: Projection,
    table: str,
    progress: Progress,
    fold_skipped_by: str | None,
) -> Rebuilt:
    """Compare a table with the live one, and put it in its place."""
    folded_again = 0

    def take_back() -> None:
        nonlocal folded_again
        if fold_skipped_by is not None:
            folded_again = faults.take_back(connection, projection.name, projection.version, fold_skipped_by)

    version, position = checkpoints.at(connection, projection.name)
    found = None
    if version == projection.version and exists(connection, projection.table):
        fold.fold_to(position, progress)
        found = _compared(connection, fold, projection, table)
    rows = found.folded_rows if found else _count(connection, table)
    flip(connection, fold, projection, table, partial(checkpoints.head, connection), progress, settle=take_back)
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
    with _claimed(database, [projection]) as connection:
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

        with closing(Refold(database, connection, {projection: table}, position=position)) as fold:
            # No further than the live one: what stopped that one may stop this one too.
            reach = partial(_position, connection, projection.name)
            flip(connection, fold, projection, table, reach, progress, moved)
            return SwitchedBack(
                name=projection.name, version=version, position=fold.position, folded=fold.position - position
            )


def drop_before(database: Database, projection: Projection) -> None:
    """Free the room of the table of before, and of what rebuilds left that died.

    Raises ``RebuildRunning``, or ``NothingBefore``.
    """
    with _claimed(database, [projection]) as connection, connection.transaction():
        kept = connection.execute("delete from projections_before where name = %s", (projection.name,)).rowcount
        if not drop_tables(connection, projection.name, "before|rebuild") + kept:
            raise NothingBefore(name=projection.name)


@contextmanager
def _claimed(database: Database, projections: Sequence[Projection]) -> Iterator[Connection]:
    """A session that alone may replace the tables of these read models."""
    with checkpoints.connect(database) as connection:
        connection.execute("set statement_timeout = 0")
        for projection in projections:
            claim = "select pg_try_advisory_lock('projection_checkpoints'::regclass::oid::int, hashtext(%s))"
            [(claimed,)] = checkpoints.rows(connection, claim, (projection.name,))
            if not claimed:
                text = f"{projection.name} is being rebuilt or switched back by somebody else"
                raise RebuildRunning(text, name=projection.name)
        yield connection


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
