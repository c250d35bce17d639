"""The read models of orders, days, customers and accounts equal a plain reckoning, whatever the chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from ledger import events
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.database import Database
from ledger.terms import Terms
from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.chunk import read_chunk, times_as_text
from projections.models.books import ACCOUNTS
from projections.projection import Projection
from projections.runner import Runner
from tests.postgres.lives import TERMS, Life, Lives
from tests.postgres.reckoning import Reckoning
from tests.postgres.trade import KINDS, Trade

KEYS: dict[str, tuple[str, ...]] = {
    "order_coupons": ("merchant_id", "order_id", "coupon_id"),
    "daily_statistics": ("batch_id", "day", "channel"),
    "customers": ("merchant_id", "user_id", "currency"),
    "funnel": ("batch_id",),
    "liability": ("batch_id", "funder", "month"),
}
MODELS = [projection for projection in PROJECTIONS if projection.name in KEYS or projection.name == "batch_balance"]


class Step:
    """Folds the models position by position, or in any chunks, without a runner."""

    def __init__(self, ledger: Ledger, database: Database) -> None:
        checkpoints.install(database, MODELS)
        self.connection = checkpoints.connect(database)
        self.decode = times_as_text(ledger.store.mapper.decode)
        self.topics = frozenset[str]().union(*(model.topics for model in MODELS))

    def fold(self, after: int, limit: int) -> int:
        chunk = read_chunk(self.connection, self.decode, self.topics, after=after, limit=limit)
        with self.connection.transaction():
            for model in MODELS:
                model.fold(chunk, self.connection, model.table)
        return chunk.last


@pytest.fixture
def step(ledger: Ledger, database: Database) -> Any:
    step = Step(ledger, database)
    yield step
    step.connection.close()


def log_of(ledger: Ledger, database: Database) -> list[Any]:
    with database.connect() as connection:
        return list(ledger.store.read(connection, 0, 100_000))


def rows_of(connection: psycopg.Connection[Any], model: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    rows = cursor.execute(sql.SQL("select * from {}").format(sql.Identifier(model))).fetchall()
    return {tuple(row[name] for name in KEYS[model]): row for row in rows}


def check_rows(connection: psycopg.Connection[Any], reckoning: Reckoning) -> None:
    for model in KEYS:
        found, expected = rows_of(connection, model), reckoning.rows[model]
        assert found.keys() == expected.keys(), model
        for key, row in found.items():
            assert row == expected[key], (model, key)


def check_laws(connection: psycopg.Connection[Any], reckoning: Reckoning) -> None:
    """What holds between the models at every position: one truth, told five times."""
    cursor = connection.cursor(row_factory=dict_row)
    balances = {row["batch_id"]: row for row in cursor.execute("select * from batch_balance")}
    days = _sums(cursor, "daily_statistics")
    books = _sums(cursor, "liability")
    funnel = _sums(cursor, "funnel")
    new = cursor.execute(
        """
        select d.batch_id, d.day, d.channel, d.orders, d.used + d.debited as uses, count(*) as new_customers,
               count(*) filter (where c.opened_order) as new_orders
          from customers c
          left join daily_statistics d
            on (d.batch_id, d.day, d.channel) = (c.first_batch_id, c.first_day, c.first_issued_as)
         where c.is_first
         group by d.batch_id, d.day, d.channel, d.orders, d.used, d.debited
        """
    ).fetchall()
    assert all(row["new_customers"] <= row["uses"] and row["new_orders"] <= row["orders"] for row in new)
    for batch_id, row in balances.items():
        assert row["at_stake_minor"] == reckoning.outstanding(batch_id)
        day, book = days.get(batch_id), books.get(batch_id)
        if day is None or book is None:
            assert row["issued"] == 0
            continue
        same = (
            "issued", "expired", "voided", "returned", "discount_minor", "merchant_funded_minor",
            "platform_funded_minor", "returned_minor", "orders", "orders_told", "paid_minor",
        )  # fmt: skip
        assert {name: row[name] for name in same} == {name: day[name] for name in same}
        assert row["used"] == day["used"] - day["restored"]
        assert day["first_uses"] == funnel[batch_id]["used"]
        assert row["locked"] == day["locked"] - day["unlocked"] - day["used"] - day["debited"]
        balance = {account: book[f"{account}_credit_minor"] - book[f"{account}_debit_minor"] for account in ACCOUNTS}
        assert sum(balance.values()) == 0
        assert balance["outstanding"] == row["at_stake_minor"]
        assert balance["redeemed"] == row["discount_minor"] - row["returned_minor"]
        if row["worth_minor"] is not None:
            assert -balance["issued"] >= row["worth_minor"] * row["issued"]  # more, where returns grant it anew
        assert min(balance[account] for account in ACCOUNTS[1:]) >= 0


def _sums(cursor: psycopg.Cursor[dict[str, Any]], model: str) -> dict[str, dict[str, Any]]:
    """Each batch's sums over all its rows."""
    sums: dict[str, dict[str, Any]] = {}
    for row in cursor.execute(sql.SQL("select * from {}").format(sql.Identifier(model))).fetchall():
        total = sums.setdefault(row["batch_id"], {})
        for name, value in row.items():
            if type(value) is int:
                total[name] = total.get(name, 0) + value
    return sums


def plans_of(trade: Trade) -> dict[str, tuple[Terms, str]]:
    return dict(zip(trade.batches, KINDS, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_all_rows_and_laws_hold_at_every_position(
    ledger: Ledger, shop: Any, database: Database, step: Step, seed: int
) -> None:
    trade = Trade(shop, seed)
    trade.go_on(260)
    reckoning = Reckoning(plans_of(trade))
    log = log_of(ledger, database)
    for recorded in log:
        reckoning.feed(recorded)
        assert step.fold(recorded.position - 1, 1) == recorded.position
        check_laws(step.connection, reckoning)
        if recorded.position % 25 == 0:
            check_rows(step.connection, reckoning)
    check_rows(step.connection, reckoning)
    kinds = {type(recorded.event) for recorded in log}
    assert kinds >= {events.CouponDebited, events.CouponReturned, events.CouponExpired}


@pytest.mark.parametrize("chunk_events", [1, 7, 5_000])
def test_chunks_of_every_size_give_the_same_rows(
    ledger: Ledger, shop: Any, database: Database, step: Step, chunk_events: int
) -> None:
    trade = Trade(shop, 40)
    trade.go_on(400)
    reckoning = Reckoning(plans_of(trade))
    for recorded in log_of(ledger, database):
        reckoning.feed(recorded)
    position, head = 0, ledger.store.head()
    while position < head:
        position = step.fold(position, chunk_events)
    check_rows(step.connection, reckoning)
    check_laws(step.connection, reckoning)


@pytest.mark.parametrize("chunk_events", [1, 3, 5_000])
def test_any_steps_of_vouchers(ledger: Ledger, shop: Any, database: Database, step: Step, chunk_events: int) -> None:
    """Steps that no shop would take in this order, but that a coupon's states allow."""
    lives = Lives(shop, 17)
    for _ in range(5):
        lives.go_on(80)
    reckoning = Reckoning({lives.batch_id: (TERMS, "UTC")})
    position, log = 0, log_of(ledger, database)
    while position < len(log):
        before, position = position, step.fold(position, chunk_events)
        for recorded in log[before:position]:
            reckoning.feed(recorded)
        check_laws(step.connection, reckoning)
    check_rows(step.connection, reckoning)


def test_what_is_put_back_on_an_expired_voucher_is_breakage(
    ledger: Ledger, shop: Any, database: Database, step: Step
) -> None:
    life = Life(Lives(shop, 1).random, shop.batch(terms=TERMS), 1)
    for do in (life.lock, life.debit, life.expire, life.credit):
        do()
    life.store(shop)
    step.fold(0, 1_000)
    [row] = rows_of(step.connection, "liability").values()
    assert row["breakage_credit_minor"] == 500
    assert row["redeemed_credit_minor"] == row["redeemed_debit_minor"] > 0
    assert row["outstanding_credit_minor"] == row["outstanding_debit_minor"] == 500


def test_what_is_worth_the_basket_is_counted_and_issued_by_its_use(
    ledger: Ledger, shop: Any, database: Database, step: Step
) -> None:
    gift = Terms(benefit=Benefit(kind="gift", products=("p",)), currency="EUR", merchant_share_permyriad=10_000)
    life = Life(Lives(shop, 1).random, shop.batch(terms=gift), 1)
    life.lock()
    life.use()
    life.store(shop)
    step.fold(0, 1_000)
    [row] = rows_of(step.connection, "liability").values()
    assert not row["valued"]
    assert (row["coupons_issued"], row["coupons_used"]) == (1, 1)
    assert (row["issued_debit_minor"], row["redeemed_credit_minor"]) == (500, 500)
    assert row["outstanding_credit_minor"] == 0


class Wrong:
    """Logs that no ledger writes, and the models that must stop at them."""

    @staticmethod
    def a_part_of_a_coupon_that_leaves_none(life: Life) -> None:
        life.lock()
        life.debit()

    @staticmethod
    def a_use_whose_funders_pay_more(life: Life) -> None:
        life.lock()
        spending = life._spending(500) | {"platform_funded_minor": 1}
        life._record(events.CouponUsed, **spending)


@pytest.mark.parametrize(
    ("wrong", "stopped"),
    [
        (Wrong.a_part_of_a_coupon_that_leaves_none, {"liability", "batch_balance"}),
        (Wrong.a_use_whose_funders_pay_more, {"daily_statistics", "order_coupons", "batch_balance"}),
    ],
)
def test_a_wrong_event_stops_who_cannot_fold_it(
    shop: Any, database: Database, wrong: Callable[[Life], None], stopped: set[str]
) -> None:
    life = Life(Lives(shop, 1).random, shop.batch(), 1)
    wrong(life)
    life.store(shop)
    Runner(database).catch_up()
    faulted = "select name, position from projection_checkpoints where state = 'FAULTED'"
    with database.connect() as connection:
        found: dict[str, int] = dict(connection.execute(faulted).fetchall())
        assert found.keys() == stopped
        assert set(found.values()) == {shop.ledger.store.head() - 1}


def test_a_coupon_of_no_batch_stops_who_needs_its_terms(shop: Any, database: Database) -> None:
    life = Life(Lives(shop, 1).random, "no-batch", 1)
    life.store(shop)
    Runner(database).catch_up()
    faulted = "select name from projection_checkpoints where state = 'FAULTED'"
    with database.connect() as connection:
        found = {name for (name,) in connection.execute(faulted)}
    assert found >= {"batch_balance", "daily_statistics", "liability"}


@pytest.mark.parametrize("model", [model for model in MODELS if model.name == "liability"])
def test_the_accounts_balance_by_the_table(shop: Any, database: Database, model: Projection) -> None:
    shop.coupon()
    Runner(database).catch_up()
    with (
        checkpoints.connect(database) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match="debits_equal_credits"),
    ):
        connection.execute(
            sql.SQL("update {} set redeemed_credit_minor = redeemed_credit_minor + 1").format(
                sql.Identifier(model.table)
            )
        )
