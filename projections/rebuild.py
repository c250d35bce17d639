"""Rebuild: a projection folded again from the first event, beside the live one, then put in its place.

The same path serves a table that is in doubt, a projection that is FAULTED, and a new version. Readers see the old
table until the flip; writes and the live runner go on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ledger.database import Database
from ledger.errors import LedgerError
from ledger.store import Store
from projections import checkpoints
from projections.chunk import read_chunk, times_as_text
from projections.projection import Projection
from projections.runner import CHUNK_EVENTS

FLIP_ATTEMPTS = 30
FLIP_PAUSE_SECONDS = 1.0

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]


class RebuildRunning(LedgerError):
    """This projection is being rebuilt by somebody else."""


class Digest(NamedTuple):
    """What a table holds, whatever the order of its rows."""

    rows: int
    hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did."""

    name: str
    version: int
    position: int
    """Of the log, at the flip."""
    rows: int
    """Compared, or of the log up to the old version's position."""
    same: bool | None
    """Whether the live table held exactly these rows; ``None`` when it is of another version."""


class _Shadow:
    """The table that is being filled, and how far it is."""

    def __init__(self, database: Database, projection: Projection, connection: Connection) -> None:
        self.projection = projection
        self.connection = connection
        self.table = f"{projection.table}_rebuild"
        self.position = 0
        self._decode = times_as_text(Store(database).mapper.decode)

    def create(self) -> None:
        with self.connection.transaction():
            self.connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(self.table)))
            self.projection.create_table(self.connection, self.table)

    def fold_to(self, position: int, progress: Progress) -> None:
        while self.position < position:
            limit = min(CHUNK_EVENTS, position - self.position)
            chunk = read_chunk(self.connection, self._decode, self.projection.topics, after=self.position, limit=limit)
            with self.connection.transaction():
                self.projection.fold(chunk, self.connection, self.table)
            self.position = chunk.last
            progress(self.position, position)


def rebuild(database: Database, projection: Projection, progress: Progress = lambda _done, _total: None) -> Rebuilt:
    """Fold the projection again and flip to the result, which is right by definition: it is the log's.

    ``progress(done, total)`` counts positions. Raises ``RebuildRunning``, or what is wrong with an event; then all
    stays as it was. It does not matter whether a runner runs.
    """
    checkpoints.install(database, [projection])
    with checkpoints.connect(database) as connection:
        connection.execute("set statement_timeout = 0")
        _claim(connection, projection)
        shadow = _Shadow(database, projection, connection)
        shadow.create()
        try:
            # Compared at the live table's position of now, whose digest is one snapshot; what comes later is folded
            # by the same code into both.
            live_position, live_digest = _live_digest(connection, projection)
            shadow.fold_to(live_position, progress)
            digest = _digest(connection, shadow.table)
            shadow.fold_to(checkpoints.head(connection), progress)
            _flip(shadow, progress)
        except BaseException:
            if not connection.closed:
                connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(shadow.table)))
            raise
        return Rebuilt(
            name=projection.name,
            version=projection.version,
            position=shadow.position,
            rows=digest.rows,
            same=None if live_digest is None else live_digest == digest,
        )


def _claim(connection: Connection, projection: Projection) -> None:
    row = connection.execute(
        "select pg_try_advisory_lock('projection_checkpoints'::regclass::oid::int, hashtext(%s))", (projection.name,)
    ).fetchone()
    if row is None or not row[0]:
        raise RebuildRunning(name=projection.name)


def _live_digest(connection: Connection, projection: Projection) -> tuple[int, Digest | None]:
    """Position and digest of the live table; no digest when another version of the projection is live."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        version, position = _checkpoint(connection, projection)
        return position, _digest(connection, projection.table) if version == projection.version else None


def _checkpoint(connection: Connection, projection: Projection) -> tuple[int, int]:
    cursor = connection.cursor(row_factory=tuple_row).execute(
        "select version, position from projection_checkpoints where name = %s", (projection.name,)
    )
    [(version, position)] = cursor.fetchall()
    return version, position


def _digest(connection: Connection, table: str) -> Digest:
    query = "select count(*), coalesce(sum(hash_record_extended(t.*, 0)), 0) from {} t"
    cursor = connection.cursor(row_factory=tuple_row)
    [(rows, hash)] = cursor.execute(sql.SQL(query).format(sql.Identifier(table))).fetchall()
    return Digest(rows, int(hash))


def _flip(shadow: _Shadow, progress: Progress) -> None:
    """Put the shadow in the live table's place, at the same position or a later one."""
    for attempt in range(FLIP_ATTEMPTS):
        position = shadow.position
        try:
            with shadow.connection.transaction():
                _flip_now(shadow, progress)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            # A long read of the old table is in the way. It must not cost the whole rebuild, nor may we wait for it
            # for long, because everybody else queues behind us.
            shadow.position = position
            if attempt == FLIP_ATTEMPTS - 1:
                raise
            time.sleep(FLIP_PAUSE_SECONDS)


def _flip_now(shadow: _Shadow, progress: Progress) -> None:
    connection, projection = shadow.connection, shadow.projection
    # The runner moves its checkpoint before it writes, so with this row locked it is not writing.
    connection.execute("select from projection_checkpoints where name = %s for update", (projection.name,))
    version, position = _checkpoint(connection, projection)
    shadow.fold_to(position, progress)
    names = {
        "view": sql.Identifier(projection.name),
        "old": sql.Identifier(f"{projection.name}_v{version}"),
        "shadow": sql.Identifier(shadow.table),
        "table": sql.Identifier(projection.table),
    }
    connection.execute(sql.SQL("drop view if exists {view}").format(**names))
    connection.execute(sql.SQL("drop table {old}").format(**names))
    connection.execute(sql.SQL("alter table {shadow} rename to {table}").format(**names))
    projection.show(connection)
    connection.execute("delete from projection_checkpoints where name = %s", (projection.name,))
    connection.execute(
        "insert into projection_checkpoints (name, version, position) values (%s, %s, %s)",
        (projection.name, projection.version, shadow.position),
    )
