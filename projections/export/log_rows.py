"""The log as rows: what analysts ask for in columns, and each payload as it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

import orjson
import psycopg
from eventsourcing.persistence import JSONTranscoder
from psycopg.rows import tuple_row

from ledger.errors import ForeignEvent, LedgerError
from ledger.mapper import EventMapper
from projections.chunk import MissingEvent
from projections.export.columns import Column, Kind, Row

PAGE_ROWS = 10_000
"""Events that are in memory at once, and rows of a Parquet row group."""
SCHEMA_VERSION = 1
"""Of the columns below; docs/export.md says what changed."""

Connection = psycopg.Connection[Any]

_OF_THE_ROW = (
    Column("position", "int64"),
    Column("recorded_at", "time"),
    Column("stream", "text"),
    Column("version", "int64"),
    Column("topic", "text"),
    Column("event_version", "int64"),
)
_OF_THE_STREAM = {"coupon": "coupon_id", "batch": "batch_id", "template": "template_id"}
"""Ids that a stream is named for; every other id is a field of the event."""
_OF_THE_EVENT: dict[str, Kind] = {
    "merchant_id": "text",
    "actor": "text",
    "request_id": "text",
    "occurred_at": "time",
    "coupon_id": "text",
    "batch_id": "text",
    "template_id": "text",
    "template_version": "int64",
    "user_id": "text",
    "holder_id": "text",
    "to_user_id": "text",
    "order_id": "text",
    "lock_id": "text",
    "redemption_id": "text",
    "channel": "text",
    "reason": "text",
    "valid_from": "time",
    "valid_until": "time",
    "lock_ends_at": "time",
    "currency": "text",
    "discount_minor": "int64",
    "merchant_funded_minor": "int64",
    "platform_funded_minor": "int64",
    "order_total_minor": "int64",
    "paid_minor": "int64",
    "returned_minor": "int64",
    "credited_minor": "int64",
    "balance_minor": "int64",
    "restored": "boolean",
    "late": "boolean",
    "campaign": "text",
    "name": "text",
    "quantity": "int64",
    "budget_minor": "int64",
}
COLUMNS = (*_OF_THE_ROW, *(Column(*item) for item in _OF_THE_EVENT.items()), Column("payload", "json"))
"""The event's columns are of its present version, old events upcast; ``payload`` is what is stored, to the byte."""


class EventUnreadable(LedgerError):
    """The payload of an event is not what its topic says."""


class LogMoved(LedgerError):
    """The log is not the one that was exported before."""


@dataclass(slots=True)
class Page:
    """Rows of events that were recorded on one day (UTC), in order of position."""

    day: date
    first: int
    last: int
    """Positions that the page covers: also of events of other merchants, which have no row in it."""
    rows: list[Row]


class LogReader:
    """Reads the log of one merchant, or of all."""

    def __init__(self, connection: Connection, merchant_id: str | None) -> None:
        self._connection = connection
        self._merchant_id = merchant_id
        self._decode = EventMapper(JSONTranscoder()).decode

    def pages(self, after: int, until: int) -> Iterator[Page]:
        """The positions ``after + 1`` to ``until``; pages of a bounded size, a new one where the day changes.

        Raises ``MissingEvent`` where a position is missing, and ``ForeignEvent`` or ``EventUnreadable`` for an
        event that cannot be read: of one merchant, its own, and those that do not say whose they are.
        """
        while after < until:
            cursor = self._connection.cursor(row_factory=tuple_row, binary=True)
            page = None
            for stored in cursor.execute(_READ, (after, min(after + PAGE_ROWS, until))):
                after += 1
                if stored[4] != after:
                    raise MissingEvent(f"position {after} is missing from the log")
                day = stored[5].astimezone(UTC).date()
                if page is None or day != page.day:
                    if page is not None:
                        yield page
                    page = Page(day, after, after, [])
                if (row := self._row(*stored)) is not None:
                    page.rows.append(row)
                page.last = after
            if page is None:
                raise MissingEvent(f"position {after + 1} is missing from the log")
            yield page

    def fingerprint(self, position: int) -> str:
        """What tells this log from another one at a position. Raises ``LogMoved`` where the log is shorter."""
        cursor = self._connection.cursor(row_factory=tuple_row, binary=True)
        row = cursor.execute(_READ, (position - 1, position)).fetchone()
        if row is None:
            raise LogMoved(f"the log has no position {position}, which was exported before")
        stream, version, topic, state, _, recorded_at = row
        known = f"{position}\n{stream}\n{version}\n{topic}\n{recorded_at.astimezone(UTC).isoformat()}\n"
        return hashlib.sha256(known.encode() + state).hexdigest()

    def _row(self, stream: str, version: int, topic: str, state: bytes, position: int, recorded_at: Any) -> Row | None:
        """The row of an event; ``None`` of another merchant's, whatever it is."""
        try:
            payload = orjson.loads(state)
            if self._merchant_id is not None and payload["merchant_id"] != self._merchant_id:
                return None
            fields = self._decode(stream, version, topic, state).__dict__
        except ForeignEvent as error:
            raise ForeignEvent(f"position {position}: {error.detail}") from None
        except Exception as error:  # whatever a payload that is not its topic's does to the upcasters
            raise EventUnreadable(f"position {position}: {topic!r} in stream {stream!r}: {error!r}") from None
        category, _, id = stream.partition("-")
        if category in _OF_THE_STREAM:
            fields[_OF_THE_STREAM[category]] = id
        head = (position, recorded_at, stream, version, topic, payload.get("class_version", 1))
        return (*head, *map(fields.get, _OF_THE_EVENT), state.decode())


_READ = """
select originator_id, originator_version, topic, state, notification_id, recorded_at
  from events where notification_id > %s and notification_id <= %s order by notification_id
"""
