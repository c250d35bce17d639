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


def test_a_read_model_that_is_outdated(nobody, project, database):
    project()
    assert set(scrape(nobody)["projection_outdated"].values()) == {0}
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"update \"{database.schema}\".projection_checkpoints set version = 1 where name = 'wallet'")
    found = scrape(nobody)
    assert [labels for labels, value in found["projection_outdated"].items() if value] == [("wallet", "1")]
    assert set(found["projection_faulted"].values()) == {0}


def test_what_is_to_be_told_and_issued(nobody, project, ledger, database):
    before = scrape(nobody)
    assert before["deliveries_due"] == before["deliveries_due_age_seconds"] == {("disabled",): 0, ("enabled",): 0}
    for name in ("deliveries_given_up", "channels_disabled", "reminders_overdue", "job_rows_waiting"):
        assert before[name] == {(): 0}
    project()
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        connection.execute(TO_BE_TOLD)
    found = scrape(nobody)
    assert found["deliveries_due"] == {("disabled",): 2, ("enabled",): 3}
    ages = found["deliveries_due_age_seconds"]
    assert 7_200 <= ages["disabled",] < 7_500 and 3_600 <= ages["enabled",] < 3_900
    assert (found["deliveries_given_up"], found["channels_disabled"]) == ({(): 1}, {(): 1})
    assert (found["reminders_overdue"], found["job_rows_waiting"]) == ({(): 1}, {(): 7})


TO_BE_TOLD = """
insert into channels (channel_id, merchant_id, owner, name, kind, target, wants, after_position, disabled_at,
                      deleted_at)
values ('on', 'm', 'o', 'n', 'email', 'a@b.example', '{alert}', 0, null, null),
       ('off', 'm', 'o', 'n', 'email', 'a@b.example', '{alert}', 0, now(), null),
       ('gone', 'm', 'o', 'n', 'email', null, '{}', 0, now(), now());

insert into deliveries (key, channel_id, merchant_id, type, body, state, settled_at, due_at)
select k, c, 'm', 'alert', '{}', s, case when s <> 'due' then now() end, now() - h * interval '1 hour'
  from (values ('a', 'on', 'due', 1), ('b', 'on', 'due', 0), ('c', 'on', 'due', 1), ('d', 'on', 'due', -1),
               ('e', 'on', 'sent', 9), ('f', 'on', 'dead', 9), ('g', 'off', 'due', 2), ('h', 'off', 'due', 1),
               ('i', 'gone', 'due', 5)) as d (k, c, s, h);

insert into reminders (merchant_id, user_id, batch_id, notify_day, type, due_at, ends_at, coupons)
select 'm', 'u-' || h, 'b', '2026-01-01', 'expiry', now() - h * interval '1 hour', now() + interval '2 days', '{}'
  from (values (1), (-1)) as r (h);

insert into issuance_jobs (job_id, merchant_id, batch_id, upload_id, accepted, rejected, state, started_at)
values ('j-1', 'm', 'b', 'u-1', 10, 5, 'RUNNING', now()), ('j-2', 'm', 'b', 'u-2', 90, 0, 'FINISHED', now());
insert into issuance_job_outcomes (job_id, code, rows) values ('j-1', '', 2), ('j-1', 'sold_out', 1), ('j-2', '', 80);
"""


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
