"""Wallet: the coupons of a user, as a shopper's app lists them."""

from __future__ import annotations

from psycopg import sql

from projections.chunk import Chunk
from projections.models.bulk import copy_rows, expect_rows, joined
from projections.models.moves import COUPON_EVENTS, Move
from projections.projection import Connection, Projection


class Wallet(Projection):
    """What every user has. ``state`` is as stored; ``effective_state()`` asks the clock too."""

    name = "wallet"
    version = 2
    folds = COUPON_EVENTS
    # One index, on columns that change only when a coupon is given away, so that updates need not touch it; the room
    # left on each page is for them. A wallet is sorted by expiry when it is read: it holds hundreds of coupons, not
    # millions.
    ddl = """
        create table {table} (
            merchant_id      text        not null,
            user_id          text        not null,
            coupon_id        text        not null,
            batch_id         text        not null,
            template_id      text        not null,
            template_version bigint      not null,
            state            text        not null,
            valid_from       timestamptz not null,
            valid_until      timestamptz not null,
            order_id         text,                  -- the order that holds or used it
            holder_id        text,                  -- the friend who holds or used it; null where the user does
            lock_ends_at     timestamptz,
            discount_minor   bigint      not null,  -- of the present use; 0 unless USED
            balance_minor    bigint,                -- left on a voucher that was spent in part; null before that
            issued_at        timestamptz not null,
            version          bigint      not null,  -- of the coupon's stream
            primary key (merchant_id, user_id, coupon_id)
        ) with (fillfactor = 70);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Insert coupons that are new, update the others."""
        new: list[Move] = []
        known: list[Move] = []
        for move in chunk.moves.values():
            (known if move.issued is None else new).append(move)
        copy_rows(connection, table, _COLUMNS, sorted([_line(move) for move in new]))
        if known:
            _update(connection, table, known)


_COLUMNS = (
    "merchant_id", "user_id", "coupon_id", "batch_id", "template_id", "template_version", "issued_at", "valid_from",
    "valid_until", "state", "order_id", "holder_id", "lock_ends_at", "discount_minor", "balance_minor", "version",
)  # fmt: skip


def _line(move: Move) -> str:
    issued = move.issued
    assert issued is not None
    return (
        f"{issued.merchant_id}\t{move.to_user_id or issued.user_id}\t{issued.originator_id[7:]}\t{issued.batch_id}\t"
        f"{issued.template_id}\t{issued.template_version}\t{issued.occurred_at}\t{issued.valid_from}\t"
        f"{move.valid_until}\t{move.state}\t{move.order_id or ''}\t{move.holder_id or ''}\t{move.lock_ends_at or ''}\t"
        f"{move.discount_minor}\t{'' if move.balance_minor is None else move.balance_minor}\t{move.version}"
    )


def _update(connection: Connection, table: sql.Identifier, known: list[Move]) -> None:
    known.sort(key=lambda move: (move.user_id, move.coupon_id))
    cursor = connection.execute(
        sql.SQL(_UPDATE).format(table=table),
        (
            joined(move.merchant_id for move in known),
            joined(move.user_id for move in known),
            joined(move.coupon_id for move in known),
            " ".join([str(move.first_version - 1) for move in known]),
            joined(move.to_user_id or "" for move in known),
            joined(move.state or "" for move in known),
            joined(str(move.valid_until or "") for move in known),
            joined(move.order_id or "" for move in known),
            joined(move.holder_id or "" for move in known),
            joined(str(move.lock_ends_at or "") for move in known),
            " ".join([str(move.discount_minor) for move in known]),
            joined("" if move.balance_minor is None else str(move.balance_minor) for move in known),
            " ".join([str(move.version) for move in known]),
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
       lock_ends_at   = case when m.state is null then coalesce(m.lock_ends_at, t.lock_ends_at) else m.lock_ends_at end,
       discount_minor = case when m.state is null then t.discount_minor else m.discount_minor end,
       balance_minor  = coalesce(m.balance_minor, t.balance_minor),
       version        = m.version
  from unnest(string_to_array(%s, E'\\n'), string_to_array(%s, E'\\n'), string_to_array(%s, E'\\n'),
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, E'\\n', ''), string_to_array(%s, E'\\n', ''),
              string_to_array(%s, E'\\n', '')::timestamptz[], string_to_array(%s, E'\\n', ''),
              string_to_array(%s, E'\\n', ''), string_to_array(%s, E'\\n', '')::timestamptz[],
              string_to_array(%s, ' ')::bigint[], string_to_array(%s, E'\\n', '')::bigint[],
              string_to_array(%s, ' ')::bigint[])
       as m (merchant_id, user_id, coupon_id, version_before, to_user_id, state, valid_until, order_id, holder_id,
             lock_ends_at, discount_minor, balance_minor, version)
 where t.merchant_id = m.merchant_id and t.user_id = m.user_id and t.coupon_id = m.coupon_id
   and t.version = m.version_before
"""
