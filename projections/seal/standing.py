"""How far the seal is, for metrics and probes. All is read from the database, whichever process is away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealStanding:
    """How the seal is."""

    state: str
    """NONE before a sealer ran, RUNNING, or STOPPED where the log is not what was sealed."""
    fault: str | None
    size: int
    """Events that the newest checkpoint covers."""
    unsealed_events: int
    unsealed_seconds: float
    """Age of the first event that no checkpoint covers; 0 where all are covered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorStanding:
    """How far a place is that checkpoints are put to."""

    place: str
    size: int
    """Of the newest checkpoint that it has."""
    unanchored_seconds: float
    """Age of the first checkpoint that neither the place has nor a later one that covers it; 0 where there is none."""
    error: str | None


def standing(connection: Connection) -> SealStanding:
    """How the seal is now."""
    found = connection.cursor(row_factory=class_row(SealStanding)).execute(_STANDING).fetchone()
    assert found is not None
    return found


def anchors(connection: Connection) -> list[AnchorStanding]:
    """Every place of the settings, as the sealer that ran last had them."""
    return connection.cursor(row_factory=class_row(AnchorStanding)).execute(_ANCHORS).fetchall()


_STANDING = """
select coalesce(s.state, 'NONE') as state, s.fault, c.size, greatest(h.head - c.size, 0) as unsealed_events,
       greatest(coalesce(extract(epoch from clock_timestamp() - e.recorded_at), 0), 0)::float8 as unsealed_seconds
  from (select coalesce(max(size), 0) as size from checkpoints) c
 cross join (select coalesce(max(notification_id), 0) as head from events) h
  left join seal_standing s on s.one
  left join events e on e.notification_id = c.size + 1
"""

_ANCHORS = """
select a.place, a.size, a.error,
       greatest(coalesce(extract(epoch from clock_timestamp() - c.signed_at), 0), 0)::float8 as unanchored_seconds
  from seal_anchors a
  left join lateral (select signed_at from checkpoints where size > a.size order by size limit 1) c on true
 order by a.place
"""
