"""The inbox: what a poll brought becomes effects, dead letters and new offsets in one transaction.

The stored offsets are the truth about what was consumed; Kafka's own committed offsets only feed lag tools. Their
rows are locked for the length of the transaction, so a consumer that lost its partition without knowing (a zombie)
waits, finds the offset moved, and has no effect.

A message that came too early waits (waiting.py). What waits of a key is performed before anything newer of that key,
so a key's messages keep their order as far as they can have an effect at all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import tuple_row

from consumers import waiting
from consumers.asked import Asked
from consumers.dead_letters import BROKEN_INSTALLATION, TRANSIENT, Connection, bury
from consumers.inputs import BusinessTime, Input, actor_of
from consumers.kept import Record
from consumers.outcomes import Outcome, outcomes
from consumers.waiting import KEY_LIMIT, WAIT_SECONDS, Key, Waiter, key_of
from ledger.application import Ledger
from ledger.errors import LedgerError

log = logging.getLogger(__name__)

Partition = tuple[str, int]
"""Topic and number; kafka-python's ``TopicPartition`` is one."""
T = TypeVar("T")


class TopicReplaced(LedgerError):
    """A topic holds fewer messages than were consumed from it: it was made anew, or lost its end."""


@dataclass(slots=True)
class Taken:
    """What became of a poll, or of messages that waited."""

    next_offsets: dict[Partition, int] = field(default_factory=dict)
    """Where each partition stands that moved."""
    seeks: dict[Partition, int] = field(default_factory=dict)
    """Where to read on instead: these partitions' records were not the ones that were due."""
    messages: int = 0
    """Of the poll; the other counts are of messages that waited too."""
    effects: int = 0
    repeats: int = 0
    """Messages whose effect was there before; a message for which no rule was waiting has none and is no repeat."""
    dead: int = 0
    early: int = 0
    """Messages of the poll that wait now."""


class _Stored(NamedTuple):
    next_offset: int
    something_waits: bool


class Inbox:
    """One consumer group's way into the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        input: Input,
        group: str,
        business_time: BusinessTime,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """``wait_seconds`` is how long a message waits that came too early."""
        self._ledger = ledger
        self._wait_seconds = wait_seconds
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
        offsets = {partition: found.next_offset for partition, found in stored.items()}
        self._sought.update(offsets)
        return offsets

    def take(self, polled: Mapping[Partition, Sequence[Record]]) -> Taken:
        """Perform what these records ask, each partition's in their order, and store how far they go.

        A message that can have no effect becomes a dead letter; a group that fails as a whole is split until the
        message to blame stands alone. Raises ``Unavailable`` when nothing was written and the same records may be
        taken again, and ``TopicReplaced``.
        """
        return self._in_one_transaction(lambda connection, isolate: self._take(connection, polled, isolate))

    def try_again(self, partitions: Iterable[Partition]) -> Taken:
        """Perform what waits in these partitions and is due. Raises ``Unavailable`` when nothing was written."""
        mine = sorted(partitions)
        if not mine:
            return Taken()
        with self._ledger.store.connection() as connection:
            keys = waiting.due(connection, self._group, mine)
        if not keys:
            return Taken()
        return self._in_one_transaction(lambda connection, isolate: self._try_again(connection, keys, isolate))

    def note_ends(self, ends: Mapping[Partition, int]) -> int:
        """Write down how far these partitions go, for all who want to know the lag, and answer theirs in messages.

        Raises ``Unavailable``.
        """
        topics, numbers = _columns(sorted(ends))
        told = {"group": self._group, "topics": topics, "numbers": numbers}
        with self._ledger.store.connection() as connection:
            cursor: psycopg.Cursor[tuple[int]] = connection.cursor(row_factory=tuple_row)
            rows = cursor.execute(_NOTE_ENDS, told | {"ends": [ends[each] for each in sorted(ends)]}, prepare=True)
            return sum(lag for (lag,) in rows)

    def _in_one_transaction(self, do: Callable[[Connection, bool], T]) -> T:
        with self._ledger.store.connection() as connection:
            try:
                with connection.transaction():
                    return do(connection, False)
            except TRANSIENT + BROKEN_INSTALLATION + (TopicReplaced,):
                raise
            except Exception as error:
                log.warning("a group of messages failed and is split: %s: %s", type(error).__name__, error)
            with connection.transaction():
                return do(connection, True)

    def _take(self, connection: Connection, polled: Mapping[Partition, Sequence[Record]], isolate: bool) -> Taken:
        taken = Taken()
        stored = self._stored(connection, *_columns(polled), _STORED + " for update")
        records = self._due(stored, polled, taken)
        if records:
            taken.messages = len(records)
            among = {partition for partition, found in stored.items() if found.something_waits}
            keys = {key_of(record) for record in records if record.key and (record.topic, record.partition) in among}
            self._settle(connection, keys, records, taken, isolate)
            topics, numbers = _columns(taken.next_offsets)
            offsets = list(taken.next_offsets.values())
            told = {"group": self._group, "topics": topics, "numbers": numbers, "offsets": offsets}
            connection.execute(_STORE, told)
        return taken

    def _try_again(self, connection: Connection, keys: Sequence[Key], isolate: bool) -> Taken:
        taken = Taken()
        # The rows of the offsets keep apart whoever works on a partition, here as well.
        self._stored(connection, *_columns({(key.topic, key.partition) for key in keys}), _STORED + " for update")
        self._settle(connection, keys, (), taken, isolate)
        return taken

    def _due(
        self, stored: Mapping[Partition, _Stored], polled: Mapping[Partition, Sequence[Record]], taken: Taken
    ) -> list[Record]:
        """The records that were not consumed before, and no others."""
        due: list[Record] = []
        for partition, records in polled.items():
            expected = stored[partition].next_offset if partition in stored else 0
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

    def _settle(
        self, connection: Connection, keys: Iterable[Key], records: Sequence[Record], taken: Taken, isolate: bool
    ) -> None:
        """Perform what waits of these keys, then these records; write down what has no effect yet, or never."""
        waiters = waiting.waiters_of(connection, self._group, keys)
        results = self._performed(connection, [*waiters, *records], taken, isolate)
        done: list[Waiter] = []
        late: list[waiting.Failed] = []
        over: list[waiting.Failed] = []
        for waiter, (result, may_wait) in zip(waiters, results, strict=False):
            if not isinstance(result, Exception):
                done.append(waiter)
            elif may_wait and not waiter.over:
                late.append((waiter, result))
            else:
                over.append((waiter, result))
        waiting.remove(connection, self._group, done)
        waiting.try_later(connection, self._group, late)
        waiting.give_up(connection, self._group, over)
        room = Counter(key_of(waiter) for waiter, _ in late)
        early: list[tuple[Record, Exception]] = []
        dead: list[tuple[Record, Exception]] = []
        for record, (result, may_wait) in zip(records, results[len(waiters) :], strict=True):
            if not isinstance(result, Exception):
                continue
            if may_wait and room[key_of(record)] < KEY_LIMIT:
                room[key_of(record)] += 1
                early.append((record, result))
            else:
                dead.append((record, result))
        waiting.keep(connection, self._group, self._business_time, self._wait_seconds, early)
        bury(connection, self._group, self._business_time, dead)
        taken.early, taken.dead = len(early), len(dead) + len(over)

    def _performed(
        self, connection: Connection, messages: Sequence[Record | Waiter], taken: Taken, isolate: bool
    ) -> list[Outcome]:
        now = self._ledger.store.now(connection)
        asked: list[tuple[Key, Asked]] = []
        unread: dict[int, Exception] = {}
        for place, message in enumerate(messages):
            business_time = message.business_time if isinstance(message, Waiter) else self._business_time
            try:
                one = self._input.asked(message, self._actor, business_time, now)
            except Exception as error:  # reading a message must not fail its neighbours, whatever is wrong with it
                unread[place] = error
            else:
                asked.append((key_of(message), one))
        found = outcomes(self._ledger, connection, asked, isolate=isolate)
        for result, _ in found:
            if result is not None and not isinstance(result, Exception):
                taken.repeats += result.replayed
                taken.effects += not result.replayed
        rest = iter(found)
        return [Outcome(unread[place]) if place in unread else next(rest) for place in range(len(messages))]

    def _stored(
        self, connection: Connection, topics: list[str], numbers: list[int], query: str
    ) -> dict[Partition, _Stored]:
        cursor: psycopg.Cursor[tuple[Any, ...]] = connection.cursor(row_factory=tuple_row)
        rows = cursor.execute(query, {"group": self._group, "topics": topics, "numbers": numbers}, prepare=True)
        return {(topic, number): _Stored(*stored) for topic, number, *stored in rows}


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
select topic, partition, next_offset,
       coalesce((select true from waiting_messages w
                  where w.consumer_group = o.consumer_group and w.topic = o.topic and w.partition = o.partition
                  order by w.next_try_at limit 1), false)
  from kafka_offsets o
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

_NOTE_ENDS = """
update kafka_offsets o set end_offset = p.end_offset, seen_at = clock_timestamp()
  from unnest(%(topics)s::text[], %(numbers)s::int[], %(ends)s::bigint[]) as p (topic, number, end_offset)
 where o.consumer_group = %(group)s and o.topic = p.topic and o.partition = p.number
returning greatest(o.end_offset - o.next_offset, 0)
"""
