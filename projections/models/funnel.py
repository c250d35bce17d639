"""Funnel: how many coupons of each batch ever got so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import sql
from psycopg.rows import tuple_row

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponUsed,
    Event,
)
from projections.chunk import Chunk
from projections.models.bulk import add_rows, joined
from projections.models.past import origins
from projections.projection import Connection, Projection


class Funnel(Projection):
    """One row a batch. A coupon counts once at each step that it ever reached, whatever became of it later."""

    name = "funnel"
    version = 1
    folds = (CouponIssued, CouponLocked, CouponUsed, CouponDebited, CouponCredited, CouponReturned)
    ddl = """
        create table {table} (
            batch_id       text   primary key,  -- of the coupons
            merchant_id    text   not null,     -- whose batch it is
            issued         bigint not null,     -- coupons
            locked         bigint not null,     -- ever, by any order
            used           bigint not null,     -- ever, or spent in part
            returned       bigint not null,     -- ever, in whole or in part
            used_again     bigint not null,     -- more than once: after a return, or in parts
            seconds_to_use bigint not null,     -- from issue to first use, summed over the coupons ever used
            position       bigint not null,     -- of the last event that moved this row
            check (issued >= locked and locked >= used and used >= returned and used >= used_again)
        ) with (fillfactor = 50);
        create index on {table} (merchant_id, batch_id);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Add up the chunk by batch; what its coupons did before it says which steps are their first."""
        issued_as = origins(chunk, connection)
        reached = _reached_before(chunk, connection)
        rows: dict[tuple[str, ...], Counter[str]] = {}
        events: Sequence[tuple[int, datetime, Any]] = chunk.events
        for position, _, event in events:
            step = _STEPS.get(type(event))
            if step is None:
                continue
            key = event.batch_id, event.merchant_id
            row = rows.get(key)
            if row is None:
                rows[key] = row = Counter()
            row["position"] = position
            if step == ISSUED:
                row["issued"] += 1
                continue
            times = reached[event.originator_id]
            times[step] += 1
            if times[step] == 1:
                row[_COUNTED_BY[step]] += 1
                if step == USED:
                    row["seconds_to_use"] += _seconds(issued_as[event.originator_id], event)
            elif times[step] == 2 and step == USED:
                row["used_again"] += 1
        add_rows(connection, table, _KEY, _KEPT, _ADDED, rows)


LOCKED, USED, RETURNED, ISSUED = range(4)
_STEPS: dict[type[Event], int] = {
    CouponIssued: ISSUED,
    CouponLocked: LOCKED,
    CouponUsed: USED,
    CouponDebited: USED,
    CouponReturned: RETURNED,
    CouponCredited: RETURNED,
}
_COUNTED_BY = ("locked", "used", "returned")
_EARLIEST = (2, 3, 4)
"""The versions at which a coupon that goes straight ahead takes these steps: nothing before them is to be asked for."""
_KEY: dict[LiteralString, LiteralString] = {"batch_id": "text"}
_KEPT: dict[LiteralString, LiteralString] = {"merchant_id": "text"}
_ADDED: tuple[LiteralString, ...] = ("issued", "locked", "used", "returned", "used_again", "seconds_to_use")


def _reached_before(chunk: Chunk, connection: Connection) -> Mapping[str, list[int]]:
    """How often each coupon that goes on in the chunk took each step before it; only twice matters."""
    reached: dict[str, list[int]] = {}
    new: set[str] = set()
    asked: list[tuple[str, int]] = []
    for _, _, event in chunk.events:
        step = _STEPS.get(type(event))
        stream = event.originator_id
        if step == ISSUED:
            new.add(stream)
        elif step is not None and stream not in reached:
            # One that goes straight ahead has been locked before it is used, and used before it is returned.
            reached[stream] = [0, 0, 0] if stream in new else [int(step > LOCKED), int(step > USED), 0]
            if stream not in new and event.originator_version > _EARLIEST[step]:
                asked.append((stream, event.originator_version))
    if asked:
        versions = " ".join([str(version) for _, version in asked])
        cursor = connection.cursor(row_factory=tuple_row)
        for stream, *times in cursor.execute(_BEFORE, (joined(stream for stream, _ in asked), versions)):
            reached[stream] = times
    return reached


def _seconds(issued: CouponIssued, used: Event) -> int:
    began, ended = (datetime.fromisoformat(str(event.occurred_at)) for event in (issued, used))
    return int((ended - began).total_seconds())


_BEFORE = """
select q.stream, s.locked, s.used, s.returned
  from unnest(string_to_array(%s, E'\\n'), string_to_array(%s, ' ')::bigint[]) as q (stream, version)
 cross join lateral (
       select count(*) filter (where e.topic = 'coupon.locked') as locked,
              count(*) filter (where e.topic in ('coupon.used', 'coupon.debited')) as used,
              count(*) filter (where e.topic in ('coupon.returned', 'coupon.credited')) as returned
         from events e
        where e.originator_id = q.stream and e.originator_version < q.version) as s
"""
