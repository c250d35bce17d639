"""Shared coupons: what users may use though it is not theirs, because its owner shares it with them."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from ledger.events import CouponShared, CouponTransferred
from projections.chunk import Chunk
from projections.projection import Connection, Projection


class SharedCoupons(Projection):
    """One row for each coupon and friend. What the coupon is stands in coupon status: sharing is rare, and reading
    both costs less than to write every move of a coupon into the wallets of fifty friends.
    """

    name = "shared_coupons"
    version = 1
    folds = (CouponShared, CouponTransferred)
    ddl = """
        create table {table} (
            merchant_id text not null,
            user_id     text not null,  -- the friend
            coupon_id   text not null,
            primary key (merchant_id, user_id, coupon_id)
        );
        create index on {table} (coupon_id);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Put the friends whom the chunk names last in the place of those before."""
        friends: dict[tuple[str, str], Sequence[str]] = {}
        for _, _, event in chunk.events:
            if isinstance(event, CouponShared):
                friends[event.merchant_id, event.originator_id[7:]] = event.with_user_ids
            elif isinstance(event, CouponTransferred):
                friends[event.merchant_id, event.originator_id[7:]] = ()
        if not friends:
            return
        connection.execute(
            sql.SQL("delete from {table} where coupon_id = any(%s)").format(table=table),
            ([coupon_id for _, coupon_id in friends],),
        )
        rows = [(*key, user_id) for key, user_ids in friends.items() for user_id in set(user_ids)]
        if rows:
            merchants, coupons, users = (list(column) for column in zip(*rows, strict=True))
            connection.execute(sql.SQL(_INSERT).format(table=table), (merchants, users, coupons))


_INSERT = """
insert into {table} (merchant_id, user_id, coupon_id)
select * from unnest(%s::text[], %s::text[], %s::text[])
"""
