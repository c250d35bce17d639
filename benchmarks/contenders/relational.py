"""The relational textbook: tables of today's state, guarded UPDATEs, and a record of what happened."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.types.json import Json
from psycopg_pool import ConnectionPool

from benchmarks.contenders.base import DISCOUNT_MINOR, QUANTITY, Contender, Coupon, Place

TABLES = """
create table batch (id int primary key, remaining bigint not null check (remaining >= 0));
create table coupon (
    id           uuid   primary key,
    batch_id     int    not null,
    user_id      text   not null,
    state        text   not null,
    order_id     text,
    lock_ends_at timestamptz
);
create table orders (id text primary key, user_id text not null, state text not null, discount_minor bigint);
create table record (
    id        bigint      generated always as identity primary key,
    coupon_id uuid        not null,
    kind      text        not null,
    at        timestamptz not null default now(),
    payload   jsonb       not null
);
"""

Connection = psycopg.Connection[Any]


class PostgresTables(Contender):
    """Tables of its own, and a pool that is warm before the clock starts."""

    pool_sizes = (4, 8, 16, 32)

    def __init__(self, place: Place, callers: int) -> None:
        super().__init__(place, callers)
        size = min(callers, place.pool_size or 1)
        self._pool = ConnectionPool(
            place.address,
            kwargs={"options": f"-c search_path={place.schema}", "prepare_threshold": 0},
            min_size=size,
            max_size=size,
            timeout=60,
            open=False,
        )

    def transact(self, work: Callable[[Connection], None]) -> None:
        """Do the work in one transaction of a pooled connection."""
        if self._pool.closed:
            self._pool.open(wait=True)
        with self._pool.connection() as connection:
            work(connection)

    def make(self, *statements: str) -> None:
        """Make the schema and run statements in it."""
        with self.connect() as connection:
            connection.execute(f'create schema "{self.place.schema}"')
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("analyze")

    def counted(self, *queries: str) -> tuple[int, ...]:
        """What each query counts."""
        with self.connect() as connection:
            return tuple(row[0] for query in queries for row in connection.execute(query.encode()))

    def connect(self) -> Connection:
        """A connection outside of the pool, in autocommit."""
        return psycopg.connect(self.place.address, autocommit=True, options=f"-c search_path={self.place.schema}")

    def close(self) -> None:
        self._pool.close()


class Relational(PostgresTables):
    """One transaction for each step. It knows no request keys and no user's limit."""

    name = "relational"

    def prepare(self, claims: int, coupons: int) -> None:  # noqa: ARG002  # the hot batch's quantity is a number
        self.make(
            TABLES,
            f"insert into batch values (1, {QUANTITY})",
            "insert into coupon select gen_random_uuid(), 2, 'user-' || n, 'UNUSED'"
            f" from generate_series(1, {coupons}) n",
            "insert into record (coupon_id, kind, payload)"
            " select id, 'issued', json_build_object('user_id', user_id) from coupon",
        )

    def claim(self, user_id: str) -> None:
        coupon_id = uuid.uuid4()

        def work(connection: Connection) -> None:
            taken = connection.execute("update batch set remaining = remaining - 1 where id = 1 and remaining > 0")
            if not taken.rowcount:
                raise RuntimeError("sold out")
            connection.execute("insert into coupon values (%s, 1, %s, 'UNUSED')", (coupon_id, user_id))
            _record(connection, coupon_id, "issued", {"user_id": user_id})

        self.transact(work)

    def claimed(self) -> tuple[int, ...]:
        return self.counted(
            "select count(*) from coupon where batch_id = 1",
            f"select {QUANTITY} - remaining from batch",
            "select count(*) from record join coupon on coupon.id = coupon_id where batch_id = 1",
        )

    def coupons(self, count: int) -> list[Coupon]:
        with self.connect() as connection:
            rows = connection.execute(
                "select id::text, user_id from coupon where batch_id = 2 order by random() limit %s", (count,)
            )
            return [Coupon(*row) for row in rows]

    def lock_confirm(self, coupon: Coupon, order_id: str) -> None:
        self.transact(lambda connection: _lock(connection, coupon, order_id))
        self.transact(lambda connection: _confirm(connection, coupon, order_id))

    def confirmed(self) -> tuple[int, ...]:
        return self.counted(
            "select count(*) from coupon where state = 'USED'",
            "select count(*) from orders where state = 'PAID'",
            "select count(*) from record where kind = 'locked'",
            "select count(*) from record where kind = 'used'",
        )


def _lock(connection: Connection, coupon: Coupon, order_id: str) -> None:
    held = connection.execute(
        "update coupon set state = 'LOCKED', order_id = %s, lock_ends_at = now() + interval '15 minutes'"
        " where id = %s and user_id = %s and state = 'UNUSED'",
        (order_id, coupon.id, coupon.user_id),
    )
    if not held.rowcount:
        raise RuntimeError("not to be locked")
    connection.execute("insert into orders values (%s, %s, 'LOCKED')", (order_id, coupon.user_id))
    _record(connection, coupon.id, "locked", {"order_id": order_id})


def _confirm(connection: Connection, coupon: Coupon, order_id: str) -> None:
    used = connection.execute(
        "update coupon set state = 'USED'"
        " where id = %s and order_id = %s and state = 'LOCKED' and lock_ends_at > now()",
        (coupon.id, order_id),
    )
    if not used.rowcount:
        raise RuntimeError("not locked")
    connection.execute(
        "update orders set state = 'PAID', discount_minor = %s where id = %s", (DISCOUNT_MINOR, order_id)
    )
    _record(connection, coupon.id, "used", {"order_id": order_id, "discount_minor": DISCOUNT_MINOR})


def _record(connection: Connection, coupon_id: uuid.UUID | str, kind: str, payload: dict[str, Any]) -> None:
    connection.execute(
        "insert into record (coupon_id, kind, payload) values (%s, %s, %s)", (coupon_id, kind, Json(payload))
    )
