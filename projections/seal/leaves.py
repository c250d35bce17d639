"""The log as the seal covers it: the stored bytes of each row, never decoded, as entries of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from coupon_ledger_audit.entry import entry
from projections.seal.errors import SealBroken

READ_EVENTS = 16_384
"""Rows of one statement: a few MB, and a part of a second."""
SINCE_1970_US = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000-01-01."""

Connection = psycopg.Connection[Any]


class Row(NamedTuple):
    """One event as it is stored."""

    position: int
    stream: str
    version: int
    topic: str
    recorded_at_us: int
    """Microseconds since 1970."""
    state: bytes

    def entry(self) -> bytes:
        """The bytes of its leaf. Raises ``SealBroken`` for what no event that the ledger stored can be."""
        try:
            return entry(*self)
        except OverflowError:
            raise SealBroken(f"the event at position {self.position} is out of bounds") from None


def rows(connection: Connection, after: int, limit: int = READ_EVENTS) -> list[Row]:
    """The events after a position, in order, whatever their positions are."""
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    found = cursor.execute(_ROWS, (after, limit), prepare=True).fetchall()
    return [_row(row) for row in found]


def stream_rows(connection: Connection, stream: str) -> list[Row]:
    """One whole stream."""
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    return [_row(row) for row in cursor.execute(_STREAM, (stream,))]


def whole(connection: Connection, size: int) -> Iterator[Row]:
    """The events up to a position, read in parts."""
    after = 0
    while after < size and (part := rows(connection, after, min(READ_EVENTS, size - after))):
        yield from (row for row in part if row.position <= size)
        after = part[-1].position


def _row(row: tuple[Any, ...]) -> Row:
    position, stream, version, topic, moment, state = row
    return Row(position, stream, version, topic, int.from_bytes(moment, signed=True) + SINCE_1970_US, state)


# The moment as the server keeps it: making a date of each would cost as much as hashing the row.
_ROWS = """
select notification_id, originator_id, originator_version, topic, timestamptz_send(recorded_at), state
  from events where notification_id > %s order by notification_id limit %s
"""

_STREAM = """
select notification_id, originator_id, originator_version, topic, timestamptz_send(recorded_at), state
  from events where originator_id = %s order by originator_version
"""
