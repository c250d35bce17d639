"""Every step that a coupon can take, in random order, folded in chunks of every size: the rows are the aggregates'."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

import pytest
from psycopg.rows import dict_row

from ledger import events
from ledger.database import Database
from projections import queries
from projections.catalogue import PROJECTIONS
from projections.models.moves import COUPON_EVENTS
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.postgres.lives import T0, USERS, Life, Lives


def check(lives: Lives, database: Database) -> None:
    with database.connect(row_factory=dict_row) as connection:
        status = {row["coupon_id"]: row for row in connection.execute("select * from coupon_status")}
        wallet = {row["coupon_id"]: row for row in connection.execute("select * from wallet")}
        friends = {(row["coupon_id"], row["user_id"]) for row in connection.execute("select * from shared_coupons")}
        balance = queries.balance(connection, "merchant-1", lives.batch_id, T0)
    assert status.keys() == wallet.keys() == {life.coupon.key for life in lives.all}
    assert friends == {(life.coupon.key, friend) for life in lives.all for friend in life.coupon.shared_with}
    for life in lives.all:
        coupon = life.coupon
        expected = {
            "user_id": coupon.user_id,
            "state": life.stored_state,
            "valid_until": coupon.valid_until,
            "order_id": coupon.used_order_id or coupon.order_id,
            "holder_id": life.holder_id,
            "lock_ends_at": coupon.lock_ends_at,
            "discount_minor": coupon.discount_minor,
            "balance_minor": coupon.balance_minor,
            "version": coupon.version,
        }
        for row in (status[coupon.key], wallet[coupon.key]):
            assert {name: row[name] for name in expected} == expected
        assert status[coupon.key]["lock_id"] == coupon.lock_id
        assert status[coupon.key]["redemption_id"] == coupon.redemption_id
    assert balance.issued == len(lives.all)


def check_money(lives: Lives, database: Database) -> None:
    with database.connect() as connection:
        log = [recorded.event for recorded in lives.store.read(connection, 0, 100_000)]
        balance = queries.balance(connection, "merchant-1", lives.batch_id, T0)
    spent = [e.discount_minor for e in log if isinstance(e, events.CouponUsed | events.CouponDebited)]
    given_back = [e.returned_minor for e in log if isinstance(e, events.CouponReturned)]
    credited = [e.credited_minor for e in log if isinstance(e, events.CouponCredited)]
    assert balance.discount_minor == sum(spent)
    assert balance.returned_minor == sum(given_back) + sum(credited)
    assert balance.returned == len(given_back) + len(credited)
    assert {type(event) for event in log} >= set(COUPON_EVENTS)


@pytest.mark.parametrize("chunk_events", [1, 2, 7, 5_000])
def test_rows_equal_the_aggregates_after_any_steps(shop: Any, database: Database, chunk_events: int) -> None:
    lives = Lives(shop, chunk_events)
    runner = Runner(database, chunk_events=chunk_events)
    for _ in range(6):
        lives.go_on(steps=50)
        runner.catch_up()
        check(lives, database)
    check_money(lives, database)
    for projection in PROJECTIONS:
        assert rebuild(database, projection).same is True


def life_of_ann(shop: Any, number: int = 1) -> Life:
    return Life(random.Random(number), shop.batch(), number, "ann")


def test_a_coupon_given_away_leaves_one_wallet_for_the_other(shop: Any, database: Database) -> None:
    """Issued, shared, given away and locked in one chunk; then given away twice in another."""
    life = life_of_ann(shop)

    def in_wallets() -> dict[str, list[str]]:
        life.store(shop)
        Runner(database).catch_up()
        with database.connect() as connection:
            pages = {user_id: queries.wallet(connection, "merchant-1", user_id, T0) for user_id in USERS}
        return {user_id: [row.coupon_id for row in page.coupons] for user_id, page in pages.items()}

    life.share("bob", "dee")
    life.transfer()
    life.lock()
    assert life.coupon.user_id != "ann"
    assert in_wallets() == {user_id: [life.coupon.key] if user_id == life.coupon.user_id else [] for user_id in USERS}
    life.unlock()
    life.transfer()
    life.transfer()
    assert in_wallets() == {user_id: [life.coupon.key] if user_id == life.coupon.user_id else [] for user_id in USERS}


def test_a_shared_coupon_is_in_the_wallets_of_friends(shop: Any, database: Database) -> None:
    life = life_of_ann(shop)

    def seen(user_id: str, merchant_id: str = "merchant-1") -> list[tuple[str, str | None, str | None]]:
        with database.connect() as connection:
            page = queries.wallet(connection, merchant_id, user_id, T0)
        return [(row.state, row.shared_by, row.holder_id) for row in page.coupons]

    life.share("bob", "dee")
    life.store(shop)
    Runner(database).catch_up()
    assert {user_id: seen(user_id) for user_id in USERS} == {
        "ann": [("UNUSED", None, None)],
        "bob": [("UNUSED", "ann", None)],
        "cy\\d": [],
        "dee": [("UNUSED", "ann", None)],
    }
    assert seen("bob", "merchant-2") == []

    life.lock("bob")  # the first who locks it holds it, and everybody sees who that is
    life.store(shop)
    Runner(database).catch_up()
    assert [seen(user_id) for user_id in ("ann", "bob", "dee")] == [
        [("LOCKED", None, "bob")],
        [("LOCKED", "ann", "bob")],
        [("LOCKED", "ann", "bob")],
    ]

    life.unlock()
    life.share_no_more()
    life.store(shop)
    Runner(database).catch_up()
    assert [seen(user_id) for user_id in ("ann", "bob", "dee")] == [[("UNUSED", None, None)], [], []]


def test_a_page_holds_own_and_shared_coupons_in_one_order(shop: Any, database: Database) -> None:
    lives = [Life(random.Random(0), shop.batch(), number, "bob" if number % 3 else "ann") for number in range(12)]
    for number, life in enumerate(lives):
        for _ in range(number * 5 % 12):
            life.extend()
        if life.coupon.user_id == "ann":
            life.share("bob")
        life.store(shop)
    Runner(database).catch_up()
    expected = [life.coupon.key for life in sorted(lives, key=lambda life: life.coupon.valid_until)]
    seen: list[str] = []
    cursor: tuple[datetime, str] | None = queries.START
    with database.connect() as connection:
        while cursor is not None:
            page = queries.wallet(connection, "merchant-1", "bob", T0, after=cursor, limit=5)
            seen += [row.coupon_id for row in page.coupons]
            cursor = page.next
    assert seen == expected
