"""A pool of coupons made beforehand, from which each claim takes one that nobody else is taking."""

from __future__ import annotations

from benchmarks.contenders.relational import Connection, PostgresTables

TABLES = """
create table coupon (id bigint primary key, batch_id int not null, user_id text, state text not null);
create index coupon_free on coupon (id) where user_id is null;
create table record (
    id        bigint      generated always as identity primary key,
    coupon_id bigint      not null,
    kind      text        not null,
    at        timestamptz not null default now(),
    payload   jsonb       not null
);
"""


class SkipLocked(PostgresTables):
    """``FOR UPDATE SKIP LOCKED``: no hot row, but every coupon is written twice, and the stock is a count of rows.

    It knows no request keys and no user's limit. A lock and a confirmation would be those of the relational contender.
    """

    name = "skip_locked"
    confirms = False

    def prepare(self, claims: int, coupons: int) -> None:  # noqa: ARG002  # it confirms none
        self._made = claims
        self.make(TABLES, f"insert into coupon select n, 1, null, 'MINTED' from generate_series(1, {claims}) as n")

    def claim(self, user_id: str) -> None:
        def work(connection: Connection) -> None:
            taken = connection.execute(
                "update coupon set user_id = %s, state = 'UNUSED' where id = ("
                "  select id from coupon where user_id is null order by id limit 1 for update skip locked"
                ") returning id",
                (user_id,),
            ).fetchone()
            if taken is None:
                raise RuntimeError("sold out")
            connection.execute(
                "insert into record (coupon_id, kind, payload)"
                " values (%s, 'issued', jsonb_build_object('user_id', %s::text))",
                (taken[0], user_id),
            )

        self.transact(work)

    def claimed(self) -> tuple[int, ...]:
        return self.counted(
            "select count(*) from coupon where state = 'UNUSED'",
            f"select {self._made} - count(*) from coupon where user_id is null",
            "select count(distinct coupon_id) from record",
            "select count(*) from record",
        )
