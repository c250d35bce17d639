"""Coupon status: one row for each coupon, as the log left it."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from projections.chunk import Chunk
from projections.models.bulk import copy_rows, expect_rows, joined
from projections.models.moves import COUPON_EVENTS, Move
from projections.projection import Connection, Projection


class CouponStatus(Projection):
    """Where every coupon stands. ``state`` is as stored; ``effective_state()`` asks the clock too."""

    name = "coupon_status"
    version = 2
    folds = COUPON_EVENTS
    ddl = """
        create table {table} (
            coupon_id        text        primary key,
            merchant_id      text        not null,
            batch_id         text        not null,
            template_id      text        not null,
            template_version bigint      not null,
            user_id          text        not null,
            state            text        not null,
            valid_from       timestamptz not null,
            valid_until      timestamptz not null,
            order_id         text,                  -- the order that holds or used it
            holder_id        text,                  -- the friend who holds or used it; null where its owner does
            lock_id          text,
            lock_ends_at     timestamptz,
            redemption_id    text,
            discount_minor   bigint      not null,  -- of the present use; 0 unless USED
            balance_minor    bigint,                -- left on a voucher that was spent in part; null before that
            issued_at        timestamptz not null,
            version          bigint      not null,  -- of the stream
            position         bigint      not null,  -- of its last event in the log
            check (state in ('UNUSED', 'LOCKED', 'USED', 'EXPIRED', 'VOIDED')),
            check ((state = 'LOCKED') = (lock_ends_at is not null)),
            check ((state = 'USED') = (redemption_id is not null)),
            check (state in ('LOCKED', 'USED') or holder_id is null)
        );
        -- Partial, so that a sweep never walks over what was swept before. The price is that a change of state is
        -- never a HOT update: it writes one more entry of the primary key.
        create index on {table} (valid_until, coupon_id) where state = 'UNUSED';
        create index on {table} (batch_id, valid_from, valid_until) where state = 'UNUSED';
        create index on {table} (lock_ends_at, coupon_id) where state = 'LOCKED';
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Insert coupons that are new, update the others."""
        moves = chunk.moves
        new: list[tuple[str, Move]] = []
        known: list[tuple[str, Move]] = []
        for stream in sorted(moves):
            move = moves[stream]
            (known if move.issued is None else new).append((stream[7:], move))
        copy_rows(connection, table, _COLUMNS, [_line(coupon_id, move) for coupon_id, move in new])
        if known:
            _update(connection, table, known)


_COLUMNS = (
    "coupon_id", "merchant_id", "batch_id", "template_id", "template_version", "user_id", "issued_at", "valid_from",
    "valid_until", "state", "order_id", "holder_id", "lock_id", "lock_ends_at", "redemption_id", "discount_minor",
    "balance_minor", "version", "position",
)  # fmt: skip


def _line(coupon_id: str, move: Move) -> str:
    issued = move.issued
    assert issued is not None
    return (
        f"{coupon_id}\t{issued.merchant_id}\t{issued.batch_id}\t{issued.template_id}\t{issued.template_version}\t"
        f"{move.to_user_id or issued.user_id}\t{issued.occurred_at}\t{issued.valid_from}\t{move.valid_until}\t"
        f"{move.state}\t{move.order_id or ''}\t{move.holder_id or ''}\t{move.lock_id or ''}\t"
        f"{move.lock_ends_at or ''}\t{move.redemption_id or ''}\t{move.discount_minor}\t"
        f"{'' if move.balance_minor is None else move.balance_minor}\t{move.version}\t{move.position}"
    )


def _update(connection: Connection, table: sql.Identifier, known: Sequence[tuple[str, Move]]) -> None:
    cursor = connection.execute(
        sql.SQL(_UPDATE).format(table=table),
        (
            joined(coupon_id for coupon_id, _ in known),
            " ".join([str(move.first_version - 1) for _, move in known]),
            joined(move.to_user_id or "" for _, move in known),
            joined(move.state or "" for _, move in known),
            joined(str(move.valid_until or "") for _, move in known),
            joined(move.order_id or "" for _, move in known),
            joined(move.holder_id or "" for _, move in known),
            joined(move.lock_id or "" for _, move in known),
            joined(str(move.lock_ends_at or "") for _, move in known),
            joined(move.redemption_id or "" for _, move in known),
            " ".join([str(move.discount_minor) for _, move in known]),
            joined("" if move.balance_minor is None else str(move.balance_minor) for _, move in known),
            " ".join([str(move.version) for _, move in known]),
            " ".join([str(move.position) for _, move in known]),
        ),
    )
    expect_rows(cursor, len(known))


_UPDATE = """
update {table} t
   set user_id        = coalesce(m.to_user_id, t.user_id),
       state          = coalesce(m.state, t.state),
       valid_until    = coalesce(m.valid_until, t.valid_until),
       order_id       = case when m.state is null then t.order_id else m.order_id end,
       holder_id      = case when m.state is null then t.holder_id else m.holder_id end,
       lock_id        = case when m.state is null then t.lock_id else m.lock_id end,
       lock_ends_at   = case when m.state is null then coalesce(m.lock_ends_at, t.lock_ends_at) else m.lock_ends_at end,
       redemption_id  = case when m.state is null then t.redemption_id else m.redemption_id end,
       discount_minor = case when m.state is null then t.discount_minor else m.discount_minor end,
       balance_minor  = coalesce(m.balance_minor, t.balance_minor),
       version        = m.version,
       position       = m.position
  from unnest(string_to_array(%s, E'\\n'), string_to_array(%s, ' ')::bigint[], string_to_array(%s, E'\\n', ''),
              string_to_array(%s, E'\\n', ''), string_to_array(%s, E'\\n', '')::timestamptz[],
              string_to_array(%s, E'\\n', ''), string_to_array(%s, E'\\n', ''), string_to_array(%s, E'\\n', ''),
              string_to_array(%s, E'\\n', '')::timestamptz[], string_to_array(%s, E'\\n', ''),
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, E'\\n', '')::bigint[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, ' ')::bigint[])
       as m (coupon_id, version_before, to_user_id, state, valid_until, order_id, holder_id, lock_id, lock_ends_at,
             redemption_id, discount_minor, balance_minor, version, position)
 where t.coupon_id = m.coupon_id and t.version = m.version_before
"""
