"""A log made inside the server is one that the ledger could have written."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from benchmarks import stored
from benchmarks.stored import store_events
from ledger import use_cases
from ledger.aggregate import coupon_id
from ledger.application import Ledger
from ledger.errors import CouponNotFound, SoldOut, UserLimitReached
from ledger.events import CouponIssued
from ledger.request import Request

COUNT = 1_000


@pytest.fixture
def log(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The whole log, of several batches, whose keys were built at the end."""
    monkeypatch.setattr(stored, "BATCH_COUPONS", 300)
    monkeypatch.setattr(stored, "INDEXED_AFTER", 500)
    store_events(ledger.store.database.url, ledger.store.database.schema, COUNT)
    with ledger.store.connection() as connection:
        return list(ledger.store.read(connection, 0, 2 * COUNT))


def rows(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    """What the owner sees."""
    database = ledger.store.database
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        return connection.execute(query.encode()).fetchall()


def test_positions_have_no_holes_and_guards_say_what_the_log_says(ledger: Ledger, log: list[Any]) -> None:
    assert [recorded.position for recorded in log] == list(range(1, COUNT + 1))
    issued = [recorded for recorded in log if isinstance(recorded.event, CouponIssued)]
    assert len({recorded.event.originator_id for recorded in issued}) == len(issued)

    stock = dict(rows(ledger, "select batch_id, issued from batch_stock where issued = quantity"))
    assert len(stock) == 4
    for batch_id, count in stock.items():
        assert sum(recorded.event.batch_id == batch_id for recorded in issued) == count

    quotas = rows(ledger, "select batch_id, user_id, issued from user_quota")
    assert sorted(quotas) == sorted((recorded.event.batch_id, recorded.event.user_id, 1) for recorded in issued)

    answered = dict(rows(ledger, "select request_id, position from requests"))
    assert all(answered[recorded.event.request_id] == recorded.position for recorded in issued)
    assert len(answered) == len(issued) + 1 + 2 * len(stock)


def test_keys_are_as_the_migrations_made_them(ledger: Ledger, log: list[Any]) -> None:
    keys = rows(
        ledger,
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
        " where contype = 'p' and conrelid::regclass::text in ('events', 'user_quota', 'requests') order by 1",
    )
    assert keys == [
        ("events", "events_pkey", "PRIMARY KEY (originator_id, originator_version)"),
        ("requests", "requests_pkey", "PRIMARY KEY (merchant_id, request_id)"),
        ("user_quota", "user_quota_pkey", "PRIMARY KEY (batch_id, user_id)"),
    ]


def test_the_ledger_goes_on_with_such_a_coupon(ledger: Ledger, log: list[Any]) -> None:
    event = log[-1].event
    id = event.originator_id.removeprefix("coupon-")
    assert id == coupon_id(event.batch_id, event.request_id, 0)
    again = Request(event.merchant_id, "bench", event.request_id, "digest")
    receipt = ledger.do(use_cases.claim(again, event.batch_id, event.user_id))
    assert (receipt.replayed, receipt.position, receipt.answer["coupon_id"]) == (True, COUNT, id)
    assert receipt.answer["user_id"] == event.user_id

    lock = use_cases.lock(
        Request(event.merchant_id, "bench", "lock"), "order-1", user_id=event.user_id, coupon_ids=[id]
    )
    assert ledger.do(lock).position == COUNT + 1
    with pytest.raises((SoldOut, UserLimitReached)):
        ledger.do(use_cases.claim(Request(event.merchant_id, "bench", "more"), event.batch_id, event.user_id))
    with pytest.raises(CouponNotFound):
        ledger.do(use_cases.void(Request("another", "bench", "void"), id, reason="test"))


def test_a_log_grows_to_exactly_so_many_or_not_at_all(ledger: Ledger) -> None:
    database = ledger.store.database
    store_events(database.url, database.schema, 4)
    store_events(database.url, database.schema, 57)
    assert ledger.store.head() == 57
    with pytest.raises(ValueError, match="57 events already"):
        store_events(database.url, database.schema, 58)
