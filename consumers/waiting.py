"""Messages that came before what they need: a payment before its order, an order before its coupon.

Each is kept as it came and tried again, whenever its key has news and by time, always together with all others that
wait of its key and in their order. When its time is over it becomes a dead letter with the last reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row, tuple_row

from consumers.dead_letters import reason_of
from consumers.inputs import BusinessTime
from consumers.kept import Record, columns_of, headers_of, kept_detail
from consumers.messages import Headers

WAIT_SECONDS = 60.0
"""How long a message waits where nothing else is set."""
FIRST_TRY_SECONDS = 1.0
"""Then after twice as long each time, and for the last time when its time is over."""
KEY_LIMIT = 100
"""Messages of one key that may wait: all of them are tried again together."""
DUE_LIMIT = 100
"""Keys that are tried again in one transaction."""

Connection = psycopg.Connection[Any]
Failed = tuple["Waiter", Exception]


class Key(NamedTuple):
    """What keeps messages in order."""

    topic: str
    partition: int
    key: bytes


class Waiter(NamedTuple):
    """A message that waits; it can be read as a record can."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    kept_headers: list[tuple[str, str | None]]
    business_time: BusinessTime
    over: bool
    """Whether its time is over, so that this is its last try."""

    @property
    def headers(self) -> Headers:
        """As they came."""
        return headers_of(self.kept_headers)


def key_of(record: Record | Waiter) -> Key:
    """The key of a record that was understood, and so has one."""
    assert record.key is not None
    return Key(record.topic, record.partition, record.key)


def waiters_of(connection: Connection, group: str, keys: Iterable[Key]) -> list[Waiter]:
    """All that wait of these keys, those of one key in their order."""
    asked = _columns(keys)
    if not asked["topics"]:
        return []
    return connection.cursor(row_factory=class_row(Waiter)).execute(_OF_KEYS, {"group": group} | asked).fetchall()


def due(connection: Connection, group: str, partitions: Iterable[tuple[str, int]]) -> list[Key]:
    """Keys of which a message is to be tried again by now, those that are due for longest first."""
    topics, numbers = zip(*partitions, strict=True)
    asked = {"group": group, "topics": list(topics), "numbers": list(numbers), "limit": DUE_LIMIT}
    cursor: psycopg.Cursor[tuple[Any, ...]] = connection.cursor(row_factory=tuple_row)
    return [Key(*row) for row in cursor.execute(_DUE, asked, prepare=True)]


def keep(
    connection: Connection,
    group: str,
    business_time: BusinessTime,
    seconds: float,
    early: Iterable[tuple[Record, Exception]],
) -> None:
    """Let these messages wait for so long, by the database clock."""
    rows = []
    for record, error in early:
        reason, detail = reason_of(error)
        told = {"group": group, "business_time": business_time, "reason": reason, "detail": kept_detail(detail)}
        rows.append(columns_of(record) | told | {"seconds": seconds, "first_try_seconds": FIRST_TRY_SECONDS})
    if rows:
        connection.cursor().executemany(_KEEP, rows)


def try_later(connection: Connection, group: str, failed: Sequence[Failed]) -> None:
    """They were tried in vain, and wait on."""
    if failed:
        connection.execute(_TRY_LATER, {"group": group, "first": FIRST_TRY_SECONDS} | _failures(failed))


def give_up(connection: Connection, group: str, failed: Sequence[Failed]) -> None:
    """They wait no more, and become dead letters."""
    if failed:
        connection.execute(_GIVE_UP, {"group": group} | _failures(failed))


def remove(connection: Connection, group: str, done: Sequence[Waiter]) -> None:
    """They had their effect, now or before."""
    if done:
        connection.execute(_REMOVE, {"group": group, "offsets": [each.offset for each in done]} | _columns(done))


def _columns(keys: Iterable[Key | Waiter]) -> dict[str, Any]:
    found = list(keys)
    return {
        "topics": [each.topic for each in found],
        "numbers": [each.partition for each in found],
        "keys": [each.key for each in found],
    }


def _failures(failed: Sequence[Failed]) -> dict[str, Any]:
    reasons = [reason_of(error) for _, error in failed]
    return _columns(waiter for waiter, _ in failed) | {
        "offsets": [waiter.offset for waiter, _ in failed],
        "reasons": [reason for reason, _ in reasons],
        "details": [kept_detail(detail) for _, detail in reasons],
    }


# Each look-up is lateral, so that a plan made while few messages waited reads by key when many do.
_OF_KEYS = """
select w.topic, w.partition, w."offset", w.key, w.value, w.headers as kept_headers, w.business_time,
       w.waits_until <= clock_timestamp() as over
  from unnest(%(topics)s::text[], %(numbers)s::int[], %(keys)s::bytea[]) as k (topic, partition, key)
 cross join lateral (select * from waiting_messages w
                      where w.consumer_group = %(group)s and w.topic = k.topic and w.partition = k.partition
                        and w.key = k.key
                      order by w."offset") w
 order by w.topic, w.partition, w."offset"
"""

_DUE = """
select topic, partition, key
  from (select w.topic, w.partition, w.key, w.next_try_at
          from unnest(%(topics)s::text[], %(numbers)s::int[]) as p (topic, partition)
         cross join lateral (select * from waiting_messages w
                              where w.consumer_group = %(group)s and w.topic = p.topic
                                and w.partition = p.partition and w.next_try_at <= clock_timestamp()
                              order by w.next_try_at limit %(limit)s) w
         order by w.next_try_at limit %(limit)s) d
 group by topic, partition, key
 order by min(next_try_at)
"""

_KEEP = """
insert into waiting_messages (consumer_group, topic, partition, "offset", key, value, headers, message_time,
                              business_time, reason, detail, waits_until, next_try_at)
select %(group)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s, %(message_time)s,
       %(business_time)s, %(reason)s, %(detail)s, ends_at,
       least(now + make_interval(secs => %(first_try_seconds)s), ends_at)
  from (select clock_timestamp() as now) clock
 cross join lateral (select now + make_interval(secs => %(seconds)s) as ends_at) e
"""

_FAILED = """
unnest(%(topics)s::text[], %(numbers)s::int[], %(keys)s::bytea[], %(offsets)s::bigint[], %(reasons)s::text[],
       %(details)s::text[]) as f (topic, partition, key, "offset", reason, detail)
 where w.consumer_group = %(group)s and w.topic = f.topic and w.partition = f.partition and w.key = f.key
   and w."offset" = f."offset"
"""

_TRY_LATER = f"""
update waiting_messages w
   set reason = f.reason, detail = f.detail, attempts = attempts + 1,
       next_try_at = least(clock_timestamp() + make_interval(secs => %(first)s * power(2, least(attempts, 20))),
                           waits_until)
  from {_FAILED}
"""  # noqa: S608

_GIVE_UP = f"""
with gone as (
    delete from waiting_messages w using {_FAILED} returning w.*, f.reason as last_reason, f.detail as last_detail
)
insert into dead_letters (consumer_group, topic, partition, "offset", key, value, headers, message_time,
                          business_time, reason, detail, attempts)
select consumer_group, topic, partition, "offset", key, value, headers, message_time, business_time, last_reason,
       last_detail, attempts + 1
  from gone order by topic, partition, "offset"
on conflict do nothing
"""  # noqa: S608

_REMOVE = """
delete from waiting_messages w
 using unnest(%(topics)s::text[], %(numbers)s::int[], %(keys)s::bytea[], %(offsets)s::bigint[])
       as d (topic, partition, key, "offset")
 where w.consumer_group = %(group)s and w.topic = d.topic and w.partition = d.partition and w.key = d.key
   and w."offset" = d."offset"
"""
