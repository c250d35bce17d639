"""Figures against plain sums over random lives, and the plans of the questions that ask for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from ledger.application import Ledger
from ledger.database import Database
from ledger.errors import InvalidField, InvalidPeriod
from ledger.store import Store
from projections import queries, statistics
from projections.catalogue import VERSIONS
from projections.runner import Runner
from tests.conftest import Shop
from tests.postgres.lives import T0, USERS, Lives

WORTH = 500
"""Of a coupon of Shop.batch."""


@pytest.fixture(scope="module")
def lived(shared_ledger: Ledger) -> tuple[Store, Lives]:
    """A batch whose coupons took random steps, folded."""
    lives = Lives(Shop(shared_ledger), seed=5)
    for _ in range(8):
        lives.go_on(60)
    Runner(shared_ledger.store.database).catch_up()
    return shared_ledger.store, lives


@pytest.mark.parametrize("days", [0, 0.02, 4, 4.99, 5, 6, 9, 400])
def test_at_stake_is_what_can_still_be_taken_off_at_that_moment(days: float, lived: tuple[Store, Lives]) -> None:
    store, lives = lived
    now = T0 + timedelta(days=days)
    expected = 0
    for life in lives.all:
        if life.coupon.state_at(now) in ("PENDING", "UNUSED", "LOCKED"):
            left = life.coupon.balance_minor
            expected += WORTH if left is None else left
    with store.connection() as connection:
        found = queries.balance(connection, "merchant-1", lives.batch_id, now)
    assert found.at_stake_minor == expected
    assert (expected > 0) == (days < 400)


@pytest.mark.parametrize("days", [0, 3, 5, 400])
def test_a_summary_counts_what_the_wallet_lists(days: float, lived: tuple[Store, Lives]) -> None:
    store, lives = lived
    now = T0 + timedelta(days=days)
    worth = {life.coupon.key: life.coupon.balance_minor for life in lives.all}
    with store.connection() as connection:
        for user_id in USERS:
            listed = queries.wallet(connection, "merchant-1", user_id, now).coupons
            held = statistics.wallet_summary(connection, "merchant-1", user_id, now)
            assert {row.state: row.coupons for row in held} == Counter(row.state for row in listed)
            for row in held:
                of = [each for each in listed if each.state == row.state]
                left = [worth[each.coupon_id] for each in of]
                assert row.worth_minor == sum(WORTH if each is None else each for each in left)
                assert (row.currency, row.not_valued) == ("EUR", 0)
                assert row.first_ends_at == min(each.valid_until for each in of)


def test_days_and_funnel_and_accounts_tell_of_one_another(lived: tuple[Store, Lives]) -> None:
    store, lives = lived
    with store.connection() as connection:
        days = statistics.daily(connection, "merchant-1", date(2026, 1, 1), date(2027, 1, 1))
        [funnel] = statistics.funnel(connection, "merchant-1")
        accounts = statistics.liability(connection, "merchant-1", date(2026, 12, 31))
        balance = queries.balance(connection, "merchant-1", lives.batch_id, T0)
    for name in ("new_customers", "new_customer_orders", "discount_told_minor", "paid_minor", "orders_told"):
        assert sum(getattr(row, name) for row in days) == getattr(funnel, name)
    assert sum(row.first_uses for row in days) == funnel.used
    assert funnel.new_customers == len(USERS)
    assert sum(row.issued for row in days) == funnel.issued == balance.issued == len(lives.all)
    assert sum(row.discount_minor for row in days) == funnel.discount_minor == balance.discount_minor
    assert sum(row.orders for row in days) == funnel.orders
    assert sum(row.issued_minor for row in accounts) == WORTH * len(lives.all)
    for row in accounts:
        others = row.outstanding_minor + row.redeemed_minor + row.unspent_minor + row.breakage_minor
        assert row.issued_minor == others + row.withdrawn_minor


def test_of_another_merchant_there_is_nothing(lived: tuple[Store, Lives]) -> None:
    store, lives = lived
    with store.connection() as connection:
        for of in (None, lives.batch_id):
            assert statistics.daily(connection, "other", date(2026, 1, 1), date(2027, 1, 1), batch_id=of) == []
            assert statistics.liability(connection, "other", date(2030, 1, 1), batch_id=of) == []
        assert statistics.funnel(connection, "other") == []
        assert statistics.wallet_summary(connection, "other", USERS[0], T0) == []


def test_what_no_question_may_ask(lived: tuple[Store, Lives]) -> None:
    store, _ = lived
    day = date(2026, 1, 1)
    with store.connection() as connection:
        for until in (day, day - timedelta(days=1), day + timedelta(days=367)):
            with pytest.raises(InvalidPeriod):
                statistics.daily(connection, "merchant-1", day, until)
        for limit in (0, statistics.PAGE_LIMIT + 1):
            with pytest.raises(InvalidField):
                statistics.funnel(connection, "merchant-1", limit=limit)
        with pytest.raises(InvalidField):
            statistics.liability(connection, "merchant-1", date(1969, 12, 31))


# --- plans --------------------------------------------------------------------------------------------------

ROWS = """
insert into daily_statistics_v{daily}
select 'grown-' || b % 20, 'batch-' || b, date '2026-01-01' + d, 'claim', 'EUR', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
       0, 0, 0, 0, 0, 0, 0, 1 from generate_series(1, 200) b, generate_series(0, 99) d;
insert into customers_v{customers}
select 'grown-' || u % 20, 'user-' || u, 'EUR', true, now(), date '2026-01-01', 'o', 'batch-' || u % 200, 'online',
       'claim', true, now(), 1, 1, 1, 0, 0, 1 from generate_series(1, 20000) u;
analyze daily_statistics_v{daily}, customers_v{customers};
"""


@pytest.fixture(scope="module")
def grown(shared_database: Database, lived: object) -> dict[str, Any]:
    """Many rows in the models, for whose plans it does not matter what they say."""
    with psycopg.connect(shared_database.url) as connection:
        connection.execute(
            psycopg.sql.SQL("set search_path to {}").format(psycopg.sql.Identifier(shared_database.schema))
        )
        text = ROWS.format(daily=VERSIONS["daily_statistics"], customers=VERSIONS["customers"])
        connection.execute(text.encode())
    return {
        "merchant_id": "grown-3", "batch_id": "batch-3", "first": date(2026, 2, 1), "until": date(2026, 2, 8),
        "after_day": date(1970, 1, 1), "after_batch_id": "", "after_channel": "", "limit": 51, "campaign": None,
        "after": "", "at": date(2026, 3, 1), "user_id": "ann", "now": T0,
    }  # fmt: skip


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("daily", "daily_statistics_v{}_merchant_id_day_idx"),
        ("daily_of_batch", "daily_statistics_v{}_pkey"),
        ("funnel", "customers_v{}_first_batch_id_first_day_first_issued_as_opene_idx"),
    ],
)
def test_a_question_uses_its_index(name: str, index: str, grown: dict[str, Any], shared_database: Database) -> None:
    with shared_database.connect() as connection:
        row = connection.execute(
            psycopg.sql.SQL("explain (format json) ") + psycopg.sql.SQL(statistics.STATEMENTS[name]), grown
        ).fetchone()
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert index.format(VERSIONS[index.partition("_v{")[0]]) in used
    scanned = {node["Relation Name"].rpartition("_v")[0] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not scanned & {"daily_statistics", "customers"}
