"""Batch balance: what became of the coupons of each batch, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    CouponSpent,
    CouponUnlocked,
    CouponUsed,
    CouponVoided,
    Event,
)
from projections.chunk import Chunk
from projections.models.books import books_of
from projections.models.bulk import expect_rows
from projections.models.moves import COUPON_EVENTS
from projections.models.past import batch_terms, first_uses
from projections.projection import Connection, Projection


class BatchBalance(Projection):
    """One row a batch. States are as stored: ``unused`` includes coupons that the clock calls PENDING or EXPIRED.

    What is at stake is what ``liability`` has outstanding. An order counts once, when it first uses a coupon of the
    batch, with what was told to be paid for it with that coupon: what a later confirmation of the same order tells is
    not counted. Over batches it counts for each.
    """

    name = "batch_balance"
    version = 3
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
            batch_id         text        primary key,  -- as in its stream
            merchant_id      text        not null,     -- whose batch it is
            template_id      text        not null,     -- of its terms
            template_version bigint      not null,     -- of its terms, for good
            campaign         text        not null,     -- a label over batches; may be empty
            name             text        not null,     -- of the batch
            state            text        not null,     -- as stored: never ENDED, which the clock says
            claim_from       timestamptz,              -- null where claims are open from the start
            claim_until      timestamptz,              -- null where they have no end
            created_at       timestamptz not null,     -- when it was planned
            quantity         bigint      not null,     -- the most that it may issue
            budget_minor     bigint,                   -- what the coupons may be worth together; null without a budget
            issued           bigint      not null,     -- coupons, ever
            unused           bigint      not null check (unused >= 0),  -- also those that the clock calls otherwise
            locked           bigint      not null check (locked >= 0),  -- also beyond the end of a lock, as stored
            used             bigint      not null check (used >= 0),  -- now
            expired          bigint      not null,     -- as written down
            voided           bigint      not null,     -- by the merchant
            returned         bigint      not null,     -- returns, in whole or in part, and credits of vouchers
            discount_minor   bigint      not null,     -- of all uses, and of what was spent of vouchers
            returned_minor   bigint      not null,     -- given back by returns, and put on vouchers again
            merchant_funded_minor bigint not null,     -- the merchant's part of the discount
            platform_funded_minor bigint not null,     -- the platform's part
            currency         text        not null,     -- of the amounts
            worth_minor      bigint,                   -- the most that one can take off; null where unbounded
            at_stake_minor   bigint      not null,     -- what unused and locked ones are worth; 0 where that is unknown
            orders           bigint      not null,     -- that used coupons of the batch
            orders_told      bigint      not null,     -- of them, those told with their first coupon what was paid
            paid_minor       bigint      not null,     -- for these orders, as told then
            position         bigint      not null,     -- of the last event that moved this row
            constraint conservation_law check (issued = unused + locked + used + expired + voided),
            constraint within_quantity check (issued <= quantity),
            constraint funded check (merchant_funded_minor + platform_funded_minor = discount_minor),
            constraint nothing_less_than_nothing_at_stake check (at_stake_minor >= 0)
        ) with (fillfactor = 50);
        create index on {table} (merchant_id, batch_id);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Add up what the chunk does to each batch, then write each batch once."""
        changes: dict[str, Change] = {}
        first_of_orders = first_uses(chunk, connection).in_batch
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
            if position in first_of_orders:
                _order(change, event)
        for (batch_id, _, _), page in books_of(chunk, connection).items():
            changes[batch_id].at_stake_minor += page["outstanding_credit_minor"] - page["outstanding_debit_minor"]
        _insert(connection, table, [change.created for change in changes.values() if change.created is not None])
        _update(connection, table, changes)


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
    merchant_funded_minor: int = 0
    platform_funded_minor: int = 0
    at_stake_minor: int = 0
    orders: int = 0
    orders_told: int = 0
    paid_minor: int = 0


_COUNTERS = tuple(f.name for f in fields(Change))[5:]


def _insert(connection: Connection, table: sql.Identifier, new: Sequence[BatchCreated]) -> None:
    """Empty rows, which what the chunk did to these batches is then added to as to others."""
    terms = batch_terms(connection, [created.originator_id[6:] for created in new])
    rows = []
    for created in new:
        of = terms[created.originator_id[6:]]
        rows.append(
            (
                created.originator_id[6:], created.merchant_id, created.template_id, created.template_version,
                created.campaign, created.name, created.claim_from, created.claim_until, created.occurred_at,
                created.quantity, created.budget_minor, of.currency, of.worth_minor, *[0] * len(_COUNTERS),
            )
        )  # fmt: skip
    if rows:
        columns = sql.SQL(", ").join(map(sql.Identifier, _COUNTERS))
        zeros = sql.SQL(", ").join([sql.Placeholder()] * len(_COUNTERS))
        with connection.cursor() as cursor:
            cursor.executemany(sql.SQL(_INSERT).format(table=table, counters=columns, zeros=zeros), rows)


def _update(connection: Connection, table: sql.Identifier, changes: dict[str, Change]) -> None:
    if not changes:
        return
    cursor = connection.execute(
        sql.SQL(_UPDATE).format(
            table=table,
            sums=sql.SQL(", ").join(
                [sql.SQL("{0} = t.{0} + c.{0}").format(sql.Identifier(name)) for name in _COUNTERS]
            ),
            amounts=sql.SQL(", ").join([sql.SQL("string_to_array(%s, ' ')::bigint[]")] * len(_COUNTERS)),
            counters=sql.SQL(", ").join(map(sql.Identifier, _COUNTERS)),
        ),
        (
            list(changes),
            [change.state for change in changes.values()],
            [change.quantity for change in changes.values()],
            [change.budget_minor for change in changes.values()],
            [change.position for change in changes.values()],
            *(" ".join([str(getattr(change, name)) for change in changes.values()]) for name in _COUNTERS),
        ),
    )
    expect_rows(cursor, len(changes))


_INSERT = """
insert into {table} (batch_id, merchant_id, template_id, template_version, campaign, name, claim_from, claim_until,
                     created_at, quantity, budget_minor, currency, worth_minor, {counters}, state, position)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, {zeros}, 'DRAFT', 0)
"""

_UPDATE = """
update {table} t
   set state        = coalesce(c.state, t.state),
       quantity     = coalesce(c.quantity, t.quantity),
       budget_minor = coalesce(c.budget_minor, t.budget_minor),
       position     = c.position,
       {sums}
  from unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], {amounts})
       as c (batch_id, state, quantity, budget_minor, position, {counters})
 where t.batch_id = c.batch_id
"""


def _created(change: Change, event: BatchCreated) -> None:
    change.created = event
    change.state = "DRAFT"
    change.quantity = event.quantity
    change.budget_minor = event.budget_minor


def _enters(state: str) -> Callable[[Change, Event], None]:
    def step(change: Change, _: Event) -> None:
        change.state = state

    return step


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
    _spent(change, event)


def _debited(change: Change, event: CouponDebited) -> None:
    change.locked -= 1
    change.unused += 1
    _spent(change, event)


def _spent(change: Change, event: CouponSpent) -> None:
    change.discount_minor += event.discount_minor
    change.merchant_funded_minor += event.merchant_funded_minor
    change.platform_funded_minor += event.platform_funded_minor


def _order(change: Change, event: Any) -> None:
    change.orders += 1
    if event.paid_minor is not None:
        change.orders_told += 1
        change.paid_minor += event.paid_minor


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
    BatchSubmitted: _enters("IN_REVIEW"),
    BatchApproved: _enters("APPROVED"),
    BatchRejected: _enters("DRAFT"),
    BatchStarted: _enters("RUNNING"),
    BatchPaused: _enters("PAUSED"),
    BatchResumed: _enters("RUNNING"),
    BatchStopped: _enters("STOPPED"),
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
