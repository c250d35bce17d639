"""Every question uses the index that is there for it, on tables of some thousands of rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.database import Database
from ledger.events import CouponShared
from ledger.migrate import migrate
from ledger.store import Store
from projections import queries
from projections.runner import Runner

T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = f"test_plans_{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def grown(database_url: str) -> Iterator[tuple[Database, dict[str, Any]]]:
    """A ledger with 8,000 coupons in 8 batches, some locked, and parameters that fit it."""
    drop = f"drop schema if exists {SCHEMA}, {SCHEMA}_analytics cascade"
    with psycopg.connect(database_url, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute(drop)
        migrate(database_url, SCHEMA)
        database = Database(database_url, SCHEMA)
        ledger = Ledger(Store(database))
        parameters = _grow(ledger)
        Runner(database).catch_up()
        connection.execute(f"set search_path to {SCHEMA}")
        connection.execute("analyze events, coupon_status_v2, wallet_v2, batch_balance_v3, shared_coupons_v1")
        yield database, parameters
        ledger.close()
        connection.execute(drop)


def _grow(ledger: Ledger) -> dict[str, Any]:
    from tests.conftest import Shop

    shop = Shop(ledger)
    for days in range(1, 9):
        window = {"valid_from": T0 - days * DAY, "valid_until": T0 + days * DAY}
        batch_id = shop.batch(per_user_limit=None, quantity=10_000, valid_for_seconds=None, **window)
        users = [f"user-{number % 250}" for number in range(1_000)]
        issued = ledger.do(use_cases.issue(shop.request(at=T0), batch_id, users)).answer["coupons"]
        for row in issued[:20]:
            ids = [row["coupon_id"]]
            work = use_cases.lock(shop.request(at=T0), "order-1", user_id=row["user_id"], coupon_ids=ids)
            ledger.do(work)
        _share(ledger, issued[20:])
    return {
        "merchant_id": "merchant-1", "coupon_id": issued[0]["coupon_id"], "user_id": "user-7", "batch_id": batch_id,
        "now": T0 + DAY, "states": list(queries.STATES), "limit": 50, "after": "", "position": 1,
        "after_valid_until": T0, "after_lock_ends_at": T0, "after_coupon_id": "",
        "batch_states": ["RUNNING"], "of_batch_id": None, "ends_before": None,
    }  # fmt: skip


def _share(ledger: Ledger, coupons: list[dict[str, Any]]) -> None:
    """Every one of these just issued coupons has two friends."""
    events = [
        CouponShared(
            originator_id=f"coupon-{row['coupon_id']}",
            originator_version=2,
            merchant_id="merchant-1",
            actor="test",
            request_id="share",
            occurred_at=T0,
            batch_id=row["batch_id"],
            user_id=row["user_id"],
            with_user_ids=[f"friend-{number % 200}", f"friend-{number % 200 + 200}"],
        )
        for number, row in enumerate(coupons)
    ]
    with ledger.store.connection() as connection:
        [verdict] = commit_group(ledger.store, connection, [Unit(events)])
    assert verdict.word == "done"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("coupon", {"coupon_status_v2_pkey"}),
        ("wallet", {"wallet_v2_pkey", "shared_coupons_v1_pkey", "coupon_status_v2_pkey"}),
        ("templates", {"events_pkey"}),
        ("due", {"coupon_status_v2_valid_until_coupon_id_idx"}),
        ("ended_locks", {"coupon_status_v2_lock_ends_at_coupon_id_idx"}),
        (
            "balance",
            {"coupon_status_v2_batch_id_valid_from_valid_until_idx", "coupon_status_v2_lock_ends_at_coupon_id_idx"},
        ),
    ],
)
def test_a_question_uses_its_index(grown: tuple[Database, dict[str, Any]], name: str, indexes: set[str]) -> None:
    database, parameters = grown
    with database.connect() as connection:
        row = connection.execute(
            psycopg.sql.SQL("explain (format json) ") + psycopg.sql.SQL(queries.STATEMENTS[name]), parameters
        ).fetchone()
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    assert {node["Index Name"] for node in nodes if "Index Name" in node} >= indexes
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not scanned & {"coupon_status_v2", "wallet_v2", "shared_coupons_v1", "events"}
    if name in ("due", "ended_locks"):
        assert not [node for node in nodes if node["Node Type"] == "Sort"], "the index gives the order"
        assert not [node for node in nodes if "Filter" in node], "the index gives the rows"


def test_the_effective_state_is_no_function_call_when_it_runs(grown: tuple[Database, dict[str, Any]]) -> None:
    database, parameters = grown
    with database.connect() as connection:
        lines = connection.execute(
            psycopg.sql.SQL("explain (verbose) ") + psycopg.sql.SQL(queries.STATEMENTS["wallet"]), parameters
        ).fetchall()
    plan = "\n".join(line for (line,) in lines)
    assert "CASE" in plan
    assert "effective_state(" not in plan
