"""Where everything stands that reads Kafka or follows the log: for the command line and for metrics.

All is read from the database, so anybody can tell, whichever process is away. What is read grows with
read models, partitions, followers, channels, jobs at work, and what is waiting or dead and open; never with the log or
with what was settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row, dict_row, tuple_row

from projections import queries
from projections.catalogue import VERSIONS, state_of

COUNT_LIMIT = 10_000
"""Nothing is counted further: of reminders, of deliveries that were given up, and of those of one channel."""
FOLLOWER_LIMIT = 100
"""Of more followers, those that are furthest behind are answered."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStanding(queries.ProjectionStatus):
    """Where a read model stands. ``state`` may be OUTDATED, too: nobody folds it, and reads of it are refused."""

    release_version: int | None
    """That this release has, which is another one than ``version`` where it is OUTDATED; ``None`` where it has none."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesStanding:
    """What is due on channels that are enabled, or on those that are not."""

    disabled: bool
    count: int
    """At most ``COUNT_LIMIT`` of each channel."""
    oldest_seconds: float
    """How long the first of them has been due; 0 without any."""


def read_models(connection: Connection) -> list[ModelStanding]:
    """Every read model, by name."""
    return [
        ModelStanding(
            **asdict(row) | {"state": state_of(row.name, row.version, row.state)},
            release_version=VERSIONS.get(row.name),
        )
        for row in queries.status(connection)
    ]


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


def deliveries_due(connection: Connection) -> list[DeliveriesStanding]:
    """Of enabled channels, then of disabled ones."""
    cursor = connection.cursor(row_factory=class_row(DeliveriesStanding))
    return cursor.execute(DELIVERIES_DUE, {"limit": COUNT_LIMIT}).fetchall()


def deliveries_given_up(connection: Connection) -> int:
    """At most ``COUNT_LIMIT``."""
    return _count(connection, DELIVERIES_GIVEN_UP)


def channels_disabled(connection: Connection) -> int:
    """Channels on which nothing is sent until somebody enables them."""
    return _count(connection, CHANNELS_DISABLED)


def reminders_overdue(connection: Connection) -> int:
    """Reminders whose time has come and that were not sent, at most ``COUNT_LIMIT``; 0 before there is a read model."""
    if not connection.execute("select from pg_class where oid = to_regclass('reminders')").rowcount:
        return 0
    return _count(connection, REMINDERS_OVERDUE)


def job_rows_waiting(connection: Connection) -> int:
    """Rows of running jobs that have not settled."""
    return _count(connection, JOB_ROWS_WAITING)


def _count(connection: Connection, query: LiteralString) -> int:
    ((found,),) = connection.cursor(row_factory=tuple_row).execute(query, {"limit": COUNT_LIMIT}).fetchall()
    return int(found)


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

# One step down the index for each channel with something outstanding, as those who send find it.
DELIVERIES_DUE = """
with recursive first as (
    (select channel_id, due_at from deliveries where state = 'due' order by channel_id, due_at limit 1)
    union all
    select n.channel_id, n.due_at
      from first f
     cross join lateral (select d.channel_id, d.due_at from deliveries d
                          where d.state = 'due' and d.channel_id > f.channel_id
                          order by d.channel_id, d.due_at limit 1) n
), due as (
    select c.disabled, n.count, extract(epoch from statement_timestamp() - f.due_at)::float8 as seconds
      from first f
     cross join lateral (select c.disabled_at is not null as disabled from channels c
                          where c.channel_id = f.channel_id and c.deleted_at is null limit 1) c
     cross join lateral (select count(*) as count
                           from (select from deliveries d
                                  where d.state = 'due' and d.channel_id = f.channel_id
                                    and d.due_at <= statement_timestamp()
                                  order by d.due_at limit %(limit)s) d) n
     where f.due_at <= statement_timestamp()
)
select k.disabled, coalesce(sum(due.count), 0)::bigint as count, coalesce(max(due.seconds), 0) as oldest_seconds
  from (values (false), (true)) as k (disabled)
  left join due using (disabled)
 group by k.disabled order by k.disabled
"""

DELIVERIES_GIVEN_UP = """
select count(*) from (select from deliveries where state = 'dead' order by merchant_id, delivery_id limit %(limit)s) d
"""

CHANNELS_DISABLED = "select count(*) from channels where disabled_at is not null and deleted_at is null"

REMINDERS_OVERDUE = """
select count(*) from (select from reminders where due_at <= statement_timestamp() order by due_at limit %(limit)s) r
"""

JOB_ROWS_WAITING = """
select coalesce(sum(greatest(j.accepted - o.settled, 0)), 0)
  from issuance_jobs j
 cross join lateral (select coalesce(sum(o.rows), 0) as settled from issuance_job_outcomes o
                      where o.job_id = j.job_id) o
 where j.state = 'RUNNING'
"""
