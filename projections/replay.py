"""Replay: the log folded again into tables beside the ledger, and compared with the live read models, row by row.

The tables are temporary, so nothing is left of them however a replay ends, and nobody else sees them; or they are in a
schema that is kept, to look at the read models as they were after some event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ledger.database import APP_ROLE, PROJECTOR_ROLE, Database
from ledger.errors import InvalidField, LedgerError
from projections import checkpoints, faults
from projections.apart import in_processes, may_have_processes, seldom_collected
from projections.difference import Difference, difference
from projections.projection import Projection
from projections.refold import Progress, Refold

MANY_EVENTS = 100_000
"""Below it, starting two processes costs more than they save. More than two would find no cores on a small machine."""

Connection = psycopg.Connection[Any]


class NotComparable(LedgerError):
    """The live table of this read model is of another version than this release folds."""


class SchemaExists(LedgerError):
    """There is a schema of this name already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Difference):
    """What a replay of one read model found."""

    name: str
    version: int
    position: int
    """Of the log, where the live table stands."""
    skips: int
    """Events that an operator let this version pass over: neither table has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A read model that was folded into a schema of its own."""

    name: str
    version: int
    position: int
    rows: int
    compared: int | None
    """Live rows that have not moved since that position; ``None`` where they cannot be told."""
    differing: int | None
    """Of those, and of kept rows that are live no more: how many are not the same."""
    first_key: dict[str, Any] | None
    """The smallest key of those; ``None`` where none differ."""
    not_compared: str | None
    """Why."""


def compare(
    database: Database, projections: Sequence[Projection], progress: Progress = lambda _done, _total: None
) -> list[Compared]:
    """Fold the log again and compare each read model at its own position, under a snapshot of its live table.

    ``database`` is the projector's. ``progress(done, total)`` counts positions. Writes and the live runner go on.
    Raises ``NotComparable`` or ``Unfoldable``.
    """
    with checkpoints.connect(database) as connection:
        _positions(connection, projections)
        many = checkpoints.head(connection) > MANY_EVENTS and may_have_processes()
    if not many:
        return compare_here(database, projections, progress)
    kinds = [type(projection) for projection in projections]
    half = (len(kinds) + 1) // 2  # neighbours ask the same of a chunk, which is worked out once a process
    works = [partial(_compare_share, database, share) for share in (kinds[:half], kinds[half:]) if share]
    found = {each.name: each for part in in_processes(works, progress) for each in part}
    return [found[projection.name] for projection in projections]


def _compare_share(database: Database, projections: Sequence[type[Projection]], progress: Progress) -> list[Compared]:
    return compare_here(database, [projection() for projection in projections], progress)


def compare_here(database: Database, projections: Sequence[Projection], progress: Progress) -> list[Compared]:
    """``compare`` in this process alone."""
    with seldom_collected(), checkpoints.connect(database) as connection, ExitStack() as stack:
        _create(connection, database, projections, sql.SQL("pg_temp"))
        folds = []
        for position, group in _by_position(_positions(connection, projections)):
            tables = {projection: projection.table for projection in group}
            folds.append(stack.enter_context(closing(Refold(database, connection, tables))))
            folds[-1].fold_to(position, progress)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            # No flip may replace a live table from now on: the snapshot, taken after this, would see no row of another.
            for projection in projections:
                live = sql.Identifier(database.schema, projection.table)
                connection.execute(sql.SQL("lock table {} in access share mode").format(live))
            at = _positions(connection, projections)
            for fold in folds:
                for position, group in _by_position({projection: at[projection] for projection in fold.tables}):
                    fold.fold_to(position, progress)
                    fold.leave(group)
            return [_compared(connection, database, projection, at[projection]) for projection in projections]


def keep(
    database: Database,
    projections: Sequence[Projection],
    schema: str,
    to: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> list[Kept]:
    """Fold the log up to an event (the last one of now unless said) into tables and views of a new schema.

    The live rows that have not moved since are compared with them. It needs a login that may create schemas; what is
    in it belongs to the projector's role. Raises ``InvalidField`` when the log has no such event yet, ``SchemaExists``,
    or ``Unfoldable``; then no schema is left.
    """
    name = sql.Identifier(schema)
    with Database(database.url, database.schema, "").connect() as owner:
        head = checkpoints.head(owner)
        position = head if to is None else to
        if not 0 <= position <= head:
            raise InvalidField(f"the log goes from 0 to {head}", field="to")
        try:
            owner.execute(sql.SQL("create schema {}").format(name))
        except psycopg.errors.DuplicateSchema:
            raise SchemaExists(f"there is a schema {schema} already", schema=schema) from None
        try:
            roles = {"projector": sql.Identifier(PROJECTOR_ROLE), "app": sql.Identifier(APP_ROLE), "schema": name}
            owner.execute(sql.SQL(_RIGHTS).format(**roles))
            return _kept(database, projections, name, position, progress)
        except BaseException:
            owner.execute(sql.SQL("drop schema {} cascade").format(name))
            raise


def _kept(
    database: Database, projections: Sequence[Projection], schema: sql.Identifier, to: int, progress: Progress
) -> list[Kept]:
    with seldom_collected(), checkpoints.connect(database) as connection:
        indexes = _create(connection, database, projections, schema)
        tables = {projection: projection.table for projection in projections}
        with closing(Refold(database, connection, tables)) as fold:
            fold.fold_to(to, progress)
        for definition in indexes:
            connection.execute(definition)
        kept = []
        for projection in projections:
            Projection.show(projection, connection)  # so that one that first drops its view finds this and not the live
            projection.show(connection)
            names = {
                "schema": schema,
                "table": sql.Identifier(projection.table),
                "view": sql.Identifier(projection.name),
            }
            connection.execute(sql.SQL("grant select on {table}, {view} to coupon_ledger_app").format(**names))
            [(rows,)] = connection.execute(sql.SQL("select count(*) from {schema}.{view}").format(**names)).fetchall()
            found, why = _compared_then(connection, database, projection, schema, to)
            kept.append(
                Kept(
                    name=projection.name,
                    version=projection.version,
                    position=to,
                    rows=rows,
                    compared=found.live_rows if found else None,
                    differing=found.differing if found else None,
                    first_key=found.first_key if found else None,
                    not_compared=why,
                )
            )
        return kept


def _compared_then(
    connection: Connection, database: Database, projection: Projection, schema: sql.Identifier, to: int
) -> tuple[Difference | None, str | None]:
    """The live rows that have not moved since a position, beside those that were kept; or why not."""
    live = sql.Identifier(database.schema, projection.table)
    folded = sql.SQL("{}.{}").format(schema, sql.Identifier(projection.table))
    if checkpoints.rows(connection, _VERSION, (projection.name,)) != [(projection.version,)]:
        return None, "live in another version"
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        connection.execute(sql.SQL("lock table {} in access share mode").format(live))  # before the snapshot
        position = _positions(connection, [projection])[projection]
        if position < to:
            return None, f"live at position {position}"
        if not checkpoints.rows(connection, _HAS_POSITION, (live.as_string(connection),)):
            return None, "its rows do not say when they last moved"
        return difference(connection, projection, live, folded, to), None


def _create(
    connection: Connection, database: Database, projections: Iterable[Projection], schema: sql.Composable
) -> list[bytes]:
    """Make empty tables in this schema, which the session looks into before the ledger's.

    Returns what makes the indexes that only readers need, which is faster when all rows are there.
    """
    connection.execute(_SESSION)
    connection.execute(sql.SQL("set search_path = {}, {}").format(schema, sql.Identifier(database.schema)))
    definitions = []
    for projection in projections:
        projection.create_table(connection, projection.table)
        for name, definition in checkpoints.rows(connection, _INDEXES, (projection.table,)):
            connection.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
            definitions.append(definition.encode())
    return definitions


def _positions(connection: Connection, projections: Iterable[Projection]) -> dict[Projection, int]:
    """Where the live tables are. Raises ``NotComparable``."""
    positions = {}
    for projection in projections:
        version, positions[projection] = checkpoints.at(connection, projection.name)
        if version != projection.version:
            raise NotComparable(
                f"{projection.name} is live in version {version} and this release folds version {projection.version}:"
                f" run coupon-ledger projections rebuild {projection.name}",
                name=projection.name,
            )
    return positions


def _by_position(at: Mapping[Projection, int]) -> list[tuple[int, list[Projection]]]:
    groups: dict[int, list[Projection]] = defaultdict(list)
    for projection, position in at.items():
        groups[position].append(projection)
    return sorted(groups.items())


def _compared(connection: Connection, database: Database, projection: Projection, position: int) -> Compared:
    live, folded = sql.Identifier(database.schema, projection.table), sql.Identifier("pg_temp", projection.table)
    found = difference(connection, projection, live, folded)
    return Compared(
        name=projection.name,
        version=projection.version,
        position=position,
        skips=len(faults.skipped(connection, projection.name, projection.version)),
        **asdict(found),
    )


# A plan is for its chunk, for without the readers' indexes a fold may have to read a whole table; but it uses one core,
# for the other is at work.
_SESSION = """
set statement_timeout = 0;
set temp_buffers = '256MB';
set max_parallel_workers_per_gather = 0;
set plan_cache_mode = force_custom_plan;
"""

_INDEXES = """
select c.relname, pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indexrelid
 where i.indrelid = to_regclass(quote_ident(%s)) and not i.indisunique
"""

_VERSION = "select version from projection_checkpoints where name = %s"

_HAS_POSITION = """
select from pg_attribute where attrelid = %s::regclass and attname = 'position' and not attisdropped
"""

_RIGHTS = """
grant usage, create on schema {schema} to {projector};
grant usage on schema {schema} to {app};
"""
