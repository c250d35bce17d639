"""Where everything stands that reads Kafka or follows the log: for the command line and for metrics.

All is read from the database, so anybody can tell, whichever process is away. What is read grows with partitions,
followers, and messages that are waiting or dead and open; never with the log or with what was settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

FOLLOWER_LIMIT = 100
"""Of more followers, those that are furthest behind are answered."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStanding:
    """Where a consumer group stands in one partition."""

    consumer_group: str
    topic: str
    partition: int
    next_offset: int
    """Of the next message that it takes."""
    end_offset: int | None
    """Of the next message that is produced, as the consumer saw it last; ``None`` before it did."""
    lag: int | None
    """Messages between the two."""
    seen_seconds_ago: float | None
    """How long ago it saw that. A consumer that runs looks every few seconds."""
    waiting: int
    """Messages that came too early and wait."""
    open_dead_letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLetters:
    """Dead letters that nobody settled."""

    topic: str
    consumer_group: str
    partition: int
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerStanding:
    """Where a follower of the log stands that is no read model."""

    name: str
    position: int
    lag_events: int


def consumers(connection: Connection, letters: Iterable[OpenLetters]) -> list[ConsumerStanding]:
    """Every partition that a group has read from, by group, topic and partition; with these open dead letters."""
    dead: Counter[tuple[str, str, int]] = Counter()
    for each in letters:
        dead[each.consumer_group, each.topic, each.partition] += each.count
    return [
        ConsumerStanding(**row, open_dead_letters=dead[row["consumer_group"], row["topic"], row["partition"]])
        for row in connection.cursor(row_factory=dict_row).execute(CONSUMERS)
    ]


def open_letters(connection: Connection) -> list[OpenLetters]:
    """Open dead letters by topic, group, partition and reason."""
    return connection.cursor(row_factory=class_row(OpenLetters)).execute(OPEN_LETTERS).fetchall()


def followers(connection: Connection) -> list[FollowerStanding]:
    """The furthest behind first."""
    cursor = connection.cursor(row_factory=class_row(FollowerStanding))
    return cursor.execute(FOLLOWERS, {"limit": FOLLOWER_LIMIT}).fetchall()


CONSUMERS = """
select o.consumer_group, o.topic, o.partition, o.next_offset, o.end_offset,
       case when o.end_offset is not null then greatest(o.end_offset - o.next_offset, 0) end as lag,
       extract(epoch from clock_timestamp() - o.seen_at)::float8 as seen_seconds_ago,
       coalesce(w.count, 0) as waiting
  from kafka_offsets o
  left join (select consumer_group, topic, partition, count(*) as count
               from waiting_messages group by consumer_group, topic, partition) w
       using (consumer_group, topic, partition)
 order by o.consumer_group, o.topic, o.partition
"""

OPEN_LETTERS = """
select topic, consumer_group, partition, reason, count(*) as count from dead_letters where settled_at is null
 group by topic, consumer_group, partition, reason order by topic, consumer_group, partition, reason
"""

FOLLOWERS = """
select name, f.position, greatest(head.position - f.position, 0) as lag_events
  from followers f
 cross join (select coalesce(max(notification_id), 0) as position from events) as head (position)
 order by f.position, name limit %(limit)s
"""
