"""The read model of alerts: each crossing once, at the event that crossed, however the log is cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import use_cases
from ledger.alerts import Alerts
from ledger.benefit import Benefit
from ledger.database import Database
from ledger.terms import Terms
from projections.catalogue import PROJECTIONS
from projections.models.alerts import Meter, _claims
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.unit.specs import issued

[MODEL] = [projection for projection in PROJECTIONS if projection.name == "alerts"]


class Batch:
    """A batch with alerts, and the crossings that are on record."""

    def __init__(self, shop: Any, database: Database, alerts: Alerts, **plan: Any) -> None:
        self.shop, self.database = shop, database
        terms = Terms(benefit=Benefit(kind="amount_off", value_minor=100), currency="EUR")
        self.id = shop.batch(terms=terms, alerts=alerts, **{"quantity": 10, "per_user_limit": None} | plan)

    def issue(self, count: int) -> list[int]:
        """The positions of the events."""
        work = use_cases.issue(self.shop.request(), self.id, ["ann"] * count)
        last = self.shop.ledger.do(work).position
        return list(range(last - count + 1, last + 1))

    def quantity(self, expected: int, target: int) -> int:
        work = use_cases.change_quantity(self.shop.request(), self.id, expected=expected, target=target)
        position: int = self.shop.ledger.do(work).position
        return position

    def budget(self, expected: int, target: int) -> int:
        work = use_cases.change_budget(self.shop.request(), self.id, expected_minor=expected, target_minor=target)
        position: int = self.shop.ledger.do(work).position
        return position

    def crossings(self, chunk_events: int = 5_000) -> list[Any]:
        Runner(self.database, [MODEL], chunk_events=chunk_events).catch_up()
        with self.database.connect() as connection:
            query = "select kind, number, position, facts from alerts where batch_id = %s order by position, kind"
            return connection.execute(query, (self.id,)).fetchall()


def test_stock_is_told_once_at_the_very_event(shop: Any, database: Database) -> None:
    batch = Batch(shop, database, Alerts(stock_below=4))
    batch.issue(6)
    assert batch.crossings() == []
    position = batch.issue(1)[0]
    batch.issue(3)
    facts = {"threshold": 4, "level": 7, "capacity": 10}
    assert batch.crossings() == [("stock_below", 1, position, facts)]


def test_a_larger_quantity_arms_it_again(shop: Any, database: Database) -> None:
    batch = Batch(shop, database, Alerts(stock_below=4))
    first = batch.issue(8)[6]
    batch.quantity(10, 11)  # still below
    batch.quantity(11, 12)
    assert [row[:3] for row in batch.crossings()] == [("stock_below", 1, first)]
    second = batch.issue(1)[0]
    assert [row[2] for row in batch.crossings()] == [first, second]
    batch.quantity(12, 20)
    third = batch.quantity(20, 10)  # a smaller quantity crosses too
    assert [row[1:3] for row in batch.crossings()] == [(1, first), (2, second), (3, third)]


def test_a_batch_that_begins_below_is_told_of_when_it_was_above(shop: Any, database: Database) -> None:
    batch = Batch(shop, database, Alerts(stock_below=11))
    batch.issue(2)
    assert batch.crossings() == []
    batch.quantity(10, 14)
    position = batch.issue(2)[1]
    assert [row[2] for row in batch.crossings()] == [position]


def test_the_budget_by_what_coupons_are_worth(shop: Any, database: Database) -> None:
    batch = Batch(shop, database, Alerts(budget_spent_permyriad=8_000), budget_minor=1_000)
    first = batch.issue(9)[7]
    facts = {"threshold": 8_000, "level": 800, "capacity": 1_000}
    assert batch.crossings() == [("budget_spent", 1, first, facts)]
    batch.budget(1_000, 1_200)
    second = batch.issue(1)[0]
    assert [row[1:3] for row in batch.crossings()] == [(1, first), (2, second)]


def test_two_thresholds_at_one_event(shop: Any, database: Database) -> None:
    batch = Batch(shop, database, Alerts(stock_below=5, budget_spent_permyriad=6_000), budget_minor=1_000)
    position = batch.issue(6)[5]
    assert [(row[0], row[2]) for row in batch.crossings()] == [("budget_spent", position), ("stock_below", position)]


def test_batches_without_alerts_have_no_rows(shop: Any, database: Database) -> None:
    batch = Batch(shop, database, Alerts())
    batch.issue(10)
    assert batch.crossings() == []
    with database.connect() as connection:
        assert connection.execute("select from alerts_v1").fetchall() == []


@pytest.mark.parametrize("chunk_events", [1, 2, 7])
def test_the_same_however_the_log_is_cut_and_after_a_rebuild(shop: Any, database: Database, chunk_events: int) -> None:
    alerts = Alerts(stock_below=4, budget_spent_permyriad=5_000)
    batch = Batch(shop, database, alerts, budget_minor=1_000)
    first = batch.issue(9)
    batch.quantity(10, 14)
    batch.budget(1_000, 2_000)
    second = batch.issue(4)
    found = batch.crossings(chunk_events)
    assert [(row[0], row[2]) for row in found] == [
        ("budget_spent", first[4]),
        ("stock_below", first[6]),
        ("budget_spent", second[0]),
        ("stock_below", second[1]),
    ]
    assert rebuild(database, MODEL).same is True
    assert batch.crossings() == found


def minutes(*counts: int) -> list[int]:
    """Of minutes with so many coupons each, those in which an alert of more than 2 is raised; -1 skips a minute."""
    meter = Meter("m", 2, 0, 1)
    event = issued().event(1)
    begin = datetime(2026, 5, 1, 10, 59, 30, tzinfo=UTC)
    told = []
    for minute, count in enumerate(counts):
        for _ in range(max(count, 0)):
            if _claims(meter, event, begin + timedelta(minutes=minute)):
                told.append(minute)
    return told


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([2, 2, 2], []),
        ([3], [0]),
        ([9], [0]),
        ([3, 3, 3], [0]),  # it goes on: told once
        ([3, 2, 3], [0, 2]),
        ([3, -1, 3], [0, 2]),  # a minute without any stays below
        ([1, 3, 1, 1, 5, 5, 1, 4], [1, 4, 7]),
    ],
)
def test_claims_a_minute_once_until_a_minute_stays_below(counts: list[int], told: list[int]) -> None:
    assert minutes(*counts) == told


def test_a_flood_of_claims(shop: Any, database: Database) -> None:
    """Two floods within seconds are one, or two where a minute ends between them."""
    batch = Batch(shop, database, Alerts(claims_per_minute=500), quantity=5_000)
    batch.issue(1_000)
    batch.issue(1_000)
    found = batch.crossings()
    assert found
    assert {row[0] for row in found} == {"claims_per_minute"}
    assert found[0][3] == {"threshold": 500, "level": 501, "capacity": None}
    assert [row[1] for row in found] == [*range(1, len(found) + 1)]
