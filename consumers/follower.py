"""Following the log from a stored position: what the publisher, the merchants' webhooks and the alerts have in common.

Polling is the truth, a NOTIFY is not waited for. The follower's row is locked while it works on a chunk, so that of
several processes one follows and the others look on; a process that lost its connection has lost the row with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from kafka.errors import KafkaError

from consumers.patience import keep_doing
from ledger.errors import ServiceError
from ledger.events import Recorded
from ledger.store import Store

CHUNK_EVENTS = 1_000
POLL_SECONDS = 0.1

Connection = psycopg.Connection[Any]
Handle = Callable[[Connection, Sequence[Recorded]], None]
"""Does what is to be done with the next events of the log. The position moves in the same transaction, so what it
writes has one effect, and what it sends elsewhere may be sent again after a crash. It ends within a few seconds, before
the database ends an idle transaction."""


class Follower:
    """One way of following a ledger's log, known by its name."""

    def __init__(self, store: Store, name: str, handle: Handle, *, chunk_events: int = CHUNK_EVENTS) -> None:
        self.name = name
        self._store = store
        self._handle = handle
        self._chunk_events = chunk_events

    def run(self, stop: threading.Event) -> None:
        """Follow until told to stop; the chunk in hand is finished first.

        The database and the broker may come and go: the same events are handled again.
        """
        keep_doing(self.name, lambda: 0.0 if self.step() else POLL_SECONDS, stop, (ServiceError, KafkaError))

    def step(self) -> int:
        """Handle one chunk, and say how many events it had: none at the head, or where another process follows.

        Raises what the handling raises, and ``Unavailable``; the position then stays.
        """
        with self._store.connection() as connection:
            with connection.transaction():
                row = connection.execute(_TAKE, (self.name,), prepare=True).fetchone()
                if row is not None:
                    return self._chunk(connection, row["position"])
            connection.execute(_BEGIN, (self.name,))
        return 0

    def _chunk(self, connection: Connection, position: int) -> int:
        events = list(self._store.read(connection, position, self._chunk_events))
        if events:
            self._handle(connection, events)
            connection.execute(MOVE, (events[-1].position, self.name), prepare=True)
        return len(events)


# Where the row is locked, another process follows.
_TAKE = "select position from followers where name = %s for update skip locked"

_BEGIN = "insert into followers (name) values (%s) on conflict do nothing"

MOVE = "update followers set position = %s, updated_at = clock_timestamp() where name = %s"
"""To a position, by name; only while the row is locked."""
