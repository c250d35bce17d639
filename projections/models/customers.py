"""Customers: everybody who ever used a coupon, and when each began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from psycopg import sql

from ledger.events import CouponDebited, CouponSpent, CouponUsed
from projections.chunk import Chunk
from projections.models.past import SPENT, first_uses, origins, terms_of
from projections.projection import Connection, Projection


class Customers(Projection):
    """One row for each merchant, user and currency: money of two currencies is never added up.

    A new customer is a user whose first use of a coupon at the merchant it was; the ledger sees no orders without
    coupons. ``is_first`` marks the row of that use, so one row of each user has it. First is what the log has first.
    The user is who used the coupon, its owner or a friend. Returns take nothing back from these sums. An order counts
    once for a user, with what was told to be paid for it with the first coupon that the user used in it.
    """

    name = "customers"
    version = 2
    folds = (CouponUsed, CouponDebited)
    ddl = """
        create table {table} (
            merchant_id    text        not null,  -- at whom
            user_id        text        not null,  -- who used the coupons: their owner, or a friend
            currency       text        not null,  -- of the amounts
            is_first       boolean     not null,  -- whether the user's first use at the merchant is this row's first
            first_used_at  timestamptz not null,  -- and the following: of the first use in this currency
            first_day      date        not null,  -- in the time zone of its batch
            first_order_id text        not null,  -- in which
            first_batch_id text        not null,  -- of the coupon
            first_channel  text        not null,  -- online or in_store
            first_issued_as text       not null,  -- how the coupon had reached its user: issue, claim, ...
            opened_order   boolean     not null,  -- whether that use was the first of its order in the batch
            last_used_at   timestamptz not null,  -- of the last use that the log has
            uses           bigint      not null,  -- of coupons, and of parts of vouchers
            orders         bigint      not null,  -- in which
            orders_told    bigint      not null,  -- of them, those told with their first coupon what was paid
            discount_minor bigint      not null,  -- what the coupons took off
            paid_minor     bigint      not null,  -- for these orders, as told then
            position       bigint      not null,  -- of the last event that moved this row
            primary key (merchant_id, user_id, currency)
        ) with (fillfactor = 80);
        create index on {table} (first_batch_id, first_day, first_issued_as) include (opened_order) where is_first;
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Add up the chunk by row, then write each row once."""
        first = first_uses(chunk, connection)
        issued_as = origins(chunk, connection)
        terms = terms_of(chunk, connection)
        rows: dict[tuple[str, str, str], Row] = {}
        users: set[tuple[str, str]] = set()
        uses: list[tuple[int, Any]] = [(position, event) for position, _, event in chunk.events if type(event) in SPENT]
        for position, event in uses:
            key = event.merchant_id, event.holder_id, event.currency
            row = rows.get(key)
            if row is None:
                day = terms[event.batch_id].day(event.occurred_at)
                issued = issued_as[event.originator_id].channel
                rows[key] = row = Row(event, day, issued, key[:2] not in users, position in first.in_batch)
                users.add(key[:2])
            row.add(position, event, position in first.of_user)
        if rows:
            written = [[*key, *row.values()] for key, row in sorted(rows.items())]
            connection.execute(sql.SQL(_MERGE).format(table=table), (orjson.dumps(written).decode(),))


class Row:
    """What a chunk adds to one row."""

    def __init__(self, first: CouponSpent, day: str, issued_as: str, is_first: bool, opened_order: bool) -> None:
        self.first = first
        self.day = day
        self.issued_as = issued_as
        self.opened_order = opened_order
        self.is_first = is_first
        """Unless the user has rows already."""
        self.last_used_at = first.occurred_at
        self.uses = self.orders = self.orders_told = self.discount_minor = self.paid_minor = self.position = 0

    def add(self, position: int, event: CouponSpent, new_order: bool) -> None:
        """One more use, and one more order where it is the first in one."""
        self.position = position
        self.last_used_at = event.occurred_at
        self.uses += 1
        self.discount_minor += event.discount_minor
        if new_order:
            self.orders += 1
            self.orders_told += event.paid_minor is not None
            self.paid_minor += event.paid_minor or 0

    def values(self) -> Sequence[Any]:
        """The columns after the key."""
        first = self.first
        return (
            self.is_first, first.occurred_at, self.day, first.order_id, first.batch_id, first.channel,
            self.issued_as, self.opened_order, self.last_used_at, self.uses, self.orders, self.orders_told,
            self.discount_minor, self.paid_minor, self.position,
        )  # fmt: skip


_MERGE = """
merge into {table} t
using (select c->>0 as merchant_id, c->>1 as user_id, c->>2 as currency, (c->>3)::boolean as is_first,
              (c->>4)::timestamptz as first_used_at, (c->>5)::date as first_day, c->>6 as first_order_id,
              c->>7 as first_batch_id, c->>8 as first_channel, c->>9 as first_issued_as,
              (c->>10)::boolean as opened_order, (c->>11)::timestamptz as last_used_at, (c->>12)::bigint as uses,
              (c->>13)::bigint as orders, (c->>14)::bigint as orders_told, (c->>15)::bigint as discount_minor,
              (c->>16)::bigint as paid_minor, (c->>17)::bigint as position
         from jsonb_array_elements(%s::jsonb) c) m
   on t.merchant_id = m.merchant_id and t.user_id = m.user_id and t.currency = m.currency
 when matched then update
  set last_used_at = m.last_used_at, uses = t.uses + m.uses, orders = t.orders + m.orders,
      orders_told = t.orders_told + m.orders_told, discount_minor = t.discount_minor + m.discount_minor,
      paid_minor = t.paid_minor + m.paid_minor, position = m.position
 when not matched then insert
      (merchant_id, user_id, currency, is_first, first_used_at, first_day, first_order_id, first_batch_id,
       first_channel, first_issued_as, opened_order, last_used_at, uses, orders, orders_told, discount_minor,
       paid_minor, position)
      values (m.merchant_id, m.user_id, m.currency,
              m.is_first and not exists (select from {table} c
                                          where c.merchant_id = m.merchant_id and c.user_id = m.user_id),
              m.first_used_at, m.first_day, m.first_order_id, m.first_batch_id, m.first_channel,
              m.first_issued_as, m.opened_order, m.last_used_at, m.uses, m.orders, m.orders_told, m.discount_minor,
              m.paid_minor, m.position)
"""
