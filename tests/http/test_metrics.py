"""GET /metrics."""

from __future__ import annotations

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from consumers.follower import Follower
from consumers.inputs import ORDERS
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store
from tests.kafka.partition import Partition
from tests.kafka.test_waiting import create, pay


def scrape(nobody):
    """Samples by name, each by the values of its labels in the order of their names."""
    answer = nobody.get("/metrics")
    assert answer.status == 200
    assert answer.response.content_type.startswith("text/plain; version=0.0.4")
    return {
        family.name.removeprefix("coupon_ledger_"): {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(answer.response.text)
    }


def test_tells_where_everything_stands(nobody, shop, project, ledger):
    orders = Partition(ledger, ORDERS)
    coupon = shop.coupon()
    project()
    follower = Follower(ledger.store, "publisher", lambda *_: None, chunk_events=2)
    follower.step()
    follower.step()
    orders.take(create("o-1", coupon), pay("o-2", coupon), create("o-3", coupon, coupon))
    head = ledger.store.head()
    found = scrape(nobody)
    assert found["log_head_position"] == {(): head}
    assert found["projection_lag_events"][("wallet", "2")] == 1
    assert found["projection_lag_seconds"][("wallet", "2")] >= 0
    assert set(found["projection_faulted"].values()) == {0}
    assert found["follower_lag_events"] == {("publisher",): head - 2}
    place = ("test", "0", ORDERS.topic)
    assert found["waiting_messages"] == {place: 1}
    assert found["open_dead_letters"] == {("invalid_field", ORDERS.topic): 1}
    assert (found["consumer_lag_messages"], found["consumer_seen_age_seconds"]) == ({}, {})


def test_a_consumers_lag_is_of_what_it_saw_last(nobody, ledger):
    Partition(ledger, ORDERS).note_end(7)
    found = scrape(nobody)
    place = ("test", "0", ORDERS.topic)
    assert found["consumer_lag_messages"] == {place: 7}
    assert 0 <= found["consumer_seen_age_seconds"][place] < 60


def test_a_read_model_that_stopped(nobody, project, database):
    project()
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(
            f"update \"{database.schema}\".projection_checkpoints set state = 'FAULTED' where name = 'wallet'"
        )
    faulted = scrape(nobody)["projection_faulted"]
    assert [name for (name, _), value in faulted.items() if value] == ["wallet"]


def test_series_are_bounded(nobody, database, ledger):
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        connection.execute("insert into followers select 'f-' || n, n from generate_series(1, 300) n")
    followers = scrape(nobody)["follower_lag_events"]
    assert len(followers) == 100
    assert ("f-1",) in followers and ("f-300",) not in followers


@pytest.fixture
def without_database():
    ledger = Ledger(Store(Database("host=/nowhere/at/all dbname=postgres")))
    yield create_app(ledger).test_client()
    ledger.close()


def test_a_scrape_fails_as_a_whole_without_a_database(without_database):
    answer = without_database.get("/metrics")
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
