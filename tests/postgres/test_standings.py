"""Where consumers and followers stand, told from the database in a handful of cheap queries."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from consumers import inbox, waiting
from consumers.follower import Follower
from consumers.waiting import Key
from ledger import use_cases
from projections import standings

FILL = """
insert into kafka_offsets (consumer_group, topic, partition, next_offset, end_offset, seen_at)
select g, t, p, 100, 100 + p, now()
  from unnest(array['g1', 'g2']) g, unnest(array['orders', 'issuance']) t, generate_series(0, 3) p;

insert into dead_letters (consumer_group, topic, partition, "offset", value, headers, business_time, reason, detail,
                          settled_at, settlement, settled_by)
select 'g1', 'orders', n % 4, n, repeat('x', 100)::bytea, '[]', 'live', 'not_locked', '', now(), 'discarded', 'test'
  from generate_series(1, 20000) n;

insert into dead_letters (consumer_group, topic, partition, "offset", value, headers, business_time, reason, detail)
select 'g1', 'orders', n % 2, 50000 + n, 'x', '[]', 'live', (array['not_used', 'coupon_void'])[1 + n % 2], ''
  from generate_series(1, 9) n;

insert into waiting_messages (consumer_group, topic, partition, key, "offset", headers, business_time, reason, detail,
                              waits_until, next_try_at)
select 'g1', 'orders', n % 4, ('order-' || n / 2)::bytea, n, '[]', 'live', 'not_locked', '',
       now() + interval '1 minute', now() + (n - 10) * interval '1 second'
  from generate_series(1, 8000) n;
"""
PLACES = {"group": "g1", "topics": ["orders"] * 4, "numbers": [0, 1, 2, 3]}
ONE = {"group": "g1", "topics": ["orders"], "numbers": [1], "keys": [b"order-1"]}
FAILED = {"offsets": [3], "reasons": ["not_locked"], "details": [""]}
KEYS = {
    "waiting._DUE": (waiting._DUE, PLACES | {"limit": 10}),
    "waiting._OF_KEYS": (waiting._OF_KEYS, ONE),
    "waiting._REMOVE": (waiting._REMOVE, ONE | FAILED),
    "waiting._TRY_LATER": (waiting._TRY_LATER, ONE | FAILED | {"first": 1.0}),
    "waiting._GIVE_UP": (waiting._GIVE_UP, ONE | FAILED),
    "inbox._STORED": (inbox._STORED, PLACES),
}


@pytest.fixture
def filled(ledger, database, shop):
    """Two groups on two topics, a history of settled dead letters, some open ones, and many that wait."""
    shop.batch()
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as owner:
        owner.execute(FILL)
        owner.execute("vacuum analyze dead_letters, waiting_messages, kafka_offsets, events")
    with ledger.store.connection() as connection:
        yield connection


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan] + [node for child in plan.get("Plans", ()) for node in nodes(child)]


def scanned(connection: Any, query: str, parameters: Any = None) -> dict[str, set[tuple[str, str | None]]]:
    """Tables that a query reads, each with how and by which index."""
    (plan,) = next(iter(connection.execute("explain (format json) " + query, parameters).fetchone().values()))
    found: dict[str, set[tuple[str, str | None]]] = {}
    for node in nodes(plan["Plan"]):
        if "Relation Name" in node and node["Node Type"] != "ModifyTable":
            found.setdefault(node["Relation Name"], set()).add((node["Node Type"], node.get("Index Name")))
    return found


def test_consumers(filled):
    found = standings.consumers(filled, standings.open_letters(filled))
    assert len(found) == 16
    first = found[8]
    assert (first.consumer_group, first.topic, first.partition) == ("g2", "issuance", 0)
    (orders,) = [each for each in found if (each.consumer_group, each.topic, each.partition) == ("g1", "orders", 1)]
    assert (orders.next_offset, orders.end_offset, orders.lag) == (100, 101, 1)
    assert (orders.waiting, orders.open_dead_letters) == (2_000, 5)
    assert orders.seen_seconds_ago is not None and orders.seen_seconds_ago >= 0
    assert sum(each.open_dead_letters for each in found) == 9


def test_a_partition_of_which_nobody_saw_the_end(filled):
    filled.execute("update kafka_offsets set end_offset = null, seen_at = null where consumer_group = 'g2'")
    last = standings.consumers(filled, standings.open_letters(filled))[-1]
    assert (last.lag, last.end_offset, last.seen_seconds_ago) == (None, None, None)


def test_open_dead_letters(filled):
    found = [(each.topic, each.partition, each.reason, each.count) for each in standings.open_letters(filled)]
    assert found == [("orders", 0, "not_used", 4), ("orders", 1, "coupon_void", 5)]


def test_followers(filled, ledger):
    follower = Follower(ledger.store, "publisher", lambda *_: None, chunk_events=1)
    follower.step()
    follower.step()
    (found,) = standings.followers(filled)
    assert (found.name, found.position, found.lag_events) == ("publisher", 1, ledger.store.head() - 1)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_nothing_that_was_settled_is_looked_at(filled, mode):
    filled.execute(f"set plan_cache_mode = {mode}")
    assert "dead_letters" not in scanned(filled, standings.CONSUMERS)
    (found,) = scanned(filled, standings.OPEN_LETTERS)["dead_letters"]
    # Which of the two depends on how much of the table is known to be visible to all.
    assert found[1] in ("dead_letters_open_by_reason", "dead_letters_open"), found
    filled.execute("reset plan_cache_mode")


def test_the_head_is_looked_up_and_not_searched(filled, database, ledger, shop):
    batch_id = shop.batch(quantity=1_000, per_user_limit=None)
    ledger.do(use_cases.issue(shop.request(), batch_id, ["user-1"] * 1_000))
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as owner:
        owner.execute("vacuum analyze events")
    read = scanned(filled, standings.FOLLOWERS, {"limit": 100})
    assert read["events"] == {("Index Only Scan", "events_position")}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", KEYS)
def test_what_waits_is_found_by_its_key_or_when_it_is_due(filled, mode, name):
    query, parameters = KEYS[name]
    filled.execute(f"set plan_cache_mode = {mode}")
    read = scanned(filled, query, parameters)["waiting_messages"]
    filled.execute("reset plan_cache_mode")
    assert {index for _, index in read} <= {"waiting_messages_pkey", "waiting_messages_due"}, read
    assert None not in {index for _, index in read}, read


def test_keys_that_are_due_come_in_the_order_of_their_time(filled):
    found = waiting.due(filled, "g1", [("orders", 0), ("orders", 1), ("orders", 2), ("orders", 3)])
    assert found == [Key("orders", n % 4, f"order-{n // 2}".encode()) for n in range(1, 11)]
