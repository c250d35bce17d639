"""One moment of the log, read in order while writers go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any, LiteralString

import psycopg
from eventsourcing.persistence import JSONTranscoder
from psycopg.rows import tuple_row

from ledger.batch import Batch
from ledger.database import Database
from ledger.events import Event, Recorded
from ledger.mapper import EventMapper
from ledger.template import Template
from ledger.terms import Terms
from ledger.work import fold

RANGE = 50_000
"""Positions that are read at a time, whatever of them matters."""

Progress = Callable[[int, int], None]
"""Told how far the work is, and of how much."""

_EVENTS: LiteralString = (
    "select originator_id, originator_version, topic, state, notification_id, recorded_at from events where "
)


class Reading:
    """Reads the log to its head of one moment."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._mapper = EventMapper(JSONTranscoder())
        self._terms: dict[tuple[str, int], Terms] = {}
        [(self.head,)] = self.rows("select coalesce(max(notification_id), 0) from events")

    def rows(self, query: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.cursor(row_factory=tuple_row, binary=True).execute(query, parameters).fetchall()

    def recorded(self, where: LiteralString, parameters: tuple[Any, ...]) -> list[Recorded]:
        """The events that a condition names, in the order of the log."""
        query = _EVENTS + where + " order by notification_id"
        return [
            Recorded(position, recorded_at.astimezone(UTC), self._mapper.decode(stream, version, topic, state))
            for stream, version, topic, state, position, recorded_at in self.rows(query, parameters)
        ]

    def stream(self, stream: str) -> list[Event]:
        """One whole stream."""
        return [each.event for each in self.recorded("originator_id = %s", (stream,))]

    def beginning(self, stream: str, prefix: str, progress: Progress) -> Iterator[Recorded]:
        """Of the whole log, one stream and those whose names begin so."""
        for after in range(0, self.head, RANGE):
            last = min(after + RANGE, self.head)
            where: LiteralString = "notification_id > %s and notification_id <= %s and (originator_id = %s"
            yield from self.recorded(where + " or starts_with(originator_id, %s))", (after, last, stream, prefix))
            progress(last, self.head)

    def terms(self, template_id: str, version: int) -> Terms:
        """The terms of a template's version."""
        if (template_id, version) not in self._terms:
            events = self.stream(f"template-{template_id}")[:version]
            terms = Terms.from_payload(fold(Template(f"template-{template_id}"), events).terms)
            self._terms[template_id, version] = terms
        return self._terms[template_id, version]


@contextmanager
def reading(database: Database) -> Iterator[Reading]:
    """A session that sees one moment, takes no lock that a writer waits for, and can write nothing."""
    with database.connect() as connection:
        connection.execute("set application_name = 'coupon-ledger what-if'")
        for name in ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(f"set {name} = 0")
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            yield Reading(connection)


def no_batch(batch_id: str) -> Batch:
    """For decisions that look at no batch."""
    raise LookupError(batch_id)
