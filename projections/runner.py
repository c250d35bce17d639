"""The runner: follows the log, and keeps every projection's rows and checkpoint in step.

It reads a chunk of the log, decodes it once, and applies it to all projections that stand at the same position in one
transaction with their checkpoints. Polling is the truth; NOTIFY only wakes it early. One runner leads, by a lock that
its session holds, so a runner that lost its connection has lost the lead too and cannot commit anything more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg
from psycopg import sql

from ledger.database import Database
from ledger.rest import rest
from ledger.store import Store
from projections import checkpoints, faults
from projections.catalogue import PROJECTIONS
from projections.checkpoints import TROUBLE, ProjectionMoved
from projections.chunk import Ahead, Chunk, times_as_text
from projections.lease import Lease
from projections.projection import Projection

CHUNK_EVENTS = 5_000
"""Events that one transaction folds: enough to spread its cost, few enough to be done in a part of a second."""
POLL_SECONDS = 0.2
LEASE_POLL_SECONDS = 0.4
BACKOFF_LIMIT_SECONDS = 5.0
FAULT_LIMIT = 2_000
"""Characters of an error that a checkpoint keeps."""

Connection = psycopg.Connection[Any]
log = logging.getLogger(__name__)


class Runner:
    """Follows one ledger's log on behalf of its projections."""

    def __init__(
        self,
        database: Database,
        projections: Sequence[Projection] = PROJECTIONS,
        *,
        chunk_events: int = CHUNK_EVENTS,
    ) -> None:
        self.database = database
        self.projections = projections
        self.chunk_events = chunk_events
        self._lease = Lease()
        self._ahead = Ahead(lambda: checkpoints.connect(database), times_as_text(Store(database).mapper.decode))

    def run(self, stop: threading.Event) -> None:
        """Lead, or wait for the lead, until told to stop; the chunk in hand is finished first.

        A lost or troubled database is tried again for ever, with growing pauses.
        """
        pause = POLL_SECONDS
        while not stop.is_set():
            try:
                checkpoints.install(self.database, self.projections)
                with checkpoints.connect(self.database) as connection:
                    while not self._lease.take(connection):
                        rest(stop, LEASE_POLL_SECONDS)
                        if stop.is_set():
                            return
                    self._report_outdated(connection)
                    for name in faults.retry_foreign(connection, self.projections):
                        log.info("projection %s tries the event again that the release before did not know", name)
                    connection.execute(sql.SQL("listen {}").format(sql.Identifier(f"{self.database.schema}_events")))
                    while not stop.is_set():
                        if not self._round(connection):
                            for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                                pass
                        pause = POLL_SECONDS
            except TROUBLE as error:
                log.warning("projections wait %.1f s for the database: %s", pause, str(error).strip())
                rest(stop, pause)
                pause = min(2 * pause, BACKOFF_LIMIT_SECONDS)
            finally:
                self._ahead.close()

    def catch_up(self) -> int:
        """Fold until every projection that can has reached the head of the log as of now, and return that head.

        While another runner leads, this one waits for it.
        """
        checkpoints.install(self.database, self.projections)
        with checkpoints.connect(self.database) as connection, closing(self._ahead):
            head = checkpoints.head(connection)
            leads = False
            while any(position < head for position in self._positions(connection).values()):
                leads = leads or self._lease.take(connection)
                if leads:
                    self._round(connection)
                else:
                    time.sleep(LEASE_POLL_SECONDS / 10)
            return head

    def _report_outdated(self, connection: Connection) -> None:
        ours = {projection.name: projection.version for projection in self.projections}
        for name, version in checkpoints.rows(connection, "select name, version from projection_checkpoints"):
            if ours.get(name, version) != version:
                log.error("projection %s stands still at version %d: rebuild it as %d", name, version, ours[name])

    def _positions(self, connection: Connection) -> dict[Projection, int]:
        running = checkpoints.running(connection)
        keys = {projection: (projection.name, projection.version) for projection in self.projections}
        return {projection: running[key] for projection, key in keys.items() if key in running}

    def _round(self, connection: Connection) -> int:
        """One chunk for each group of projections at the same position; how many positions were folded.

        A group that lags reads up to the next group at most, so that they meet and go on as one.
        """
        groups: dict[int, list[Projection]] = defaultdict(list)
        for projection, position in self._positions(connection).items():
            groups[position].append(projection)
        positions = sorted(groups)
        folded = 0
        for after, ahead in zip(positions, [*positions[1:], None], strict=False):  # there is none where all are FAULTED
            limit = self.chunk_events if ahead is None else min(self.chunk_events, ahead - after)
            group = groups[after]
            topics = frozenset[str]().union(*(projection.topics for projection in group))
            chunk = self._ahead.read(connection, topics, after, limit)
            if chunk:
                if len(chunk) == self.chunk_events and len(groups) == 1:
                    self._ahead.begin(topics, chunk.last, self.chunk_events)
                folded += len(chunk)
                try:
                    self._fold(connection, group, chunk)
                    self._lease.used()
                except ProjectionMoved:
                    log.info("a projection was moved by somebody else; looking again")
        return folded

    def _fold(self, connection: Connection, group: Sequence[Projection], chunk: Chunk) -> bool:
        """Fold the chunk into all, or find who fails on which event and stop that one there. Whether all went well."""
        error = self._try(connection, group, chunk)
        if error is None:
            return True
        if len(group) > 1:
            return False not in [self._fold(connection, [projection], chunk) for projection in group]
        if len(chunk) > 1:
            return all(self._fold(connection, group, half) for half in chunk.halves())
        if isinstance(error, psycopg.errors.QueryCanceled):
            error = self._try(connection, group, chunk)  # it may have been an operator, or an hour without a free core
            if error is None:
                return True
        self._fault(connection, group[0], chunk, error)
        return False

    def _try(self, connection: Connection, group: Sequence[Projection], chunk: Chunk) -> Exception | None:
        """Fold the chunk into all, or into none and say what was wrong with it."""
        try:
            with connection.transaction():
                checkpoints.move(connection, group, chunk.after, chunk.last)
                for projection in group:
                    projection.fold(chunk, connection, projection.table)
        except ProjectionMoved:
            raise
        except Exception as error:
            if checkpoints.of_the_database(error):
                raise
            return error
        return None

    def _fault(self, connection: Connection, projection: Projection, chunk: Chunk, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        for recorded in chunk.events:
            event = recorded.event
            text = f"{event.TOPIC} at {event.originator_id} v{event.originator_version}: {text}"
        text = f"position {chunk.last}: {text}"[:FAULT_LIMIT]
        log.error("projection %s is FAULTED: %s", projection.name, text, exc_info=error)
        checkpoints.fault(connection, projection, chunk.after, text)
