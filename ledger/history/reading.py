"""Reading the log by what an auditor asks for: a stream, an order, or the streams that a query finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg.rows import tuple_row

from ledger.events import Recorded
from ledger.history.moment import Connection
from ledger.store import Store

LAST_POSITION = 2**63 - 1


def history_until(store: Store, connection: Connection, stream: str, position: int) -> list[Recorded]:
    """One stream up to a position; empty where it begins after it."""
    return histories(store, connection, [stream], position)[stream]


def stream_page(store: Store, connection: Connection, stream: str, after: int, limit: int) -> list[Recorded]:
    """The next events of one stream after a position."""
    return select(store, connection, STREAM_PAGE, {"stream": stream, "after": after, "limit": limit})


def order_page(
    store: Store, connection: Connection, merchant_id: str, order_id: str, after: int, limit: int
) -> list[Recorded]:
    """The next events, in the order of the log, of every coupon that the order ever locked.

    Every use follows a lock by the same order, so these are the coupons that it used and returned too.
    """
    asked = {"merchant_id": merchant_id, "order_id": order_id, "after": after, "limit": limit}
    return select(store, connection, ORDER_PAGE, asked)


def order_streams(connection: Connection, merchant_id: str, order_id: str, position: int = LAST_POSITION) -> list[str]:
    """The coupons, as streams, that the order had locked up to a position."""
    asked = {"merchant_id": merchant_id, "order_id": order_id, "position": position}
    return [row[0] for row in connection.cursor(row_factory=tuple_row).execute(ORDER_STREAMS, asked)]


def histories(
    store: Store, connection: Connection, streams: Sequence[str], position: int = LAST_POSITION
) -> dict[str, list[Recorded]]:
    """Whole streams up to a position; those that begin after it are empty."""
    found: dict[str, list[Recorded]] = {stream: [] for stream in streams}
    for recorded in select(store, connection, HISTORIES, {"streams": list(streams), "position": position}):
        found[recorded.event.originator_id].append(recorded)
    return found


def select(store: Store, connection: Connection, query: LiteralString, asked: Mapping[str, Any]) -> list[Recorded]:
    """What a statement of this module finds."""
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    return [_recorded(store, *row) for row in cursor.execute(query, asked)]


def _recorded(
    store: Store, stream: str, version: int, topic: str, state: bytes, position: int, recorded_at: datetime
) -> Recorded:
    return Recorded(position, recorded_at.astimezone(UTC), store.mapper.decode(stream, version, topic, state))


STREAM_PAGE = """
select originator_id, originator_version, topic, state, notification_id, recorded_at
  from events
 where originator_id = %(stream)s and notification_id > %(after)s
 order by originator_version
 limit %(limit)s
"""


def page_of(streams: LiteralString) -> LiteralString:
    """SQL of the next events, in the order of the log, of the streams that a query finds.

    It is one statement, so that no stream which is found later has events on pages that were read before. Each stream
    is looked up by itself, so that no plan reads the log by its positions in search of them.
    """
    return f"""
with s (stream) as materialized ({streams})
select e.*
  from s
 cross join lateral (
       select originator_id, originator_version, topic, state, notification_id, recorded_at
         from events
        where originator_id = s.stream and notification_id > %(after)s
        order by originator_version
        limit %(limit)s) e
 order by e.notification_id
 limit %(limit)s
"""  # noqa: S608  # constants of modules


ORDER_PAGE = page_of("""
    select distinct originator_id from events
     where topic = 'coupon.locked' and order_of_lock(state) = %(merchant_id)s || E'\\n' || %(order_id)s
""")

ORDER_STREAMS = """
select distinct originator_id from events
 where topic = 'coupon.locked'
   and order_of_lock(state) = %(merchant_id)s || E'\\n' || %(order_id)s
   and notification_id <= %(position)s
 order by originator_id
"""

HISTORIES = """
select e.*
  from unnest(%(streams)s::text[]) as s (stream)
 cross join lateral (
       select originator_id, originator_version, topic, state, notification_id, recorded_at
         from events
        where originator_id = s.stream and notification_id <= %(position)s
        order by originator_version) e
 order by e.originator_id, e.originator_version
"""
