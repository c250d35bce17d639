"""The store: streams, earlier answers and the clock in one look; and what it does when a row or the server is wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import store as store_module
from ledger import use_cases
from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.coupon import Coupon
from ledger.database import Database
from ledger.errors import ForeignEvent, Unavailable
from ledger.migrate import migrate
from ledger.store import Store
from ledger.work import fold
from tests.conftest import Shop, drop_ledger
from tests.postgres.tools import whole_log
from tests.unit.specs import issued


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store(database, pool_size=2)
    yield store
    store.close()


def write(store: Store, *units: Unit) -> None:
    with store.connection() as connection:
        assert {verdict.word for verdict in commit_group(store, connection, units)} == {"done"}


def database_clock(store: Store) -> datetime:
    with store.connection() as connection:
        row = connection.execute("select clock_timestamp() as now").fetchone()
        assert row is not None
        return row["now"].astimezone(UTC)


def test_an_empty_log(database: Database) -> None:
    store = Store(database)
    assert store.head() == 0
    assert whole_log(store) == []
    assert store.history("coupon-nowhere") == []
    snapshot = store.load(["coupon-nowhere"], [("m", "r")])
    assert (snapshot.streams, snapshot.answered) == ({"coupon-nowhere": []}, {})
    store.close()


def test_a_look_at_streams_and_answers(ledger: Ledger, shop: Shop) -> None:
    coupons = [shop.coupon(), shop.coupon()]
    for coupon_id in coupons:
        lock = use_cases.lock(shop.request(f"lock {coupon_id}"), "o", user_id="user-1", coupon_ids=[coupon_id])
        receipt = ledger.do(lock)
    streams = [f"coupon-{id}" for id in coupons]
    keys = [(shop.merchant_id, f"lock {id}") for id in coupons] + [("other", f"lock {coupons[0]}")]
    snapshot = ledger.store.load([*streams, "coupon-x"], keys)
    assert [[event.originator_version for event in snapshot.streams[stream]] for stream in streams] == [[1, 2], [1, 2]]
    assert set(snapshot.answered) == set(keys[:2])
    answered = snapshot.answered[keys[1]]
    assert (answered.answer, answered.position, answered.body_hash) == (receipt.answer, receipt.position, "")


def test_events_come_back_as_they_were_written(store: Store) -> None:
    events = [issued(coupon="a").event(1), issued(coupon="b", user_id="ü 😀").event(1)]
    write(store, Unit(events))
    assert [entry.event for entry in whole_log(store)] == events
    assert [entry.position for entry in whole_log(store)] == [1, 2]
    assert store.load(["coupon-b"]).streams["coupon-b"] == events[1:]
    assert store.history("coupon-a")[0].event == events[0]
    before = store.history("coupon-a")[0].recorded_at
    assert before.tzinfo is UTC
    assert database_clock(store) - timedelta(minutes=1) < before <= database_clock(store)


def test_the_log_is_read_in_pages(store: Store) -> None:
    write(store, Unit([issued(coupon=str(n)).event(1) for n in range(10)]))
    seen: list[int] = []
    with store.connection() as connection:
        while page := list(store.read(connection, seen[-1] if seen else 0, 3)):
            assert len(page) <= 3
            seen += [entry.position for entry in page]
    assert seen == list(range(1, 11))
    recorded = [entry.recorded_at for entry in whole_log(store)]
    assert recorded == sorted(recorded)


# --- the clock --------------------------------------------------------------------------------------------


def test_now_is_the_database_clock_carried_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    elapsed = 100.0
    monkeypatch.setattr(store_module, "time", SimpleNamespace(monotonic=lambda: elapsed))
    before = database_clock(store)
    first = store.now()
    assert before <= first <= database_clock(store)
    elapsed += 0.5
    assert store.now() == first + timedelta(seconds=0.5)
    elapsed += 30
    asked = database_clock(store)
    assert asked <= store.now() <= database_clock(store)


def test_now_comes_from_the_callers_connection(store: Store) -> None:
    with store.database.connect() as connection:
        before = database_clock(store)
        assert before <= store.now(connection) <= database_clock(store)


# --- rows that should not be there --------------------------------------------------------------------------


def intrude(database: Database, stream: str, version: int, topic: str, state: bytes) -> None:
    """Write a row as the owner, past all our code."""
    with psycopg.connect(database.url) as connection:
        connection.execute(
            sql.SQL("insert into {} select %s, %s, %s, %s, coalesce(max(notification_id), 0) + 1 from {}").format(
                *[sql.Identifier(database.schema, "events")] * 2
            ),
            (stream, version, topic, state),
        )


def test_a_foreign_topic_is_refused_wherever_it_is_read(store: Store) -> None:
    write(store, Unit([issued(coupon="a").event(1)]))
    intrude(store.database, "coupon-b", 1, "os:system", b'{"command": "true"}')
    for read in (
        lambda: store.load(["coupon-a", "coupon-b"]),
        lambda: store.history("coupon-b"),
        lambda: whole_log(store),
    ):
        with pytest.raises(ForeignEvent, match="os:system"):
            read()
    assert len(store.load(["coupon-a"]).streams["coupon-a"]) == 1


def test_a_hole_in_a_stream_is_not_folded_over(store: Store) -> None:
    write(store, Unit([issued(coupon="a").event(1)]))
    state = (
        b'{"merchant_id": "m", "actor": "a", "request_id": "r", "occurred_at": "2026-01-01T00:00:00Z", "reason": "r"}'
    )
    intrude(store.database, "coupon-a", 3, "coupon.voided", state)
    with pytest.raises(ValueError, match="coupon-a v3 does not follow coupon-a v1"):
        fold(Coupon("coupon-a"), store.load(["coupon-a"]).streams["coupon-a"])


# --- connections ----------------------------------------------------------------------------------------------


def test_sessions_take_the_role_the_schema_and_the_bounds(store: Store) -> None:
    with store.connection() as connection:
        row = connection.execute(
            "select current_user as role, current_schema() as schema, current_setting('timezone') as zone,"
            " current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock"
        ).fetchone()
    assert row == {
        "role": "coupon_ledger_app",
        "schema": store.database.schema,
        "zone": "UTC",
        "statement": "30s",
        "lock": "2s",
    }


@pytest.mark.parametrize("name", ["Shop A", 'quo"te', "back\\slash", "a,b", "comma, and 'quotes'", "Ünï-😀"])
def test_a_ledger_may_have_any_name(name: str, database_url: str) -> None:
    schema = f"{name}_{uuid.uuid4().hex[:6]}"
    migrate(database_url, schema)
    try:
        ledger = Ledger(Store(Database(database_url, schema)))
        Shop(ledger).coupon()
        assert ledger.store.head() == 4
        ledger.close()
    finally:
        drop_ledger(database_url, schema)


def test_a_name_leaves_room_for_the_channel_of_its_followers(database_url: str) -> None:
    assert Database(database_url, "s" * 56).schema
    for name in ("s" * 57, "ü" * 29, ""):
        with pytest.raises(ValueError, match="1 to 56 bytes"):
            Database(database_url, name)


def test_a_pool_with_no_connection_to_spare_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "POOL_WAIT_SECONDS", 0.2)
    store = Store(database, pool_size=2)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(store.connection())
        with pytest.raises(Unavailable):
            store.load(["coupon-a"])
    assert store.load(["coupon-a"]).streams == {"coupon-a": []}
    store.close()


def test_a_server_that_is_not_there(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "POOL_WAIT_SECONDS", 0.2)
    store = Store(replace(database, url="host=127.0.0.1 port=1 user=nobody dbname=nothing"))
    with pytest.raises(Unavailable):
        store.load(["coupon-a"])
    store.close()


def test_a_statement_that_takes_too_long_is_unavailable_and_a_wrong_one_is_not(store: Store) -> None:
    with pytest.raises(Unavailable, match="statement timeout"), store.connection() as connection:
        connection.execute("set statement_timeout = '20ms'; select pg_sleep(1)")
    with pytest.raises(psycopg.errors.UndefinedTable), store.connection() as connection:
        connection.execute("select * from nowhere")
    for _ in range(3):
        assert store.head() == 0


def test_a_value_that_the_server_cannot_hold_breaks_nothing(store: Store) -> None:
    with pytest.raises(psycopg.DataError):
        store.load(["coupon-a\x00"])
    assert store.load(["coupon-a\nb", "a\u2028"]).streams == {"coupon-a\nb": [], "a\u2028": []}


def test_a_view_shows_the_log_to_people(ledger: Ledger, shop: Shop) -> None:
    coupon_id = shop.coupon()
    with ledger.store.connection() as connection:
        row: Any = connection.execute(
            "select stream, version, topic, payload->>'user_id' as user_id"
            " from event_log order by position desc limit 1"
        ).fetchone()
    assert row == {"stream": f"coupon-{coupon_id}", "version": 1, "topic": "coupon.issued", "user_id": "user-1"}


def test_the_librarys_recorder_reads_the_log_as_its_own(ledger: Ledger, shop: Any) -> None:
    """Whatever is built on the library, its projections and its tools, finds our events."""
    coupon_id = shop.coupon()
    store = ledger.store
    [stored] = store.recorder.select_events(f"coupon-{coupon_id}")
    assert store.mapper.to_domain_event(stored) == store.history(f"coupon-{coupon_id}")[0].event
    positions = [notification.id for notification in store.recorder.select_notifications(start=1, limit=100)]
    assert positions == list(range(1, store.head() + 1))
    assert store.recorder.max_notification_id() == store.head()
