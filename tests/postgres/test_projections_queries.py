"""What callers ask of the read models: pages, filters, sweeps, waiting, and where each projection stands."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import use_cases
from ledger.commit import commit_group
from ledger.database import Database
from ledger.errors import InvalidField
from projections import checkpoints, queries
from projections.catalogue import PROJECTIONS
from projections.runner import Runner
from tests.unit.specs import TERMS

T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TOGETHER = replace(TERMS, stacking_mode="stackable")


@pytest.fixture
def coupons(shop: Any) -> list[str]:
    """Twenty coupons of user-1, by expiry, some of which expire together."""
    ids = []
    for days in (9, 5, 7, 3, 5):
        window = {"valid_from": T0, "valid_until": T0 + days * DAY}
        batch_id = shop.batch(terms=TOGETHER, per_user_limit=None, valid_for_seconds=None, **window)
        work = use_cases.issue(shop.request(at=T0), batch_id, ["user-1"] * 4)
        ids += [(row["valid_until"], row["coupon_id"]) for row in shop.ledger.do(work).answer["coupons"]]
    return [id for _, id in sorted(ids)]


def test_a_wallet_is_read_page_by_page(shop: Any, database: Database, coupons: list[str]) -> None:
    Runner(database).catch_up()
    with database.connect() as connection:
        for limit in (1, 3, 19, 20, 200):
            seen: list[str] = []
            cursor: tuple[datetime, str] | None = queries.START
            while cursor is not None:
                page = queries.wallet(connection, "merchant-1", "user-1", T0, after=cursor, limit=limit)
                assert len(page.coupons) <= limit
                seen += [row.coupon_id for row in page.coupons]
                cursor = page.next
            assert seen == coupons


def test_pages_hold_while_the_wallet_changes(shop: Any, database: Database, coupons: list[str]) -> None:
    """Coupons that come, go or change state meanwhile make no other coupon appear twice or vanish."""
    runner = Runner(database)
    runner.catch_up()
    seen: list[str] = []
    cursor: tuple[datetime, str] | None = queries.START
    with database.connect() as connection:
        for number in range(20):
            if cursor is None:
                break
            page = queries.wallet(connection, "merchant-1", "user-1", T0, after=cursor, limit=4)
            seen += [row.coupon_id for row in page.coupons]
            cursor = page.next
            shop.ledger.do(use_cases.void(shop.request(at=T0), coupons[number], reason="mistake"))
            lock = use_cases.lock(
                shop.request(at=T0), f"order-{number}", user_id="user-1", coupon_ids=[coupons[-1 - number]]
            )
            shop.ledger.do(lock)
            shop.coupon("user-1")
            runner.catch_up()
    assert [id for id in seen if id in set(coupons)] == coupons
    assert len(seen) == len(set(seen))


def test_a_wallet_is_filtered_by_what_the_clock_says(shop: Any, database: Database, coupons: list[str]) -> None:
    shop.ledger.do(
        use_cases.lock(shop.request(at=T0), "order-1", user_id="user-1", coupon_ids=coupons[:2], ttl_seconds=60)
    )
    Runner(database).catch_up()

    def ids(now: datetime, *states: str) -> list[str]:
        with database.connect() as connection:
            page = queries.wallet(connection, "merchant-1", "user-1", now, states=states)
            assert {row.state for row in page.coupons} <= set(states)
            return [row.coupon_id for row in page.coupons]

    second = timedelta(seconds=1)
    assert ids(T0 - second, "PENDING") == coupons[2:]
    assert ids(T0, "UNUSED") == coupons[2:]
    assert ids(T0, "LOCKED") == coupons[:2]
    assert ids(T0 + 60 * second, "LOCKED") == []
    assert ids(T0 + 60 * second, "UNUSED") == coupons
    assert ids(T0 + 3 * DAY, "EXPIRED") == coupons[:4]
    assert ids(T0 + 3 * DAY, "UNUSED", "EXPIRED") == coupons
    assert ids(T0 + 9 * DAY, "EXPIRED") == coupons
    assert ids(T0, "USED", "VOIDED") == []


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_page_has_bounds(database: Database, limit: int) -> None:
    with database.connect() as connection, pytest.raises(InvalidField):
        queries.wallet(connection, "merchant-1", "user-1", T0, limit=limit)


def test_an_unknown_state_is_refused(database: Database) -> None:
    with database.connect() as connection, pytest.raises(InvalidField):
        queries.wallet(connection, "merchant-1", "user-1", T0, states=["HAPPY"])


def test_a_sweep_writes_down_every_expiry_once(shop: Any, database: Database, coupons: list[str]) -> None:
    """Page by page, with the runner folding what the sweep writes while it goes on."""
    runner = Runner(database)
    runner.catch_up()
    shop.ledger.do(
        use_cases.lock(shop.request(at=T0), "order-1", user_id="user-1", coupon_ids=coupons[:2], ttl_seconds=60)
    )
    runner.catch_up()
    now = T0 + 6 * DAY
    swept: list[str] = []
    cursor = queries.START
    with database.connect() as connection:
        while page := queries.due(connection, now, after=cursor, limit=3):
            cursor = (page[-1].valid_until, page[-1].coupon_id)
            for row in page:
                assert row.merchant_id == "merchant-1"
                unit = use_cases.expired_unit(
                    shop.request(),
                    row.coupon_id,
                    version=row.version,
                    batch_id=row.batch_id,
                    user_id=row.user_id,
                    valid_until=row.valid_until,
                )
                with shop.ledger.store.connection() as writer:
                    [verdict] = commit_group(shop.ledger.store, writer, [unit])
                assert verdict.word == "done"
                swept.append(row.coupon_id)
            runner.catch_up()
        assert swept == coupons[2:12]
        assert queries.due(connection, now) == []

        ended = queries.ended_locks(connection, now)
        assert [row.coupon_id for row in ended] == sorted(coupons[:2])
        assert queries.ended_locks(connection, T0 + timedelta(seconds=59)) == []
        rest = queries.ended_locks(connection, now, after=(ended[0].lock_ends_at, ended[0].coupon_id), limit=1)
        assert rest == ended[1:]
        for row in ended:
            assert (row.order_id, row.valid_until) == ("order-1", T0 + 3 * DAY)
            shop.ledger.do(use_cases.expire(shop.request(at=now), row.coupon_id))
        runner.catch_up()
        assert queries.ended_locks(connection, now) == []
        states = [row.state for row in queries.wallet(connection, "merchant-1", "user-1", T0).coupons]
        assert states == ["EXPIRED"] * 12 + ["UNUSED"] * 8


def test_balances_are_read_page_by_page(shop: Any, database: Database) -> None:
    ids = sorted(shop.batch() for _ in range(7))
    shop.batch(start=False)
    Runner(database).catch_up()
    with database.connect() as connection:
        every = queries.balances(connection, "merchant-1")
        first = queries.balances(connection, "merchant-1", limit=5)
        assert first == every[:5]
        assert queries.balances(connection, "merchant-1", after=first[-1].batch_id) == every[5:]
    assert sorted(row.batch_id for row in every if row.state == "RUNNING") == ids
    assert [row.state for row in every if row.batch_id not in ids] == ["DRAFT"]


def test_status_tells_the_lag(shop: Any, database: Database) -> None:
    Runner(database).catch_up()
    shop.coupon("user-1")
    Runner(database, [PROJECTIONS[0]]).catch_up()
    head = shop.ledger.store.head()
    with database.connect() as connection:
        rows = {row.name: row for row in queries.status(connection)}
    assert (rows["coupon_status"].position, rows["coupon_status"].lag_events) == (head, 0)
    assert rows["coupon_status"].lag_seconds == 0
    assert (rows["wallet"].position, rows["wallet"].lag_events) == (0, head)
    assert 0 < rows["wallet"].lag_seconds < 60
    assert {row.state for row in rows.values()} == {"RUNNING"}


def test_installing_twice_changes_nothing(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    head = Runner(database).catch_up()
    threads = [threading.Thread(target=checkpoints.install, args=(database, PROJECTIONS)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    with database.connect() as connection:
        assert {row.position for row in queries.status(connection)} == {head}
