"""Daily statistics: what happened to the coupons of each batch, by day and by how they reached their users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import sql

from ledger.events import (
    CouponCredited,
    CouponDebited,
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
from projections.models.bulk import add_rows
from projections.models.past import first_uses, origins, terms_of
from projections.models.steps import first_steps
from projections.projection import Connection, Projection


class DailyStatistics(Projection):
    """One row for each batch, day of the batch's time zone, and channel in which the coupons were issued.

    Every column may be summed over any rows; the rates that are made of them are in ``projections/statistics.py``. Days
    are those of ``occurred_at``. An order counts once for a batch, on the row of the first coupon that it used, with
    what was told to be paid for it with that coupon: what a later confirmation of the same order tells is not counted.
    Over batches it counts for each. Users cannot be summed: distinct ones are asked of order coupons, and how many of
    them were new on a row's day, of customers.
    """

    name = "daily_statistics"
    version = 2
    folds = (
        CouponIssued,
        CouponLocked,
        CouponUnlocked,
        CouponUsed,
        CouponDebited,
        CouponReturned,
        CouponCredited,
        CouponExpired,
        CouponVoided,
    )
    ddl = """
        create table {table} (
            merchant_id           text   not null,  -- whose batch it is
            batch_id              text   not null,  -- of the coupons
            day                   date   not null,  -- in the batch's time zone, by when things happened
            channel               text   not null,  -- how the coupons reached their users: issue, claim, ...
            currency              text   not null,  -- of the amounts: that of the terms
            issued                bigint not null,  -- coupons
            locked                bigint not null,  -- locks, also by the same order again
            unlocked              bigint not null,  -- locks let go, or whose end was written down
            used                  bigint not null,  -- uses that ended the coupon
            debited               bigint not null,  -- parts of vouchers that orders spent
            first_uses            bigint not null,  -- of used and debited, those that were their coupon's first
            online                bigint not null,  -- of used and debited, those of web shops
            in_store              bigint not null,  -- and those at tills
            returned              bigint not null,  -- returns, in whole or in part, and credits of vouchers
            restored              bigint not null,  -- of them, those that made a used coupon unused again
            expired               bigint not null,  -- coupons, on the day when their validity ended
            voided                bigint not null,  -- coupons
            discount_minor        bigint not null,  -- of used and debited
            merchant_funded_minor bigint not null,  -- the merchant's part of that
            platform_funded_minor bigint not null,  -- the platform's part
            discount_told_minor   bigint not null,  -- of the discount, that of uses told with what was paid
            returned_minor        bigint not null,  -- given back by returns and credits
            orders                bigint not null,  -- that used coupons, each with its first one of the batch
            orders_told           bigint not null,  -- of them, those told with their first coupon what was paid
            paid_minor            bigint not null,  -- for these orders, as told then
            position              bigint not null,  -- of the last event that moved this row
            primary key (batch_id, day, channel),
            check (online + in_store = used + debited),
            check (first_uses <= used + debited),
            check (merchant_funded_minor + platform_funded_minor = discount_minor)
        ) with (fillfactor = 50);
        create index on {table} (merchant_id, day);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Add up the chunk by row, then write each row once."""
        issued_as, terms = origins(chunk, connection), terms_of(chunk, connection)
        first_of_orders = first_uses(chunk, connection).in_batch
        first_of_coupons = first_steps(chunk, connection).used
        days: dict[tuple[str, str, str], Counter[str]] = {}
        events: Sequence[tuple[int, datetime, Any]] = chunk.events
        for position, _, event in events:
            step = _STEPS.get(type(event))
            if step is None:
                continue
            batch_id = event.batch_id
            key = batch_id, terms[batch_id].day(event.occurred_at), issued_as[event.originator_id].channel
            row = days.get(key)
            if row is None:
                days[key] = row = Counter()
            step(row, event)
            if position in first_of_orders:
                _order(row, event)
            if position in first_of_coupons:
                row["first_uses"] += 1
            row["position"] = position
        rows = {(*key, terms[key[0]].merchant_id, terms[key[0]].currency): row for key, row in days.items()}
        add_rows(connection, table, _KEY, _KEPT, _ADDED, rows)


_KEY: dict[LiteralString, LiteralString] = {"batch_id": "text", "day": "date", "channel": "text"}
_KEPT: dict[LiteralString, LiteralString] = {"merchant_id": "text", "currency": "text"}
_ADDED: tuple[LiteralString, ...] = (
    "issued", "locked", "unlocked", "used", "debited", "first_uses", "online", "in_store", "returned", "restored",
    "expired", "voided", "discount_minor", "merchant_funded_minor", "platform_funded_minor", "discount_told_minor",
    "returned_minor", "orders", "orders_told", "paid_minor",
)  # fmt: skip


def _issued(row: Counter[str], _: CouponIssued) -> None:
    row["issued"] += 1


def _locked(row: Counter[str], _: CouponLocked) -> None:
    row["locked"] += 1


def _unlocked(row: Counter[str], _: CouponUnlocked) -> None:
    row["unlocked"] += 1


def _used(row: Counter[str], event: CouponUsed) -> None:
    row["used"] += 1
    _spent(row, event)


def _debited(row: Counter[str], event: CouponDebited) -> None:
    row["debited"] += 1
    _spent(row, event)


def _spent(row: Counter[str], event: CouponUsed | CouponDebited) -> None:
    row[event.channel] += 1
    row["discount_minor"] += event.discount_minor
    row["merchant_funded_minor"] += event.merchant_funded_minor
    row["platform_funded_minor"] += event.platform_funded_minor
    if event.paid_minor is not None:
        row["discount_told_minor"] += event.discount_minor


def _returned(row: Counter[str], event: CouponReturned) -> None:
    row["returned"] += 1
    row["restored"] += event.restored
    row["returned_minor"] += event.returned_minor


def _credited(row: Counter[str], event: CouponCredited) -> None:
    row["returned"] += 1
    row["restored"] += event.restored
    row["returned_minor"] += event.credited_minor


def _expired(row: Counter[str], _: CouponExpired) -> None:
    row["expired"] += 1


def _voided(row: Counter[str], _: CouponVoided) -> None:
    row["voided"] += 1


def _order(row: Counter[str], event: Any) -> None:
    row["orders"] += 1
    if event.paid_minor is not None:
        row["orders_told"] += 1
        row["paid_minor"] += event.paid_minor


_STEPS: dict[type[Event], Callable[[Counter[str], Any], None]] = {
    CouponIssued: _issued,
    CouponLocked: _locked,
    CouponUnlocked: _unlocked,
    CouponUsed: _used,
    CouponDebited: _debited,
    CouponReturned: _returned,
    CouponCredited: _credited,
    CouponExpired: _expired,
    CouponVoided: _voided,
}
