"""What a read model is: one class in one file, with its name, version, table, topics and fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, LiteralString

import psycopg
from psycopg import sql

from ledger.events import Event
from projections import analytics
from projections.chunk import Chunk

Connection = psycopg.Connection[Any]


class Projection(ABC):
    """A fold of the log into one table.

    The table is ``<name>_v<version>``; readers use the view ``<name>``, so a new version can be filled beside the
    old one. Whoever changes ``ddl`` or what ``apply`` writes raises ``version``, and every ledger rebuilds it.
    """

    name: ClassVar[LiteralString]
    version: ClassVar[int]
    ddl: ClassVar[LiteralString]
    """Statements that make ``{table}`` with its indexes. They name no index, for two tables may live side by side."""
    folds: ClassVar[tuple[type[Event], ...]]
    """The events that matter to it. Others are not even decoded on its account."""
    compared: ClassVar[LiteralString] = "true"
    """Which rows a rebuild and a replay compare: a condition on ``t`` that fails where a row depends on more than the
    log, such as on what was sent."""

    @abstractmethod
    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Fold a chunk of the log into the table, in the caller's transaction.

        Raises whatever is wrong; the runner then finds the exact event and stops this projection there.
        """

    @property
    def table(self) -> str:
        """The table of this version."""
        return f"{self.name}_v{self.version}"

    @property
    def topics(self) -> frozenset[str]:
        """Topics of the events that it folds."""
        return frozenset(event.TOPIC for event in self.folds)

    def fold(self, chunk: Chunk, connection: Connection, table: str) -> None:
        """``apply``, after refusing a chunk in which an event that concerns this projection cannot be read."""
        chunk.check_readable(self.topics)
        self.apply(chunk, connection, sql.Identifier(table))

    def create_table(self, connection: Connection, table: str) -> None:
        """Make an empty table, of which analysts see their own merchants' rows."""
        connection.execute(sql.SQL(self.ddl).format(table=sql.Identifier(table)))
        analytics.protect(connection, table)

    def show(self, connection: Connection) -> None:
        """Point the view at this version's table.

        The view is replaced in its place, so that a reader waits for a moment and never finds none.
        """
        names = {"view": sql.Identifier(self.name), "table": sql.Identifier(self.table)}
        try:
            with connection.transaction():
                connection.execute(sql.SQL("create or replace view {view} as select * from {table}").format(**names))
        except psycopg.errors.InvalidTableDefinition:  # the table of before had columns that this one has not
            connection.execute(sql.SQL("drop view {view} cascade").format(**names))
            connection.execute(sql.SQL("create view {view} as select * from {table}").format(**names))
