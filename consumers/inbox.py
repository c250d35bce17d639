"""The inbox: what a poll brought becomes effects, dead letters and new offsets in one transaction.

The stored offsets are the truth about what was consumed; Kafka's own committed offsets only feed lag tools. Their
rows are locked for the length of the transaction, so a consumer that lost its partition without knowing (a zombie)
waits, finds the offset moved, and has no effect.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from consumers.asked import Asked, Result, perform
from consumers.dead_letters import BROKEN_INSTALLATION, TRANSIENT, Connection, Record, bury
from consumers.inputs import BusinessTime, Input, actor_of
from ledger.application import Ledger
from ledger.errors import LedgerError

log = logging.getLogger(__name__)

Partition = tuple[str, int]
"""Topic and number; kafka-python's ``TopicPartition`` is one."""
Dead = list[tuple[Record, Exception]]


class TopicReplaced(LedgerError):
    """A topic holds fewer messages than were consumed from it: it was made anew, or lost its end."""


@dataclass(slots=True)
class Taken:
    """What became of a poll."""

    next_offsets: dict[Partition, int] = field(default_factory=dict)
    """Where each partition stands that moved."""
    seeks: dict[Partition, int] = field(default_factory=dict)
    """Where to read on instead: these partitions' records were not the ones that were due."""
    messages: int = 0
    effects: int = 0
    repeats: int = 0
    """Messages whose effect was there before; a message for which no rule was waiting has none and is no repeat."""
    dead: int = 0


class Inbox:
    """One consumer group's way into the ledger."""

    def __init__(self, ledger: Ledger, input: Input, group: str, business_time: BusinessTime) -> None:
        self._ledger = ledger
        self._input = input
        self._group = group
        self._business_time = business_time
        self._actor = actor_of(group)
        self._sought: dict[Partition, int] = {}

    def begin(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where to read each newly assigned partition from. Raises ``Unavailable``."""
        topics, numbers = _columns(partitions)
        with self._ledger.store.connection() as connection:
            connection.execute(_FIRST_OFFSETS, {"group": self._group, "topics": topics, "numbers": numbers})
            stored = self._stored(connection, topics, numbers, _STORED)
        self._sought.update(stored)
        return stored

    def take(self, polled: Mapping[Partition, Sequence[Record]]) -> Taken:
        """Perform what these records ask, each partition's in their order, and store how far they go.

        A message that can have no effect becomes a dead letter; a group that fails as a whole is split until the
        message to blame stands alone. Raises ``Unavailable`` when nothing was written and the same records may be
        taken again, and ``TopicReplaced``.
        """
        with self._ledger.store.connection() as connection:
            try:
                with connection.transaction():
                    return self._take(connection, polled, isolate=False)
            except TRANSIENT + BROKEN_INSTALLATION + (TopicReplaced,):
                raise
            except Exception as error:
                log.warning("a group of messages failed and is split: %s: %s", type(error).__name__, error)
            with connection.transaction():
                return self._take(connection, polled, isolate=True)

    def _take(self, connection: Connection, polled: Mapping[Partition, Sequence[Record]], *, isolate: bool) -> Taken:
        taken = Taken()
        records = self._due(connection, polled, taken)
        if records:
            dead = self._perform(connection, records, taken, isolate)
            bury(connection, self._group, self._business_time, dead)
            taken.dead = len(dead)
            taken.messages = len(records)
            topics, numbers = _columns(taken.next_offsets)
            connection.execute(
                _STORE,
                {
                    "group": self._group,
                    "topics": topics,
                    "numbers": numbers,
                    "offsets": list(taken.next_offsets.values()),
                },
            )
        return taken

    def _due(self, connection: Connection, polled: Mapping[Partition, Sequence[Record]], taken: Taken) -> list[Record]:
        """The records that were not consumed before, and no others."""
        stored = self._stored(connection, *_columns(polled), _STORED + " for update")
        due: list[Record] = []
        for partition, records in polled.items():
            expected = stored.get(partition, 0)
            first, last = records[0].offset, records[-1].offset
            asked = self._sought.pop(partition, None) == expected
            if first != expected:
                if asked and first < expected:
                    raise TopicReplaced(
                        f"{partition[0]}/{partition[1]} was read from {expected}, and gave {first}: if the topic was"
                        f" made anew, start a new consumer group or delete the group's row in kafka_offsets"
                    )
                if last < expected or (first > expected and not asked):
                    taken.seeks[partition] = self._sought[partition] = expected
                    continue
                if first > expected:
                    log.error(
                        "%s/%s has no messages from %d to %d any more: retention or a transaction's marker took them",
                        *partition,
                        expected,
                        first - 1,
                    )
            due.extend(records if first >= expected else [record for record in records if record.offset >= expected])
            taken.next_offsets[partition] = last + 1
        return due

    def _perform(self, connection: Connection, records: Sequence[Record], taken: Taken, isolate: bool) -> Dead:
        now = self._ledger.store.now(connection)
        asked: list[Asked] = []
        working: list[Record] = []
        dead: Dead = []
        asked_by, actor, business_time = self._input.asked, self._actor, self._business_time
        for record in records:
            try:
                asked.append(asked_by(record, actor, business_time, now))
            except Exception as error:  # reading a message must not fail its neighbours, whatever is wrong with it
                dead.append((record, error))
            else:
                working.append(record)
        results: Sequence[Result | Exception] = (
            self._isolated(connection, asked) if isolate else perform(self._ledger, connection, asked)
        )
        for record, result in zip(working, results, strict=True):
            if isinstance(result, Exception):
                dead.append((record, result))
            elif result is not None:
                taken.repeats += result.replayed
                taken.effects += not result.replayed
        return dead

    def _isolated(self, connection: Connection, asked: Sequence[Asked]) -> list[Result | Exception]:
        """Results of messages of which at least one makes its group fail: halves, until it stands alone."""
        try:
            with connection.transaction():
                return list(perform(self._ledger, connection, asked))
        except TRANSIENT + BROKEN_INSTALLATION:
            raise
        except Exception as error:
            if len(asked) == 1:
                log.exception("a message is dead")
                return [error]
        half = len(asked) // 2
        return self._isolated(connection, asked[:half]) + self._isolated(connection, asked[half:])

    def _stored(
        self, connection: Connection, topics: list[str], numbers: list[int], query: str
    ) -> dict[Partition, int]:
        cursor: psycopg.Cursor[tuple[Any, ...]] = connection.cursor(row_factory=tuple_row)
        rows = cursor.execute(query, {"group": self._group, "topics": topics, "numbers": numbers}, prepare=True)
        return {(topic, number): next_offset for topic, number, next_offset in rows}


def _columns(partitions: Iterable[Partition]) -> tuple[list[str], list[int]]:
    pairs = list(partitions)
    return [topic for topic, _ in pairs], [number for _, number in pairs]


_FIRST_OFFSETS = """
insert into kafka_offsets (consumer_group, topic, partition, next_offset)
select %(group)s, topic, number, 0 from unnest(%(topics)s::text[], %(numbers)s::int[]) as p (topic, number)
 order by topic, number
on conflict do nothing
"""

# Always in one order, so that two consumers never wait for each other in a ring.
_STORED = """
select topic, partition, next_offset from kafka_offsets
 where consumer_group = %(group)s
   and (topic, partition) in (select * from unnest(%(topics)s::text[], %(numbers)s::int[]))
 order by topic, partition
"""

_STORE = """
insert into kafka_offsets (consumer_group, topic, partition, next_offset)
select %(group)s, topic, number, next_offset
  from unnest(%(topics)s::text[], %(numbers)s::int[], %(offsets)s::bigint[]) as p (topic, number, next_offset)
on conflict (consumer_group, topic, partition) do update set next_offset = excluded.next_offset
"""
