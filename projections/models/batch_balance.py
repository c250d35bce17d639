"""Batch balance: what became of the coupons of each batch, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from psycopg import sql

from ledger.events import (
    BatchApproved,
    BatchBudgetChanged,
    BatchCreated,
    BatchPaused,
    BatchQuantityChanged,
    BatchRejected,
    BatchResumed,
    BatchStarted,
    BatchStopped,
    BatchSubmitted,
    CouponCredited,
    CouponDebited,
    CouponEvent,
    CouponExpired,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponUnlocked,
    CouponUsed,
    CouponVoided,
    Event,
)
from projections.chunk import Chunk
from projections.models.bulk import expect_rows
from projections.models.moves import COUPON_EVENTS
from projections.projection import Connection, Projection


class BatchBalance(Projection):
    """One row a batch. States are as stored: ``unused`` includes coupons that the clock calls PENDING or EXPIRED."""

    name = "batch_balance"
    version = 2
    folds = (
        BatchCreated,
        BatchSubmitted,
        BatchApproved,
        BatchRejected,
        BatchStarted,
        BatchPaused,
        BatchResumed,
        BatchStopped,
        BatchQuantityChanged,
        BatchBudgetChanged,
        *COUPON_EVENTS,
    )
    ddl = """
        create table {table} (
            batch_id         text        primary key,
            merchant_id      text        not null,
            template_id      text        not null,
            template_version bigint      not null,
            campaign         text        not null,
            name             text        not null,
            state            text        not null,
            claim_from       timestamptz,
            claim_until      timestamptz,
            created_at       timestamptz not null,
            quantity         bigint      not null,
            budget_minor     bigint,                -- what the coupons may be worth together; null without a budget
            issued           bigint      not null,
            unused           bigint      not null check (unused >= 0),
            locked           bigint      not null check (locked >= 0),
            used             bigint      not null check (used >= 0),
            expired          bigint      not null,
            voided           bigint      not null,
            returned         bigint      not null,  -- returns, in whole or in part, and credits of vouchers
            discount_minor   bigint      not null,  -- of all uses, and of what was spent of vouchers
            returned_minor   bigint      not null,  -- given back by returns, and put on vouchers again
            position         bigint      not null,  -- of the last event that moved this row
            constraint conservation_law check (issued = unused + locked + used + expired + voided),
            constraint within_quantity check (issued <= quantity)
        ) with (fillfactor = 50);
        create index on {table} (merchant_id, batch_id);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Add up what the chunk does to each batch, then write each batch once."""
        changes: dict[str, Change] = {}
        for position, _, event in chunk.events:
            step = _STEPS.get(type(event))
            if step is None:
                continue
            batch_id = event.batch_id if isinstance(event, CouponEvent) else event.originator_id[6:]
            change = changes.get(batch_id)
            if change is None:
                changes[batch_id] = change = Change()
            step(change, event)
            change.position = position
        _insert(connection, table, {id: change for id, change in changes.items() if change.created is not None})
        _update(connection, table, {id: change for id, change in changes.items() if change.created is None})


@dataclass(slots=True)
class Change:
    """What a chunk does to one batch: new values, and amounts to add."""

    created: BatchCreated | None = None
    state: str | None = None
    quantity: int | None = None
    budget_minor: int | None = None
    position: int = 0
    issued: int = 0
    unused: int = 0
    locked: int = 0
    used: int = 0
    expired: int = 0
    voided: int = 0
    returned: int = 0
    discount_minor: int = 0
    returned_minor: int = 0


_COUNTERS = tuple(f.name for f in fields(Change))[5:]


def _insert(connection: Connection, table: sql.Identifier, new: dict[str, Change]) -> None:
    rows = []
    for batch_id, change in new.items():
        created = change.created
        assert created is not None
        rows.append(
            (
                batch_id,
                created.merchant_id,
                created.template_id,
                created.template_version,
                created.campaign,
                created.name,
                change.state,
                created.claim_from,
                created.claim_until,
                created.occurred_at,
                change.quantity,
                change.budget_minor,
                change.position,
                *(getattr(change, counter) for counter in _COUNTERS),
            )
        )
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(sql.SQL(_INSERT).format(table=table), rows)


def _update(connection: Connection, table: sql.Identifier, known: dict[str, Change]) -> None:
    if not known:
        return
    counters = ("position", *_COUNTERS)
    cursor = connection.execute(
        sql.SQL(_UPDATE).format(table=table),
        (
            list(known),
            [change.state for change in known.values()],
            [change.quantity for change in known.values()],
            [change.budget_minor for change in known.values()],
            *(" ".join([str(getattr(change, name)) for change in known.values()]) for name in counters),
        ),
    )
    expect_rows(cursor, len(known))


_INSERT = """
insert into {table} (batch_id, merchant_id, template_id, template_version, campaign, name, state, claim_from,
                     claim_until, created_at, quantity, budget_minor, position, issued, unused, locked, used, expired,
                     voided, returned, discount_minor, returned_minor)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_UPDATE = """
update {table} t
   set state          = coalesce(c.state, t.state),
       quantity       = coalesce(c.quantity, t.quantity),
       budget_minor   = coalesce(c.budget_minor, t.budget_minor),
       position       = c.position,
       issued         = t.issued + c.issued,
       unused         = t.unused + c.unused,
       locked         = t.locked + c.locked,
       used           = t.used + c.used,
       expired        = t.expired + c.expired,
       voided         = t.voided + c.voided,
       returned       = t.returned + c.returned,
       discount_minor = t.discount_minor + c.discount_minor,
       returned_minor = t.returned_minor + c.returned_minor
  from unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, ' ')::bigint[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, ' ')::bigint[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, ' ')::bigint[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, ' ')::bigint[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, ' ')::bigint[])
       as c (batch_id, state, quantity, budget_minor, position, issued, unused, locked, used, expired, voided,
             returned, discount_minor, returned_minor)
 where t.batch_id = c.batch_id
"""


def _created(change: Change, event: BatchCreated) -> None:
    change.created = event
    change.state = "DRAFT"
    change.quantity = event.quantity
    change.budget_minor = event.budget_minor


def _submitted(change: Change, _: BatchSubmitted) -> None:
    change.state = "IN_REVIEW"


def _approved(change: Change, _: BatchApproved) -> None:
    change.state = "APPROVED"


def _rejected(change: Change, _: BatchRejected) -> None:
    change.state = "DRAFT"


def _started(change: Change, _: BatchStarted | BatchResumed) -> None:
    change.state = "RUNNING"


def _paused(change: Change, _: BatchPaused) -> None:
    change.state = "PAUSED"


def _stopped(change: Change, _: BatchStopped) -> None:
    change.state = "STOPPED"


def _quantity_changed(change: Change, event: BatchQuantityChanged) -> None:
    change.quantity = event.quantity


def _budget_changed(change: Change, event: BatchBudgetChanged) -> None:
    change.budget_minor = event.budget_minor


def _issued(change: Change, _: CouponIssued) -> None:
    change.issued += 1
    change.unused += 1


def _locked(change: Change, _: CouponLocked) -> None:
    change.unused -= 1
    change.locked += 1


def _unlocked(change: Change, _: CouponUnlocked) -> None:
    change.locked -= 1
    change.unused += 1


def _used(change: Change, event: CouponUsed) -> None:
    change.locked -= 1
    change.used += 1
    change.discount_minor += event.discount_minor


def _debited(change: Change, event: CouponDebited) -> None:
    change.locked -= 1
    change.unused += 1
    change.discount_minor += event.discount_minor


def _credited(change: Change, event: CouponCredited) -> None:
    change.returned += 1
    change.returned_minor += event.credited_minor
    if event.restored:
        change.used -= 1
        change.unused += 1


def _returned(change: Change, event: CouponReturned) -> None:
    change.returned += 1
    change.returned_minor += event.returned_minor
    if event.restored:
        change.used -= 1
        change.unused += 1


def _expired(change: Change, _: CouponExpired) -> None:
    change.unused -= 1
    change.expired += 1


def _voided(change: Change, _: CouponVoided) -> None:
    change.unused -= 1
    change.voided += 1


_STEPS: dict[type[Event], Callable[[Change, Any], None]] = {
    BatchCreated: _created,
    BatchSubmitted: _submitted,
    BatchApproved: _approved,
    BatchRejected: _rejected,
    BatchStarted: _started,
    BatchPaused: _paused,
    BatchResumed: _started,
    BatchStopped: _stopped,
    BatchQuantityChanged: _quantity_changed,
    BatchBudgetChanged: _budget_changed,
    CouponIssued: _issued,
    CouponLocked: _locked,
    CouponUnlocked: _unlocked,
    CouponUsed: _used,
    CouponDebited: _debited,
    CouponCredited: _credited,
    CouponReturned: _returned,
    CouponExpired: _expired,
    CouponVoided: _voided,
}
