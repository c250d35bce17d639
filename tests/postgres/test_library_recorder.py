"""The library's own recorder cases, as ``eventsourcing.tests.persistence`` ships them, run against our log.

The library's insert is closed to us: the application's role may not lock or insert into the table, and its commits
would go one caller at a time. So the cases write through ``commit_group``, by ``LogRecorder``, and read with the
library's own methods on our table.

Cases that cannot apply:

- ``TrackingRecorderTestCase`` and ``ProcessRecorderTestCase`` ask for the library's tracking table, and the second one
  for the library's insert in one transaction with it. A read model's position is a row of
  ``projection_checkpoints``, moved with its rows (``test_projections_runner.py``); a consumer's is a row of
  ``kafka_offsets``, moved with its effects.
- ``InfrastructureFactoryTestCase`` builds recorders from environment variables; a ``Store`` is built from a
  ``Database``, and only the composition root reads the environment.
- ``TranscoderTestCase`` is about types that the library's transcoder may be taught; our mapper writes plain JSON of
  events in the catalogue (``tests/unit/test_events.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, Notification, ProgrammingError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from eventsourcing.tests import persistence as library

from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.database import Database
from ledger.mapper import EventMapper
from ledger.store import Store
from tests.postgres.tools import whole_log

INSERTS_OF_THE_LIBRARY: list[LiteralString] = [
    "lock table events in exclusive mode",
    "insert into events (originator_id, originator_version, topic, state) values ('coupon-a', 1, 't', '')",
]


class Row(NamedTuple):
    """A row to write as it is: the library's cases bring topics and payloads that no catalogue knows."""

    originator_id: str
    originator_version: int
    TOPIC: str
    state: bytes


class RowMapper(EventMapper):
    """Writes rows as they are."""

    def encode(self, event: Any) -> bytes:
        assert isinstance(event, Row)
        return event.state


class LogRecorder(PostgresApplicationRecorder):
    """Reads as the library does, and writes rows as one unit of work.

    A stream begins at version 1 with us and at 0 in the library's concurrent cases, so versions move by one on
    their way in and out.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.recorder.datastore, events_table_name=store.recorder.events_table_name)
        self.channel_name = store.recorder.channel_name
        self._store = store
        store.mapper = RowMapper(store.mapper.transcoder)

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        if not stored_events:
            return None
        rows = [Row(str(e.originator_id), e.originator_version + 1, e.topic, e.state) for e in stored_events]
        unit = Unit(rows)  # type: ignore[arg-type]
        with self.datastore.get_connection() as connection:
            [verdict] = commit_group(self._store, connection, [unit])
        if verdict.word != "done":
            raise IntegrityError(verdict.word)
        return list(range(verdict.position - len(stored_events) + 1, verdict.position + 1))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        gt, lte = (None if version is None else version + 1 for version in (gt, lte))
        events = super().select_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)
        return [StoredEvent(e.originator_id, e.originator_version - 1, e.topic, e.state) for e in events]

    def select_notifications(self, *args: Any, **kwargs: Any) -> Sequence[Notification]:
        return [
            Notification(entry.originator_id, entry.originator_version - 1, entry.topic, entry.state, entry.id)
            for entry in super().select_notifications(*args, **kwargs)
        ]


class AggregateLogRecorder(LogRecorder):
    """The same in the part of an aggregate recorder, which does not tell positions."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> None:
        super().insert_events(stored_events)


class OnOurLog:
    """A case's ground: an empty ledger, and ids of streams as we have them, in text."""

    INITIAL_VERSION = 0

    @pytest.fixture(autouse=True)
    def _empty_ledger(self, database: Database) -> Iterator[None]:
        self.store = Store(database, pool_size=8)
        yield
        self.store.close()

    def new_originator_id(self) -> str:
        return f"coupon-{uuid4()}"

    def create_recorder(self) -> LogRecorder:
        return LogRecorder(self.store)


class TestAggregateRecorder(OnOurLog, library.AggregateRecorderTestCase):
    def create_recorder(self) -> LogRecorder:
        return AggregateLogRecorder(self.store)


class TestApplicationRecorder(OnOurLog, library.ApplicationRecorderTestCase[Any]):
    def test_insert_subscribe(self) -> None:
        """A subscription of the library hears of what ``commit_group`` wrote."""
        self.optional_test_insert_subscribe()


class TestNonInterleavingPositions(OnOurLog, library.NonInterleavingNotificationIDsBaseCase):
    pass


def test_the_librarys_own_insert_stays_closed(ledger: Ledger) -> None:
    event = StoredEvent("coupon-a", 1, "coupon.issued", b"{}")
    with pytest.raises(ProgrammingError):
        ledger.store.recorder.insert_events([event])
    for statement in INSERTS_OF_THE_LIBRARY:
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            ledger.store.connection() as connection,
            connection.transaction(),
        ):
            connection.execute(statement)
    assert whole_log(ledger.store) == []
