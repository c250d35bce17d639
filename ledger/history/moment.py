"""A moment of the past: what the clock showed, and how much of the log was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ledger.errors import InvalidField
from ledger.events import Recorded

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """Which events of each stream count, and the instant that derived states are for."""

    at: datetime
    position: int
    """Of the last event that counts."""
    occurred_by: datetime | None = None
    """Where given, a stream counts only as far as its events had all occurred by then. What follows an event of later
    business time was decided on top of it, so it cannot be folded without it."""

    def of(self, history: Sequence[Recorded]) -> Sequence[Recorded]:
        """The events of one stream that count: always a beginning of it."""
        for count, recorded in enumerate(history):
            late = self.occurred_by is not None and recorded.event.occurred_at > self.occurred_by
            if late or recorded.position > self.position:
                return history[:count]
        return history


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant, as the log knew it and as it was."""

    at: datetime
    """Which the clock showed."""
    known_at: datetime | None
    """When the log was as far as ``known`` says, where the moment was asked for by such a time."""
    known: Cut
    """What the log held."""
    true: Cut
    """What had occurred by ``at``, whenever it was recorded."""


def moment(
    connection: Connection,
    *,
    at: datetime | None = None,
    position: int | None = None,
    known_at: datetime | None = None,
) -> Moment:
    """The moment that a question means; this one by the database clock, where it says nothing.

    ``at`` is what the clock showed, and then the log is that of ``at`` too, unless ``known_at`` says a later or
    earlier one, or ``position`` its last event. Without ``at`` the clock is that of ``known_at``, or that by which the
    event at ``position`` was recorded. What was recorded after ``at`` counts for ``known`` only if it had occurred by
    then.

    Streams are read after it, and up to ``true.position``, the end of the log: so an answer has all that its positions
    count. Raises ``InvalidField`` for what lies ahead, and for a ``position`` together with ``known_at``.
    """
    if position is not None and known_at is not None:
        raise InvalidField("the log is named by its position or by a time, not by both", field="known_at")
    now, head = _present(connection)
    for field, value in (("at", at), ("known_at", known_at)):
        if value is not None and value > now:
            raise InvalidField(f"{field} is not in the future", field=field)
    recorded_at = known_at or at or now
    if position is not None:
        if position > head:
            raise InvalidField(f"the log ends at position {head}", field="position")
        recorded_at = _recorded_at(connection, position)
    clock, known_head = at or recorded_at, head if position is None else position
    if known_at or (at and position is None):
        known_head = min(last_position(connection, recorded_at), head)  # the log went on since the head was read
    known = Cut(clock, known_head, clock if recorded_at > clock else None)
    return Moment(clock, None if position is not None else recorded_at, known, Cut(clock, head, clock))


def last_position(connection: Connection, recorded_by: datetime) -> int:
    """Of the last event that was recorded by then; 0 where none was.

    Positions follow the order of commits and so of recording, which is why two dozen looks find it among millions.
    """
    row = connection.cursor(row_factory=tuple_row).execute(REACHED, {"recorded_by": recorded_by}).fetchone()
    assert row is not None
    position: int = row[0]
    return position


def _present(connection: Connection) -> tuple[datetime, int]:
    row = connection.cursor(row_factory=tuple_row).execute(PRESENT).fetchone()
    assert row is not None
    return row[0].astimezone(UTC), row[1]


def _recorded_at(connection: Connection, position: int) -> datetime:
    query = "select recorded_at from events where notification_id = %s"
    row = connection.cursor(row_factory=tuple_row).execute(query, (position,)).fetchone()
    if row is None:
        raise InvalidField("the log has no event at this position", field="position")
    found: datetime = row[0].astimezone(UTC)
    return found


PRESENT = "select clock_timestamp(), coalesce(max(notification_id), 0) from events"

# Halves the positions that are left until one is.
REACHED = """
with recursive search (low, high) as (
    select 0::bigint, coalesce(max(notification_id), 0) from events
    union all
    select case when e.recorded_at <= %(recorded_by)s then s.middle else s.low end,
           case when e.recorded_at <= %(recorded_by)s then s.high else s.middle - 1 end
      from (select low, high, (low + high + 1) / 2 as middle from search where low < high) s
     cross join lateral (select recorded_at from events
                          where notification_id <= s.middle order by notification_id desc limit 1) e
)
select low from search where low = high
"""
