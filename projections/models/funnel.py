"""Funnel: how many coupons of each batch ever got so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import sql

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
from projections.models.bulk import add_rows
from projections.models.past import origins
from projections.models.steps import first_steps
from projections.projection import Connection, Projection


class Funnel(Projection):
    """One row a batch that issued anything. A coupon counts once at each step that it ever reached, whatever became of
    it later."""

    name = "funnel"
    version = 2
    folds = (CouponIssued, CouponLocked, CouponUsed, CouponDebited, CouponCredited, CouponReturned)
    ddl = """
        create table {table} (
            batch_id             text   primary key,  -- of the coupons
            merchant_id          text   not null,     -- whose batch it is
            issued               bigint not null,     -- coupons
            locked               bigint not null,     -- ever, by any order
            used                 bigint not null,     -- ever, or spent in part
            returned             bigint not null,     -- ever, in whole or in part
            used_again           bigint not null,     -- more than once: after a return, or in parts
            seconds_to_use_total bigint not null,     -- from issue to first use, summed over the coupons ever used
            position             bigint not null,     -- of the last event that moved this row
            check (issued >= locked and locked >= used and used >= returned and used >= used_again)
        ) with (fillfactor = 50);
        create index on {table} (merchant_id, batch_id);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Add up the chunk by batch; what its coupons did before it says which steps are their first."""
        issued_as = origins(chunk, connection)
        first = first_steps(chunk, connection)
        rows: dict[tuple[str, ...], Counter[str]] = {}
        events: Sequence[tuple[int, datetime, Any]] = chunk.events
        for position, _, event in events:
            column = _COLUMNS.get(type(event))
            if column is None:
                continue
            key = event.batch_id, event.merchant_id
            row = rows.get(key)
            if row is None:
                rows[key] = row = Counter()
            row["position"] = position
            if column == "issued" or position in getattr(first, column):
                row[column] += 1
                if column == "used":
                    row["seconds_to_use_total"] += _seconds(issued_as[event.originator_id], event)
            elif position in first.used_again:
                row["used_again"] += 1
        add_rows(connection, table, _KEY, _KEPT, _ADDED, rows)


_COLUMNS: dict[type[Event], str] = {
    CouponIssued: "issued",
    CouponLocked: "locked",
    CouponUsed: "used",
    CouponDebited: "used",
    CouponReturned: "returned",
    CouponCredited: "returned",
}
_KEY: dict[LiteralString, LiteralString] = {"batch_id": "text"}
_KEPT: dict[LiteralString, LiteralString] = {"merchant_id": "text"}
_ADDED: tuple[LiteralString, ...] = ("issued", "locked", "used", "returned", "used_again", "seconds_to_use_total")


def _seconds(issued: CouponIssued, used: Event) -> int:
    began, ended = (datetime.fromisoformat(str(event.occurred_at)) for event in (issued, used))
    return int((ended - began).total_seconds())
