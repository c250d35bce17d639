"""Which coupons a user ever had: by the wallets, and by the log where they are behind, stopped or were made to skip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.errors import NotCaughtUp
from projections import faults, timelines
from projections.models.wallet import Wallet
from projections.runner import Runner
from tests.conftest import Shop
from tests.postgres.test_projections_runner import owner
from tests.unit.specs import TERMS


@pytest.fixture
def batch_id(shop: Shop) -> str:
    return shop.batch(terms=replace(TERMS, transferable=True, shareable=True), per_user_limit=None)


@pytest.fixture
def coupons_of(ledger: Ledger) -> Any:
    def coupons_of(user_id: str, position: int | None = None, merchant_id: str = "merchant-1", **page: Any) -> set[str]:
        end = ledger.store.head() if position is None else position
        with ledger.store.connection() as connection:
            found = timelines.user_streams(connection, merchant_id, user_id, end, **page)
            if position is None and not page:
                events = timelines.user_page(ledger.store, connection, merchant_id, user_id, 0, 1_000)
                assert {event.event.originator_id for event in events} == set(found)
        assert found == sorted(found)
        return {stream.removeprefix("coupon-") for stream in found}

    return coupons_of


def test_what_the_wallets_lack_the_log_has(
    shop: Shop, ledger: Ledger, database: Database, batch_id: str, coupons_of: Any
) -> None:
    """Issued, given away and shared before the wallets stood still, and after."""
    folded, passed = shop.coupon(batch_id=batch_id), shop.coupon(batch_id=batch_id)
    Runner(database).catch_up()
    behind = ledger.store.head()
    new = shop.coupon(batch_id=batch_id)
    issued = ledger.store.head()
    ledger.do(use_cases.transfer(shop.request(), passed, user_id="user-1", to_user_id="user-2"))
    given = ledger.store.head()
    ledger.do(use_cases.transfer(shop.request(), passed, user_id="user-2", to_user_id="user-3"))
    ledger.do(use_cases.share(shop.request(), new, user_id="user-1", with_user_ids=["user-4"]))
    stranger = Shop(ledger, "merchant-2")
    foreign = stranger.coupon()
    expected = {
        "user-1": {folded, passed, new},
        "user-2": {passed},
        "user-3": {passed},
        "user-4": {new},
        "user-5": set(),
    }
    for caught_up in (False, True):
        assert {user_id: coupons_of(user_id) for user_id in expected} == expected, caught_up
        assert coupons_of("user-1", merchant_id="merchant-2") == {foreign}
        if not caught_up:
            assert coupons_of("user-1", behind) == {folded, passed}
            assert coupons_of("user-1", issued) == {folded, passed, new}
            assert coupons_of("user-2", given) == {passed}
        first, *others = sorted(f"coupon-{each}" for each in expected["user-1"])
        assert coupons_of("user-1", limit=1) == {first.removeprefix("coupon-")}
        assert coupons_of("user-1", after=first) == {each.removeprefix("coupon-") for each in others}
        Runner(database).catch_up()


def test_an_event_that_the_wallets_were_made_to_skip_is_not_lost(
    shop: Shop, ledger: Ledger, database: Database, batch_id: str, coupons_of: Any
) -> None:
    pattern = ledger.store.history(f"coupon-{shop.coupon(batch_id=batch_id)}")[0].event
    Runner(database).catch_up()
    with database.connect() as connection:
        query = "select convert_from(state, 'utf8') from events where originator_id = %s"
        [(text,)] = connection.execute(query, (pattern.originator_id,)).fetchall()
    payload = orjson.loads(text)
    for stream, state in (
        ("coupon-00000001", orjson.dumps({**payload, "user_id": "user-7"})),
        ("coupon-00000002", b"no \x7f json"),
    ):
        skip(database, append_bytes(database, stream, state))
    Runner(database, [Wallet()]).catch_up()
    with database.connect() as connection:
        assert connection.execute("select from wallet where user_id = 'user-7'").rowcount == 0
    assert coupons_of("user-7") == {"00000001"}


def test_what_comes_while_a_page_is_read_is_on_the_next(
    shop: Shop, ledger: Ledger, database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another coupon, and then an event of the first: a page with that one alone would pass over the other."""
    first = shop.coupon(batch_id=batch_id)
    Runner(database).catch_up()
    look = timelines._unfolded

    def looked(*asked: Any) -> list[str]:
        found = look(*asked)
        monkeypatch.undo()
        shop.coupon(batch_id=batch_id)
        ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[first]))
        return found

    monkeypatch.setattr(timelines, "_unfolded", looked)
    topics: list[str] = []
    after = 0
    with ledger.store.connection() as connection:
        while page := timelines.user_page(ledger.store, connection, "merchant-1", "user-1", after, 10):
            topics += [recorded.event.TOPIC for recorded in page]
            after = page[-1].position
    assert topics == ["coupon.issued", "coupon.issued", "coupon.locked"]


UNREADABLE = {
    "no UTF-8": b'{"merchant_id": "merchant-2", "user_id": "\xff"}',
    "a text that jsonb has not": b'{"merchant_id": "merchant-2", "user_id": "\\u0000"}',
    "a number that jsonb has not": b'{"merchant_id": "merchant-2", "user_id": 1e999999}',
    "nested too deep": b"[" * 100_000 + b"]" * 100_000,
    "no object": b'["merchant-1", "user-1"]',
    "nothing": b"",
}


@pytest.mark.parametrize("state", UNREADABLE.values(), ids=UNREADABLE)
def test_an_event_that_cannot_be_read_hides_nothing_of_others(
    shop: Shop, ledger: Ledger, database: Database, batch_id: str, coupons_of: Any, state: bytes
) -> None:
    """Of another merchant's coupon, say. Before the wallets were made to skip it, and after."""
    first = shop.coupon(batch_id=batch_id)
    Runner(database).catch_up()
    position = append_bytes(database, "coupon-00000001", state)
    second = shop.coupon(batch_id=batch_id)
    assert coupons_of("user-1") == {first, second}
    skip(database, position)
    assert coupons_of("user-1") == {first, second}
    Runner(database, [Wallet()]).catch_up()
    assert coupons_of("user-1") == {first, second}
    assert coupons_of("user-2") == set()


def append_bytes(database: Database, stream: str, state: bytes) -> int:
    """The issue of a coupon as no use case writes it; its position."""
    with owner(database) as connection:
        row = connection.execute(
            "insert into events (originator_id, originator_version, topic, state, notification_id)"
            " select %s, 1, 'coupon.issued', %s, max(notification_id) + 1 from events returning notification_id",
            (stream, state),
        ).fetchone()
        assert row is not None
        return int(row[0])


def skip(database: Database, position: int) -> None:
    """Make the wallets pass over it, as if they were of a release that cannot fold it."""
    with owner(database) as connection:
        connection.execute("update projection_checkpoints set state = 'FAULTED', fault = 'test'")
    faults.skip(database, "wallet", reason="a test", actor="cli:ann", position=position)


def test_wallets_that_are_far_behind_are_not_asked(
    shop: Shop, ledger: Ledger, database: Database, batch_id: str, coupons_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon_id = shop.coupon(batch_id=batch_id)
    Runner(database).catch_up()
    folded = ledger.store.head()
    monkeypatch.setattr(timelines, "BEHIND_LIMIT", 2)
    for _ in range(2):
        shop.coupon("user-2", batch_id)
    assert coupons_of("user-1") == {coupon_id}
    shop.coupon("user-2", batch_id)
    with pytest.raises(NotCaughtUp) as caught:
        coupons_of("user-1")
    assert caught.value.facts == {"position": folded + 3}
    assert coupons_of("user-1", folded + 2) == {coupon_id}
    with ledger.store.connection() as connection, pytest.raises(NotCaughtUp):
        timelines.user_page(ledger.store, connection, "merchant-1", "user-1", 0, 10)
