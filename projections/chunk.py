"""A chunk of the log, read and decoded once for all projections that fold it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import orjson
import psycopg
from psycopg.rows import tuple_row

from ledger.errors import LedgerError
from ledger.events import EVENTS, Event, Recorded
from projections.models.moves import Move, moves_of

Decode = Callable[[str, int, str, bytes], Event]


class MissingEvent(LedgerError):
    """The log has a hole where a position should be."""


class Unreadable(NamedTuple):
    """A row of the log that is missing or cannot be decoded."""

    position: int
    topic: str
    error: Exception


class Chunk:
    """The events at positions ``after + 1`` to ``last``, of the topics that somebody folds.

    What several projections need of it is worked out once: ``moves``.
    """

    def __init__(self, after: int, last: int, events: Sequence[Recorded], unreadable: Sequence[Unreadable]) -> None:
        self.after = after
        self.last = last
        self.events = events
        self._unreadable = unreadable

    def __len__(self) -> int:
        return self.last - self.after

    def halves(self) -> Iterator[Chunk]:
        """The same positions as two chunks, to narrow down what is wrong."""
        middle = (self.after + self.last) // 2
        for after, last in ((self.after, middle), (middle, self.last)):
            events = [recorded for recorded in self.events if after < recorded.position <= last]
            unreadable = [bad for bad in self._unreadable if after < bad.position <= last]
            yield Chunk(after, last, events, unreadable)

    def check_readable(self, topics: Collection[str]) -> None:
        """Raise the error of the first unreadable row that has one of these topics.

        A row whose topic is not in the catalogue, or that is missing, concerns everybody: nobody can know that it
        would not have been theirs.
        """
        for bad in self._unreadable:
            if bad.topic in topics or bad.topic not in EVENTS:
                raise bad.error

    @cached_property
    def moves(self) -> dict[str, Move]:
        """What the chunk does to each coupon, by stream."""
        return moves_of(self.events)


def times_as_text(decode: Decode) -> Decode:
    """Decode as ``decode`` does, but leave times as the text that is stored, for projections only.

    PostgreSQL reads that text itself, so making a time of it and a text again is spared: it was a third of all work.
    What PostgreSQL does not take for a time is refused when it is written. Upcasters work on what is stored, before
    anything is read as a time, so they are the same here.
    """

    def decode_row(stream: str, version: int, topic: str, state: bytes) -> Event:
        event_class = EVENTS.get(topic)
        if event_class is None:
            return decode(stream, version, topic, state)  # to be refused
        payload = orjson.loads(state)
        stored_version = payload.pop("class_version", 1)
        if stored_version > event_class.class_version:
            return decode(stream, version, topic, state)  # to be refused too
        for old in range(stored_version, event_class.class_version):
            getattr(event_class, f"upcast_v{old}_v{old + 1}")(payload)
        payload["originator_id"] = stream
        payload["originator_version"] = version
        return event_class.made(payload)

    return decode_row


def read_chunk(
    connection: psycopg.Connection[Any], decode: Decode, topics: Collection[str], *, after: int, limit: int
) -> Chunk:
    """The log after a position, at most ``limit`` positions of it; an empty chunk at its head.

    Events of other topics are passed over undecoded.
    """
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    events: list[Recorded] = []
    unreadable: list[Unreadable] = []
    last = after
    for stream, version, topic, state, position, recorded_at in cursor.execute(_READ, (after, limit), prepare=True):
        last += 1
        if position != last:
            unreadable.append(Unreadable(last, "", MissingEvent(f"position {last} is missing from the log")))
            break
        if topic not in topics and topic in EVENTS:
            continue
        try:
            events.append(Recorded(position, recorded_at, decode(stream, version, topic, state)))
        except Exception as error:
            unreadable.append(Unreadable(position, topic, error))
    return Chunk(after, last, events, unreadable)


class Ahead:
    """Reads the log chunk by chunk, and while one is folded already reads the next, on a connection of its own.

    So we decode while PostgreSQL folds. At the head of the log there is nothing to read ahead, and nothing is.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], decode: Decode) -> None:
        self._connect = connect
        self._decode = decode
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = ThreadPoolExecutor(1, "chunks")
        self._next: tuple[int, Collection[str], Future[Chunk]] | None = None

    def read(self, connection: psycopg.Connection[Any], topics: Collection[str], after: int, limit: int) -> Chunk:
        """The log after a position, as ``read_chunk`` reads it, or what was read ahead of it, which may be less."""
        begun, self._next = self._next, None
        if begun is not None:
            with suppress(psycopg.Error):  # its session may have ended while nobody needed it
                chunk = begun[2].result()
                if begun[:2] == (after, topics) and 0 < len(chunk) <= limit:
                    return chunk
        return read_chunk(connection, self._decode, topics, after=after, limit=limit)

    def begin(self, topics: Collection[str], after: int, limit: int) -> None:
        """Read a chunk while something else is done."""
        self._next = after, topics, self._thread.submit(self._read, topics, after, limit)

    def close(self) -> None:
        """Forget what was read ahead, and end the session. It may be used again."""
        if self._next is not None:
            wait([self._next[2]])
            self._next = None
        if self._connection is not None:
            self._connection.close()

    def _read(self, topics: Collection[str], after: int, limit: int) -> Chunk:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        chunk = read_chunk(self._connection, self._decode, topics, after=after, limit=limit)
        with suppress(ValueError):  # whom it concerns hears of it when it folds
            len(chunk.moves)  # worked out here, for all
        return chunk


_READ = """
select originator_id, originator_version, topic, state, notification_id, recorded_at
  from events where notification_id > %s order by notification_id limit %s
"""
