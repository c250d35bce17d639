"""The log folded again from its first event, into tables apart from the live ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psycopg

from ledger.database import Database
from ledger.store import Store
from projections import checkpoints, faults
from projections.chunk import Ahead, Chunk, times_as_text
from projections.projection import Projection

CHUNK_EVENTS = 20_000
"""More than the runner takes at once: nobody waits for these rows, and each is written once for a chunk."""

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]


class Refold:
    """Tables of read models that stand at one position, and are folded on from there.

    Events that an operator let a version pass over are passed over again, so the rows come out the same, unless they
    are to be folded after all: ``fold_skipped``.
    """

    def __init__(
        self,
        database: Database,
        connection: Connection,
        tables: dict[Projection, str],
        *,
        position: int = 0,
        fold_skipped: bool = False,
    ) -> None:
        self.tables = tables
        self.position = position
        self._connection = connection
        self._topics = frozenset[str]().union(*(projection.topics for projection in tables))
        self._skipped = {
            projection: () if fold_skipped else faults.skipped(connection, projection.name, projection.version)
            for projection in tables
        }
        self._ahead = Ahead(lambda: checkpoints.connect(database), times_as_text(Store(database).mapper.decode))

    @property
    def skips(self) -> int:
        """Events that are passed over."""
        return sum(map(len, self._skipped.values()))

    def close(self) -> None:
        """End what reads ahead."""
        self._ahead.close()

    def leave(self, projections: Iterable[Projection]) -> None:
        """Fold no more into the tables of these."""
        for projection in projections:
            del self.tables[projection], self._skipped[projection]

    def fold_to(
        self,
        position: int,
        progress: Progress = lambda _done, _total: None,
        moved: Callable[[int], None] = lambda _position: None,
    ) -> None:
        """Fold on up to a position. ``moved`` is called in the transaction of each chunk.

        Raises ``Unfoldable``, which names the model and the event.
        """
        while self.position < position:
            limit, folding = self._next(position)
            chunk = self._ahead.read(self._connection, self._topics, self.position, limit)
            if chunk.last < position:
                self._ahead.begin(self._topics, chunk.last, min(CHUNK_EVENTS, position - chunk.last))
            self._fold(chunk, folding, moved)
            progress(self.position, position)

    def _fold(self, chunk: Chunk, folding: list[Projection], moved: Callable[[int], None]) -> None:
        """Fold a chunk, or find the event that cannot be folded, as the runner does. What is before it is folded."""
        name = ""
        try:
            with self._connection.transaction():
                for projection in folding:
                    name = projection.name
                    projection.fold(chunk, self._connection, self.tables[projection])
                moved(chunk.last)
        except Exception as error:
            # A statement here has no limit of time: whoever cancelled it wants the whole fold to end.
            if checkpoints.of_the_database(error) or isinstance(error, psycopg.errors.QueryCanceled):
                raise
            if len(chunk) == 1:
                raise faults.unfoldable(name, chunk, error) from error
            for half in chunk.halves():
                self._fold(half, folding, moved)
        else:
            self.position = chunk.last

    def _next(self, position: int) -> tuple[int, list[Projection]]:
        """How many events to fold next, and whose tables: an event that some pass over is a chunk of its own."""
        after = self.position
        skipped = min((at for each in self._skipped.values() for at in each if at > after), default=position + 1)
        if skipped == after + 1:
            return 1, [projection for projection, skips in self._skipped.items() if skipped not in skips]
        return min(CHUNK_EVENTS, position - after, skipped - 1 - after), list(self.tables)
