"""Order coupons: what every order did with each coupon that it ever locked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from psycopg import sql

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponLocked,
    CouponLockExtended,
    CouponReturned,
    CouponSpent,
    CouponUnlocked,
    CouponUsed,
    Event,
)
from projections.chunk import Chunk
from projections.models.bulk import expect_rows
from projections.projection import Connection, Projection


class OrderCoupons(Projection):
    """One row for each order and coupon. An order that locks a coupon again begins its row anew.

    ``state`` is what the order did last, as stored: LOCKED, UNLOCKED, USED, DEBITED (it spent a part of a voucher), or
    RETURNED once the whole of what it took off was undone, whether or not the return policy gave anything back.
    """

    name = "order_coupons"
    version = 1
    folds = (
        CouponLocked,
        CouponLockExtended,
        CouponUnlocked,
        CouponUsed,
        CouponDebited,
        CouponCredited,
        CouponReturned,
    )
    ddl = """
        create table {table} (
            merchant_id           text        not null,  -- whose ledger it is in
            order_id              text        not null,  -- as the order system names it
            coupon_id             text        not null,  -- of the coupon
            batch_id              text        not null,  -- of the coupon
            user_id               text        not null,  -- the owner, when the order locked or spent it
            holder_id             text        not null,  -- who used it: the owner, or a friend with whom it is shared
            state                 text        not null,  -- LOCKED, UNLOCKED, USED, DEBITED or RETURNED
            first_locked_at       timestamptz not null,  -- by this order, ever
            locked_at             timestamptz not null,  -- by its last lock
            lock_ends_at          timestamptz not null,  -- of that lock, extended or not
            unlocked_at           timestamptz,           -- when the order let it go, or its lock's end was written down
            used_at               timestamptz,           -- when the order was paid
            returned_at           timestamptz,           -- of the last return, in whole or in part
            channel               text,                  -- online or in_store; null where the lock did not say
            redemption_id         text,                  -- of the use; null until it is used
            currency              text,                  -- of the amounts; null until it is used
            found_minor           bigint,                -- what the ledger found it to be worth at the lock, if asked
            discount_minor        bigint      not null,  -- taken off the order with it; 0 until it is used
            merchant_funded_minor bigint      not null,  -- the merchant's part of that
            platform_funded_minor bigint      not null,  -- the platform's part
            undone_minor          bigint      not null,  -- of the discount, what returns undid
            returned_minor        bigint      not null,  -- of that, what the return policy gave back
            order_total_minor     bigint,                -- before coupons, as told; null where nobody said
            paid_minor            bigint,                -- for the whole order, as told; null where nobody said
            late                  boolean     not null,  -- whether it was used after the lock's end
            uses                  bigint      not null,  -- how often this order used it: again after a return
            position              bigint      not null,  -- of the last event that moved this row
            primary key (merchant_id, order_id, coupon_id),
            check (state in ('LOCKED', 'UNLOCKED', 'USED', 'DEBITED', 'RETURNED')),
            check (merchant_funded_minor + platform_funded_minor = discount_minor),
            check (0 <= returned_minor and returned_minor <= undone_minor and undone_minor <= discount_minor),
            check ((state in ('USED', 'DEBITED', 'RETURNED')) = (used_at is not null))
        ) with (fillfactor = 70);
        create index on {table} (batch_id, used_at) where used_at is not null;
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Begin the rows of what was locked, then change them, and others, by what came after the last lock."""
        pairs: dict[Key, Pair] = {}
        for position, _, event in chunk.events:
            step = _STEPS.get(type(event))
            if step is None:
                continue
            key = event.merchant_id, event.order_id, event.originator_id[7:]  # type: ignore[attr-defined]
            pair = pairs.get(key)
            if pair is None:
                pairs[key] = pair = Pair()
            step(pair, event)
            pair.position = position
        ordered = sorted(pairs.items())
        _lock(connection, table, [(key, pair) for key, pair in ordered if pair.locks])
        _change(connection, table, [(key, pair) for key, pair in ordered if pair.changed])


Key = tuple[str, str, str]
"""Merchant, order and coupon."""


@dataclass(slots=True)
class Pair:
    """What a chunk does to one row: the locks that begin it anew, and what comes after the last of them."""

    locks: list[CouponLocked] = field(default_factory=list)
    position: int = 0
    changed: bool = False
    """Whether anything came after the last lock."""
    state: str | None = None
    """``None`` keeps it, unless returns have now undone the whole."""
    lock_ends_at: datetime | None = None
    unlocked_at: datetime | None = None
    spent: CouponSpent | None = None
    uses: int = 0
    """Also those before the last lock."""
    undone_minor: int = 0
    undone_whole: bool = False
    returned_minor: int = 0
    returned_at: datetime | None = None


def _locked(pair: Pair, event: CouponLocked) -> None:
    pair.locks.append(event)
    pair.changed = False
    pair.state = pair.lock_ends_at = pair.unlocked_at = pair.spent = None
    _forget_returns(pair)


def _forget_returns(pair: Pair) -> None:
    pair.undone_minor = pair.returned_minor = 0
    pair.undone_whole = False
    pair.returned_at = None


def _lock_extended(pair: Pair, event: CouponLockExtended) -> None:
    pair.changed = True
    pair.lock_ends_at = event.lock_ends_at


def _unlocked(pair: Pair, event: CouponUnlocked) -> None:
    pair.changed = True
    pair.state = "UNLOCKED"
    pair.unlocked_at = event.occurred_at


def _spent(pair: Pair, event: CouponSpent) -> None:
    pair.changed = True
    pair.state = "USED" if isinstance(event, CouponUsed) else "DEBITED"
    pair.spent = event
    pair.uses += 1
    _forget_returns(pair)


def _returned(pair: Pair, event: CouponReturned | CouponCredited) -> None:
    pair.changed = True
    pair.undone_minor += sum([part["discount_minor"] for part in event.lines])
    pair.undone_whole = pair.undone_whole or not event.lines
    pair.returned_minor += event.returned_minor if isinstance(event, CouponReturned) else event.credited_minor
    pair.returned_at = event.occurred_at


_STEPS: dict[type[Event], Callable[[Pair, Any], None]] = {
    CouponLocked: _locked,
    CouponLockExtended: _lock_extended,
    CouponUnlocked: _unlocked,
    CouponUsed: _spent,
    CouponDebited: _spent,
    CouponReturned: _returned,
    CouponCredited: _returned,
}


def _lock(connection: Connection, table: sql.Identifier, pairs: Sequence[tuple[Key, Pair]]) -> None:
    rows = []
    for key, pair in pairs:
        lock = pair.locks[-1]
        rows.append(
            (
                *key, lock.batch_id, lock.user_id, lock.holder_id, pair.locks[0].occurred_at, lock.occurred_at,
                lock.lock_ends_at, lock.channel, lock.discount_minor, lock.order_total_minor,
                0 if pair.changed else pair.uses, pair.position,
            )
        )  # fmt: skip
    if rows:
        connection.execute(sql.SQL(_LOCK).format(table=table), (orjson.dumps(rows).decode(),))


def _change(connection: Connection, table: sql.Identifier, pairs: Sequence[tuple[Key, Pair]]) -> None:
    rows = []
    for key, pair in pairs:
        spent = pair.spent
        use: tuple[Any, ...] = ()
        if spent is not None:
            use = (
                spent.user_id, spent.holder_id, spent.occurred_at, spent.channel, spent.redemption_id, spent.currency,
                spent.discount_minor, spent.merchant_funded_minor, spent.platform_funded_minor,
                spent.order_total_minor, spent.paid_minor, spent.late,
            )  # fmt: skip
        rows.append(
            (
                *key, pair.state, pair.lock_ends_at, pair.unlocked_at, pair.returned_at, pair.undone_minor,
                pair.undone_whole, pair.returned_minor, pair.uses, pair.position, *use,
            )
        )  # fmt: skip
    if rows:
        cursor = connection.execute(sql.SQL(_CHANGE).format(table=table), (orjson.dumps(rows).decode(),))
        expect_rows(cursor, len(rows))


_LOCK = """
insert into {table} as t
       (merchant_id, order_id, coupon_id, batch_id, user_id, holder_id, state, first_locked_at, locked_at, lock_ends_at,
        channel, found_minor, order_total_minor, discount_minor, merchant_funded_minor, platform_funded_minor,
        undone_minor, returned_minor, late, uses, position)
select c->>0, c->>1, c->>2, c->>3, c->>4, c->>5, 'LOCKED', (c->>6)::timestamptz, (c->>7)::timestamptz,
       (c->>8)::timestamptz, c->>9, (c->>10)::bigint, (c->>11)::bigint, 0, 0, 0, 0, 0, false, (c->>12)::bigint,
       (c->>13)::bigint
  from jsonb_array_elements(%s::jsonb) c
on conflict (merchant_id, order_id, coupon_id) do update
   set user_id = excluded.user_id, holder_id = excluded.holder_id, state = 'LOCKED', locked_at = excluded.locked_at,
       lock_ends_at = excluded.lock_ends_at, unlocked_at = null, used_at = null, returned_at = null,
       channel = excluded.channel, redemption_id = null, currency = null, found_minor = excluded.found_minor,
       discount_minor = 0, merchant_funded_minor = 0, platform_funded_minor = 0, undone_minor = 0, returned_minor = 0,
       order_total_minor = excluded.order_total_minor, paid_minor = null, late = false, uses = t.uses + excluded.uses,
       position = excluded.position
"""

# A use takes the place of the one before it, with what was returned of that.
_CHANGE = """
update {table} t
   set state                 = case when m.undone_whole or (m.returned_at is not null and m.undone = m.discount)
                                    then 'RETURNED' else coalesce(m.state, t.state) end,
       user_id               = coalesce(m.user_id, t.user_id),
       holder_id             = coalesce(m.holder_id, t.holder_id),
       lock_ends_at          = coalesce(m.lock_ends_at, t.lock_ends_at),
       unlocked_at           = coalesce(m.unlocked_at, t.unlocked_at),
       used_at               = coalesce(m.used_at, t.used_at),
       returned_at           = case when m.used_at is null then coalesce(m.returned_at, t.returned_at)
                                    else m.returned_at end,
       channel               = coalesce(m.channel, t.channel),
       redemption_id         = coalesce(m.redemption_id, t.redemption_id),
       currency              = coalesce(m.currency, t.currency),
       discount_minor        = m.discount,
       merchant_funded_minor = coalesce(m.merchant_funded_minor, t.merchant_funded_minor),
       platform_funded_minor = coalesce(m.platform_funded_minor, t.platform_funded_minor),
       undone_minor          = case when m.undone_whole then m.discount else m.undone end,
       returned_minor        = case when m.used_at is null then t.returned_minor else 0 end + m.returned_minor,
       order_total_minor     = coalesce(m.order_total_minor, t.order_total_minor),
       paid_minor            = coalesce(m.paid_minor, t.paid_minor),
       late                  = coalesce(m.late, t.late),
       uses                  = t.uses + m.uses,
       position              = m.position
  from (select q.*, coalesce(q.discount_minor, old.discount_minor) as discount,
               case when q.used_at is null then old.undone_minor else 0 end + q.undone_minor as undone
          from (select c->>0 as merchant_id, c->>1 as order_id, c->>2 as coupon_id, c->>3 as state,
                       (c->>4)::timestamptz as lock_ends_at, (c->>5)::timestamptz as unlocked_at,
                       (c->>6)::timestamptz as returned_at, (c->>7)::bigint as undone_minor,
                       (c->>8)::boolean as undone_whole, (c->>9)::bigint as returned_minor, (c->>10)::bigint as uses,
                       (c->>11)::bigint as position, c->>12 as user_id, c->>13 as holder_id,
                       (c->>14)::timestamptz as used_at, c->>15 as channel, c->>16 as redemption_id,
                       c->>17 as currency, (c->>18)::bigint as discount_minor,
                       (c->>19)::bigint as merchant_funded_minor, (c->>20)::bigint as platform_funded_minor,
                       (c->>21)::bigint as order_total_minor, (c->>22)::bigint as paid_minor,
                       (c->>23)::boolean as late
                  from jsonb_array_elements(%s::jsonb) c) q
          join {table} old using (merchant_id, order_id, coupon_id)) m
 where t.merchant_id = m.merchant_id and t.order_id = m.order_id and t.coupon_id = m.coupon_id
"""
