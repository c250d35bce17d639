"""What an operator does about a read model that an event stopped: look, let it try again, or let it pass over.

``projection_skips`` is only ever added to. A row of a negative version takes the skips of that position back that were
made before it: -2 says that version 2 folds the event after all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from ledger.database import Database
from ledger.errors import ForeignEvent, LedgerError
from projections import checkpoints, queries
from projections.catalogue import VERSIONS, state_of
from projections.checkpoints import ProjectionNotFound
from projections.chunk import Chunk
from projections.projection import Projection

Connection = psycopg.Connection[Any]
ERROR_LIMIT = 500
"""Characters that are told of an error."""


class ProjectionNotFaulted(LedgerError):
    """This read model was not stopped by an event."""


class ProjectionElsewhere(LedgerError):
    """This read model was stopped by another event."""


class ProjectionOutdated(LedgerError):
    """This read model is live in another version than this release folds."""


class Unfoldable(LedgerError):
    """An event cannot be folded again into this read model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A read model, and the event that stopped it."""

    name: str
    version: int
    state: str
    position: int
    lag_events: int
    lag_seconds: float
    skips: int
    fault: str | None
    event_position: int | None
    """The position that it cannot pass; ``None`` while it runs."""
    event_stream: str | None
    """``None``, as all that follows, where the log has no row of that position."""
    event_version: int | None
    event_topic: str | None
    event_recorded_at: datetime | None
    event_payload: bytes | None
    """As stored, whether or not it can be decoded."""
    before_version: int | None
    """Of the table that a rebuild put aside; ``None`` without one."""
    before_position: int | None
    release_version: int | None = None
    """That this release has; it is OUTDATED when that is not ``version``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """An event that a read model was made to pass over."""

    name: str
    version: int
    position: int
    topic: str | None
    """``None`` where the log has no row of that position."""
    reason: str
    actor: str
    skipped_at: datetime
    folded_at: datetime | None = None
    """When a rebuild took it back; ``None`` while this version passes over the event."""


def inspect(connection: Connection, name: str) -> Inspected:
    """Where a read model stands, and what stopped it. Raises ``ProjectionNotFound``."""
    cursor = connection.cursor(row_factory=class_row(Inspected))
    found = cursor.execute(queries.STATEMENTS["inspect"], {"name": name}).fetchall()
    if not found:
        raise ProjectionNotFound(name=name)
    [row] = found
    state = state_of(name, row.version, row.state)
    return replace(row, state=state, release_version=VERSIONS.get(name))


def retry(database: Database, name: str) -> bool:
    """Let a FAULTED projection go on at the event that stopped it. ``False``: it runs, and is left alone.

    Raises ``ProjectionNotFound``, or ``ProjectionOutdated``.
    """
    with checkpoints.connect(database) as connection:
        return bool(_retry(connection, {name: _version(connection, name)}))


def retry_all(database: Database) -> list[str]:
    """``retry`` of every read model that is FAULTED; their names."""
    with checkpoints.connect(database) as connection:
        return _retry(connection, VERSIONS)


def retry_foreign(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """``retry`` of these read models where an event stopped them that the release of then did not know; their names.

    It is for whoever begins to fold: if it does not know the event either, it stops there again.
    """
    return _retry(connection, {projection.name: projection.version for projection in projections}, _FOREIGN)


def _retry(connection: Connection, versions: Mapping[str, int], fault: str = "") -> list[str]:
    parameters = list(versions.keys()), list(versions.values()), fault
    return sorted(name for (name,) in checkpoints.rows(connection, _RETRY, parameters))


def _version(connection: Connection, name: str) -> int:
    """The live version, which is this release's. Raises ``ProjectionNotFound`` or ``ProjectionOutdated``."""
    version, _ = checkpoints.at(connection, name)
    ours = VERSIONS.get(name, version)
    if ours != version:
        text = f"{name} is live in version {version} and this release folds version {ours}: rebuild it"
        raise ProjectionOutdated(text, name=name)
    return version


def skip(database: Database, name: str, *, reason: str, actor: str, position: int | None = None) -> Skip:
    """Let a FAULTED projection go on after the event that stopped it, and write down that it passed over that one.

    Raises ``ProjectionNotFound``, ``ProjectionOutdated``, ``ProjectionNotFaulted``, or ``ProjectionElsewhere`` when it
    is not the event at ``position`` that stopped it.
    """
    with checkpoints.connect(database) as connection, connection.transaction():
        connection.execute("set local synchronous_commit = on")  # unlike its rows, this cannot be had again
        _version(connection, name)
        cursor = connection.cursor(row_factory=class_row(Skip))
        locked = (
            "select version, position + 1 from projection_checkpoints where name = %s and state = 'FAULTED' for update"
        )
        found = checkpoints.rows(connection, locked, (name,))
        if not found:
            raise ProjectionNotFaulted(f"{name} runs: there is nothing to skip", name=name)
        [(version, stopped_at)] = found
        if position not in (None, stopped_at):
            raise ProjectionElsewhere(f"{name} was stopped by the event at position {stopped_at}", name=name)
        parameters = {"name": name, "version": version, "position": stopped_at, "reason": reason, "actor": actor}
        [skipped] = cursor.execute(_SKIP, parameters).fetchall()
        connection.execute(_GO_ON, parameters)
        return skipped


def skips(connection: Connection, name: str | None = None) -> list[Skip]:
    """What was skipped, of one read model or of all, in the order of the log."""
    cursor = connection.cursor(row_factory=class_row(Skip))
    told: list[Skip] = []
    for row in cursor.execute(queries.STATEMENTS["skips"], {"name": name}).fetchall():
        if row.version > 0:
            told.append(row)
            continue
        of = row.name, -row.version, row.position
        for number, each in enumerate(told):
            if (each.name, each.version, each.position) == of and each.folded_at is None:
                told[number] = replace(each, folded_at=row.skipped_at)
    return told


def skipped(connection: Connection, name: str, version: int) -> Sequence[int]:
    """The positions that a version of a read model passes over, in order."""
    return [position for (position,) in checkpoints.rows(connection, _SKIPPED, (name, version))]


def take_back(connection: Connection, name: str, version: int, actor: str) -> int:
    """Write down that this version folds what it was let pass over, in the caller's transaction. How many events."""
    cursor = connection.execute(_TAKE_BACK, {"name": name, "version": version, "actor": actor})
    return cursor.rowcount


def unfoldable(name: str, chunk: Chunk, error: Exception) -> Unfoldable:
    """What a fold of one event raised, in a line that names model, position and event."""
    event = "".join(f"{r.event.TOPIC} at {r.event.originator_id} v{r.event.originator_version}: " for r in chunk.events)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:ERROR_LIMIT]
    return Unfoldable(f"{name} cannot fold position {chunk.last}: {event}{text}", name=name, position=chunk.last)


_RETRY = """
update projection_checkpoints set state = 'RUNNING', fault = null, updated_at = clock_timestamp()
 where state = 'FAULTED' and (name, version) in (select * from unnest(%s::text[], %s::int[]))
   and coalesce(fault, '') ~ %s
returning name
"""

_FOREIGN = f"^position [0-9]+: {ForeignEvent.__name__}: "
"""How a fault begins (``Runner._fault``) that is of an event without a class in the release, or of a newer version."""

_SKIP = """
insert into projection_skips (name, version, position, topic, reason, actor)
values (%(name)s, %(version)s, %(position)s, (select topic from events where notification_id = %(position)s),
        %(reason)s, %(actor)s)
returning name, version, position, topic, reason, actor, skipped_at
"""

_SKIPPED = """
select distinct s.position from projection_skips s
 where s.name = %s and s.version = %s
   and not exists (select from projection_skips b
                    where b.name = s.name and b.version = -s.version and b.position = s.position and b.id > s.id)
 order by s.position
"""

_TAKE_BACK = """
insert into projection_skips (name, version, position, topic, reason, actor)
select s.name, -s.version, s.position, min(s.topic), 'a rebuild folded it', %(actor)s
  from projection_skips s
 where s.name = %(name)s and s.version = %(version)s
   and not exists (select from projection_skips b
                    where b.name = s.name and b.version = -s.version and b.position = s.position and b.id > s.id)
 group by s.name, s.version, s.position
"""

_GO_ON = """
update projection_checkpoints
   set position = %(position)s, state = 'RUNNING', fault = null, updated_at = clock_timestamp()
 where name = %(name)s and version = %(version)s
"""
