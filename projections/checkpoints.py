"""Where projections stand: the rows of ``projection_checkpoints``, and the errors around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import tuple_row

from ledger.database import PROJECTOR_ROLE, Database
from ledger.errors import LedgerError, NotFound
from projections import analytics
from projections.projection import Projection

Connection = psycopg.Connection[Any]

TROUBLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The server ended the session, or takes no writes any more, and psycopg has them among errors of the statement.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""Errors that whoever follows the log outlives, wherever they come from outside of a fold."""

# Connections, resources, transactions that got into each other's way, locks, and a server that ends sessions or takes
# no writes. Not a limit of the program (54) nor a statement that took too long (57014): psycopg calls these errors of
# operation as well, and with the same event they come again for ever.
_OF_THE_DATABASE = ("08", "25006", "25P03", "25P04", "40", "53", "55P03", "57P0")

# Rows are derived, so the last transactions may be lost in a crash with their checkpoints: they are folded again.
# Every join is from a chunk to a table by its key; plans made while a table was small must not outlive its growth.
# A session that says nothing for so long is frozen or cut off, and must not keep the lease.
_SESSION = """
set application_name = 'coupon-ledger projections';
set synchronous_commit = off;
set jit = off;
set enable_hashjoin = off;
set enable_mergejoin = off;
set enable_seqscan = off;
set idle_session_timeout = '10s';
"""


class ProjectionNotFound(NotFound):
    """No such projection."""


class ProjectionMoved(LedgerError):
    """A checkpoint is not where it was: another process moved, faulted or replaced it."""


def of_the_database(error: Exception) -> bool:
    """Whether a fold failed for a reason that is not in the events, so that the same chunk may be tried again."""
    if not isinstance(error, TROUBLE):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_OF_THE_DATABASE)


def connect(database: Database) -> psycopg.Connection[tuple[Any, ...]]:
    """A projector's connection, in autocommit."""
    connection = Database(database.url, database.schema, PROJECTOR_ROLE).connect()
    connection.execute(_SESSION)
    return connection


def install(database: Database, projections: Iterable[Projection]) -> None:
    """Make table, view and checkpoint of each projection that has none of any version. Safe to repeat."""
    with connect(database) as connection, connection.transaction():
        connection.execute("select pg_advisory_xact_lock('projection_checkpoints'::regclass::oid::int, 0)")
        known = {name for (name,) in rows(connection, "select name from projection_checkpoints")}
        new = [projection for projection in projections if projection.name not in known]
        for projection in new:
            projection.create_table(connection, projection.table)
            projection.show(connection)
            connection.execute(
                "insert into projection_checkpoints (name, version) values (%s, %s)",
                (projection.name, projection.version),
            )
        analytics.show(connection)


def running(connection: Connection) -> dict[tuple[str, int], int]:
    """The position of every projection that is not FAULTED, by name and version."""
    found = rows(connection, "select name, version, position from projection_checkpoints where state = 'RUNNING'")
    return {(name, version): position for name, version, position in found}


def head(connection: Connection) -> int:
    """The last position of the log; 0 when it is empty."""
    position: int = rows(connection, "select coalesce(max(notification_id), 0) from events")[0][0]
    return position


def move(connection: Connection, projections: Sequence[Projection], before: int, position: int) -> None:
    """Move checkpoints, and with that hold them until the transaction ends. Raises ``ProjectionMoved``."""
    cursor = connection.execute(
        """
        update projection_checkpoints c set position = %s, updated_at = clock_timestamp()
          from unnest(%s::text[], %s::int[]) as p (name, version)
         where c.name = p.name and c.version = p.version and c.state = 'RUNNING' and c.position = %s
        """,
        (position, [p.name for p in projections], [p.version for p in projections], before),
    )
    if cursor.rowcount != len(projections):
        raise ProjectionMoved()


def fault(connection: Connection, projection: Projection, position: int, text: str) -> None:
    """Stop a projection at its last good position, with what was wrong with the event after it."""
    connection.execute(
        """
        update projection_checkpoints set state = 'FAULTED', fault = %s, updated_at = clock_timestamp()
         where name = %s and version = %s and state = 'RUNNING' and position = %s
        """,
        (text, projection.name, projection.version, position),
    )


def at(connection: Connection, name: str) -> tuple[int, int]:
    """Version and position of the live table of a read model. Raises ``ProjectionNotFound``."""
    found = rows(connection, "select version, position from projection_checkpoints where name = %s", (name,))
    if not found:
        raise ProjectionNotFound(name=name)
    [(version, position)] = found
    return version, position


def rows(connection: Connection, query: LiteralString, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query, as tuples."""
    return connection.cursor(row_factory=tuple_row).execute(query, parameters).fetchall()
