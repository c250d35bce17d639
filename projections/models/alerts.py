"""Alerts: crossings of the thresholds that batches were planned with, each at the event that crossed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from eventsourcing.persistence import JSONTranscoder
from psycopg import sql
from psycopg.rows import tuple_row

from ledger.alerts import Alerts as Thresholds
from ledger.events import BatchBudgetChanged, BatchCreated, BatchQuantityChanged, CouponIssued, Event
from ledger.mapper import EventMapper
from ledger.terms import Terms
from projections.chunk import Chunk
from projections.projection import Connection, Projection

MINUTE = timedelta(minutes=1)

_mapper = EventMapper(JSONTranscoder())


@dataclass(slots=True)
class Meter:
    """What is counted of one batch against one threshold."""

    merchant_id: str
    threshold: int
    capacity: int
    """The quantity, or the budget in minor units; 0 where nothing bounds what is counted."""
    each: int
    """What one coupon counts."""
    level: int = 0
    """What was counted; of claims, in ``minute``."""
    minute: str | None = None
    """Of the log's own clock."""
    armed: bool = True
    """Whether the next crossing is told."""
    crossings: int = 0


class Alerts(Projection):
    """One row for each crossing, numbered from 1 for each batch and kind.

    The table alone, not the view, has the meters too, as number 0: their ``position`` is that of the event which last
    moved them, and their ``facts`` are what was counted.

    A threshold is crossed once, and then again only after the level was on its good side: a larger quantity or budget,
    a minute with no more claims than allowed.
    """

    name = "alerts"
    version = 1
    folds = (BatchCreated, BatchQuantityChanged, BatchBudgetChanged, CouponIssued)
    ddl = """
        create table {table} (
            batch_id    text        not null,
            kind        text        not null check (kind in ('stock_below', 'budget_spent', 'claims_per_minute')),
            number      bigint      not null,
            merchant_id text        not null,
            position    bigint      not null,  -- of the event that crossed
            recorded_at timestamptz not null,  -- of that event
            facts       jsonb       not null,  -- threshold, level, capacity
            primary key (batch_id, kind, number)
        ) with (fillfactor = 70);
        create index on {table} (position) where number > 0;
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Count the chunk's events one by one, on the meters as they stood before it."""
        kinds = frozenset(self.folds)
        events = [recorded for recorded in chunk.events if type(recorded.event) in kinds]
        if not events:
            return
        meters = _meters(connection, table, {_batch_of(event) for _, _, event in events})
        rows: dict[tuple[str, str, int], tuple[str, int, datetime, dict[str, Any]]] = {}
        for position, recorded_at, event in events:
            batch_id = _batch_of(event)
            if isinstance(event, BatchCreated) and event.alerts:
                meters[batch_id] = _new_meters(connection, event)
            for kind, meter in meters.get(batch_id, {}).items():
                if _STEPS[kind](meter, event, recorded_at):
                    meter.crossings += 1
                    facts = {"threshold": meter.threshold, "level": meter.level, "capacity": meter.capacity or None}
                    rows[batch_id, kind, meter.crossings] = meter.merchant_id, position, recorded_at, facts
                rows[batch_id, kind, 0] = meter.merchant_id, position, recorded_at, asdict(meter)
        if rows:
            written = [[*key, *row] for key, row in rows.items()]
            connection.execute(sql.SQL(_PUT).format(table=table), (orjson.dumps(written).decode(),))

    def show(self, connection: Connection) -> None:
        """Point the view at this version's crossings."""
        names = {"view": sql.Identifier(self.name), "table": sql.Identifier(self.table)}
        connection.execute(sql.SQL("drop view if exists {view}").format(**names))
        connection.execute(sql.SQL("create view {view} as select * from {table} where number > 0").format(**names))


def _batch_of(event: Event) -> str:
    return event.batch_id if isinstance(event, CouponIssued) else event.originator_id[6:]


def _meters(connection: Connection, table: sql.Identifier, batch_ids: set[str]) -> dict[str, dict[str, Meter]]:
    found: dict[str, dict[str, Meter]] = {}
    cursor = connection.cursor(row_factory=tuple_row)
    for batch_id, kind, facts in cursor.execute(sql.SQL(_METERS).format(table=table), (list(batch_ids),)):
        found.setdefault(batch_id, {})[kind] = Meter(**facts)
    return found


def _new_meters(connection: Connection, created: BatchCreated) -> dict[str, Meter]:
    thresholds = Thresholds.from_payload(created.alerts)
    merchant_id, meters = created.merchant_id, {}
    if (units := thresholds.stock_below) is not None:
        armed = created.quantity >= units
        meters["stock_below"] = Meter(merchant_id, units, created.quantity, 1, armed=armed)
    if (part := thresholds.budget_spent_permyriad) is not None and created.budget_minor is not None:
        worth = _terms(connection, created).benefit.worth_minor
        meters["budget_spent"] = Meter(merchant_id, part, created.budget_minor, worth or 0)
    if (most := thresholds.claims_per_minute) is not None:
        meters["claims_per_minute"] = Meter(merchant_id, most, 0, 1)
    return meters


def _terms(connection: Connection, created: BatchCreated) -> Terms:
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    stream = f"template-{created.template_id}"
    [row] = cursor.execute(_VERSION, (stream, created.template_version)).fetchall()
    event: Any = _mapper.decode(*row)
    return Terms.from_payload(event.terms)


def _stock(meter: Meter, event: Event, _: datetime) -> bool:
    """Whether fewer than the threshold are left now, and were not before."""
    if isinstance(event, BatchQuantityChanged):
        meter.capacity = event.quantity
    elif isinstance(event, CouponIssued):
        meter.level += meter.each
    return _crossed(meter, meter.capacity - meter.level < meter.threshold)


def _budget(meter: Meter, event: Event, _: datetime) -> bool:
    """Whether the threshold's part of the budget is spent now, and was not before."""
    if isinstance(event, BatchBudgetChanged):
        meter.capacity = event.budget_minor
    elif isinstance(event, CouponIssued):
        meter.level += meter.each
    return _crossed(meter, meter.level * 10_000 >= meter.threshold * meter.capacity)


def _claims(meter: Meter, event: Event, recorded_at: datetime) -> bool:
    """Whether a minute has more than the threshold, and the one before it had not."""
    if not isinstance(event, CouponIssued):
        return False
    minute = recorded_at.replace(second=0, microsecond=0)
    if meter.minute != minute.isoformat():
        if meter.level <= meter.threshold or meter.minute != (minute - MINUTE).isoformat():
            meter.armed = True
        meter.minute, meter.level = minute.isoformat(), 0
    meter.level += 1
    if meter.level <= meter.threshold or not meter.armed:
        return False
    meter.armed = False
    return True


def _crossed(meter: Meter, beyond: bool) -> bool:
    told = beyond and meter.armed
    meter.armed = not beyond
    return told


_STEPS: Mapping[str, Callable[[Meter, Event, datetime], bool]] = {
    "stock_below": _stock,
    "budget_spent": _budget,
    "claims_per_minute": _claims,
}

_METERS = "select batch_id, kind, facts from {table} where batch_id = any(%s) and number = 0"

_VERSION = """
select originator_id, originator_version, topic, state from events
 where originator_id = %s and originator_version = %s
"""

_PUT = """
insert into {table} as t (batch_id, kind, number, merchant_id, position, recorded_at, facts)
select c->>0, c->>1, (c->>2)::bigint, c->>3, (c->>4)::bigint, (c->>5)::timestamptz, c->6
  from jsonb_array_elements(%s::jsonb) c
on conflict (batch_id, kind, number) do update
   set position = excluded.position, recorded_at = excluded.recorded_at, facts = excluded.facts
"""
