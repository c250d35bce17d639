"""What is to be sent on channels: each delivery once for its key, tried again until it is taken or given up.

A delivery is enqueued in the transaction of what it tells of, so it is there if and only if that is. Whoever sends
claims some for ``LEASE_SECONDS`` and lets go of the transaction, so that no slow receiver holds one open; who dies
meanwhile leaves them to be sent again, under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson
import psycopg
from psycopg.rows import class_row, tuple_row

from ledger.errors import NotFound

LEASE_SECONDS = 120.0
"""Several times the longest attempt."""
BACKOFF_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 72_000)
"""Pauses between attempts, as Standard Webhooks advises: three days in all, then the delivery is dead."""
DISABLED_DAYS = 3
"""For so long a delivery waits for its channel to be enabled again, then it is dead."""
ERROR_LIMIT = 500
"""Characters of what is kept of an error."""

Connection = psycopg.Connection[Any]


class DeliveryNotFound(NotFound):
    """No such delivery, or it was not given up."""


class Delivery(NamedTuple):
    """Something to be sent on one channel."""

    key: str
    """Unique for ever: the same key is enqueued once."""
    channel_id: str
    merchant_id: str
    type: str
    """What it is: the topic of an event, ``alert``, ``reminder``."""
    body: dict[str, Any]
    """What a webhook's ``data`` is; an e-mail says its ``title`` and ``text``, where it has them."""
    user_id: str | None = None
    """Whom it is for, where an e-mail goes to the user's own address."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery to be sent now, with its channel as it is."""

    delivery_id: int
    key: str
    channel_id: str
    merchant_id: str
    type: str
    user_id: str | None
    body: str
    """JSON."""
    attempts: int
    """With this one."""
    created_at: datetime
    kind: Literal["webhook", "email"]
    target: str | None
    secrets: list[str]
    """The channel's, the newest first: two while one is rotated."""
    tell_reached: bool
    """Whether the channel was not said to be reached within the hour."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A delivery that was given up, as an operator sees it."""

    delivery_id: int
    channel_id: str
    type: str
    attempts: int
    created_at: datetime
    settled_at: datetime
    error: str | None


def enqueue(connection: Connection, deliveries: Sequence[Delivery]) -> int:
    """Have these sent, in the caller's transaction; how many there were not before.

    A key that is there already, and a channel that was deleted meanwhile, count for nothing.
    """
    if not deliveries:
        return 0
    columns = (
        [each.key for each in deliveries],
        [each.channel_id for each in deliveries],
        [each.merchant_id for each in deliveries],
        [each.type for each in deliveries],
        [each.user_id for each in deliveries],
        [orjson.dumps(each.body).decode() for each in deliveries],
    )
    return connection.execute(_ENQUEUE, columns, prepare=True).rowcount


# In the order of keys, so that two who enqueue the same never wait for each other in a circle.
_ENQUEUE = """
insert into deliveries (key, channel_id, merchant_id, type, user_id, body)
select key, channel_id, merchant_id, type, user_id, body::json
  from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
       as q (key, channel_id, merchant_id, type, user_id, body)
 where exists (select from channels c where c.channel_id = q.channel_id and c.deleted_at is null)
 order by key
on conflict (key) do nothing
"""


# --- sending ----------------------------------------------------------------------------------------


def waiting_channels(connection: Connection, limit: int) -> list[str]:
    """Channels that have something to be sent now, or to be given up."""
    cursor = connection.cursor(row_factory=tuple_row)
    return [row[0] for row in cursor.execute(_WAITING, {"limit": limit, "days": DISABLED_DAYS}, prepare=True)]


# One step down the index for each channel with something outstanding, however much that is.
_WAITING = """
with recursive waiting as (
    (select channel_id, due_at from deliveries where state = 'due' order by channel_id, due_at limit 1)
    union all
    select n.channel_id, n.due_at
      from waiting w
     cross join lateral (select d.channel_id, d.due_at from deliveries d
                          where d.state = 'due' and d.channel_id > w.channel_id
                          order by d.channel_id, d.due_at limit 1) n
)
select w.channel_id
  from waiting w
 cross join lateral (select c.disabled_at, c.deleted_at from channels c where c.channel_id = w.channel_id limit 1) c
 where w.due_at <= clock_timestamp() - make_interval(
           days => case when c.disabled_at is not null and c.deleted_at is null then %(days)s else 0 end)
 limit %(limit)s
"""


def claim(connection: Connection, rooms: Mapping[str, int]) -> list[Claimed]:
    """Take the oldest that are due of these channels, at most so many of each, for ``LEASE_SECONDS``.

    What waits for a disabled channel is not among them. What cannot be sent any more, because its channel was deleted
    or has been disabled for days, is settled here.
    """
    asked = ([*rooms], [*rooms.values()], LEASE_SECONDS)
    with connection.transaction():
        cursor = connection.cursor(row_factory=class_row(Claimed))
        claimed = cursor.execute(_CLAIM, asked, prepare=True).fetchall()
        if len({each.channel_id for each in claimed}) < len(rooms):
            connection.execute(_SETTLE_UNSENDABLE, (DISABLED_DAYS, [*rooms]), prepare=True)
    return claimed


_CLAIM = """
update deliveries d
   set attempts = d.attempts + 1, due_at = clock_timestamp() + make_interval(secs => q.lease)
  from (select n.delivery_id, l.lease, c.kind, c.target,
               array_remove(array[c.secret, case when c.old_secret_until > clock_timestamp() then c.old_secret end],
                            null) as secrets,
               coalesce(c.reached_at < clock_timestamp() - interval '1 hour', true) as tell_reached
          from unnest(%s::text[], %s::int[]) as r (channel_id, room)
         cross join (select %s::float8 as lease) l
         cross join lateral (select * from channels c
                              where c.channel_id = r.channel_id and c.disabled_at is null and c.deleted_at is null
                              limit 1) c
         cross join lateral (select n.delivery_id from deliveries n
                              where n.channel_id = r.channel_id and n.state = 'due' and n.due_at <= clock_timestamp()
                              order by n.due_at limit r.room for update skip locked) n) q
 where d.delivery_id = q.delivery_id
returning d.delivery_id, d.key, d.channel_id, d.merchant_id, d.type, d.user_id, d.body::text, d.attempts, d.created_at,
          q.kind, q.target, q.secrets, q.tell_reached
"""

# Of a deleted channel nobody asks any more; of a disabled one an operator may, when it is enabled again. The time is
# the statement's, which stands still, so that the index finds what is old without a look at what still waits.
_SETTLE_UNSENDABLE = """
update deliveries d
   set state = case when q.deleted then 'dropped' else 'dead' end, settled_at = clock_timestamp(),
       body = case when q.deleted then null else d.body end,
       error = case when q.deleted then 'the channel was deleted' else 'the channel is disabled' end
  from (select n.delivery_id, c.deleted_at is not null as deleted
          from (select %s::int as days) d
         cross join unnest(%s::text[]) as r (channel_id)
         cross join lateral (select c.deleted_at,
                                    statement_timestamp() - make_interval(days => case when c.deleted_at is null
                                                                                       then d.days else 0 end) as since
                               from channels c
                              where c.channel_id = r.channel_id
                                and (c.disabled_at is not null or c.deleted_at is not null) limit 1) c
         cross join lateral (select n.delivery_id from deliveries n
                              where n.channel_id = r.channel_id and n.state = 'due' and n.due_at <= c.since
                              order by n.due_at limit 1000 for update skip locked) n) q
 where d.delivery_id = q.delivery_id
"""


def settle(
    connection: Connection, sent: Claimed, state: Literal["sent", "dead", "dropped"], *, error: str | None = None
) -> bool:
    """Say what became of one that was claimed; ``False`` where another has taken it over since.

    What was sent or needs no sending is kept without its body.
    """
    cursor = connection.execute(
        "update deliveries set state = %s, settled_at = clock_timestamp(), error = %s,"
        " body = case when %s = 'dead' then body end where delivery_id = %s and attempts = %s and state = 'due'",
        (state, _kept(error), state, sent.delivery_id, sent.attempts),
        prepare=True,
    )
    return cursor.rowcount == 1


def put_off(connection: Connection, failed: Claimed, seconds: float, *, error: str) -> bool:
    """Try one that was claimed again after so many seconds; ``False`` where another has taken it over since."""
    cursor = connection.execute(
        "update deliveries set due_at = clock_timestamp() + make_interval(secs => %s), error = %s"
        " where delivery_id = %s and attempts = %s and state = 'due'",
        (seconds, _kept(error), failed.delivery_id, failed.attempts),
        prepare=True,
    )
    return cursor.rowcount == 1


def _kept(error: str | None) -> str | None:
    return error.replace("\x00", "")[:ERROR_LIMIT] if error else None


# --- what was given up ------------------------------------------------------------------------------


def dead(
    connection: Connection,
    merchant_id: str | None = None,
    *,
    channel_id: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Dead]:
    """Deliveries that were given up, of one merchant or all, the oldest first."""
    cursor = connection.cursor(row_factory=class_row(Dead))
    return cursor.execute(
        "select delivery_id, channel_id, type, attempts, created_at, settled_at, error from deliveries"
        " where state = 'dead' and (%(merchant_id)s::text is null or merchant_id = %(merchant_id)s)"
        " and (%(channel_id)s::text is null or channel_id = %(channel_id)s) and delivery_id > %(after)s"
        " order by delivery_id limit %(limit)s",
        {"merchant_id": merchant_id, "channel_id": channel_id, "after": after, "limit": limit},
        prepare=False,  # planned for its values: which of them are given decides where to look
    ).fetchall()


def retry(connection: Connection, merchant_id: str | None, delivery_ids: Sequence[int]) -> list[int]:
    """Try these again from the first pause on; the ids of those that were dead, and of this merchant or any."""
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute(
        "update deliveries set state = 'due', settled_at = null, attempts = 0, due_at = clock_timestamp()"
        " where delivery_id = any(%(ids)s) and state = 'dead'"
        " and (%(merchant_id)s::text is null or merchant_id = %(merchant_id)s) returning delivery_id",
        {"ids": list(delivery_ids), "merchant_id": merchant_id},
    )
    return sorted(row[0] for row in rows)
