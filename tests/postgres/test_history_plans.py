"""Plans: the past is looked up by indexes, however the log grew since the plan was made."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.history import batches, explaining, guards, moment, reading
from ledger.store import Store
from projections import timelines
from projections.runner import Runner
from tests.conftest import Shop
from tests.postgres.test_query_plans import explain, nodes, scans

SIZE = 20_000
COUPON = "coupon-00001234"
ASKED: dict[str, Any] = {
    "stream": COUPON, "streams": [COUPON], "after": 0, "limit": 50, "position": SIZE, "positions": [1, 2],
    "merchant_id": "merchant-1", "order_id": "order-1", "user_id": "user-1", "user": "merchant-1\nuser-1",
    "unfolded": [COUPON], "folded": SIZE,
    "recorded_by": "2026-01-01", "batch_id": "0000123", "beginning": "coupon-0000123", "at": "2026-01-01",
    "occurred_by": None, "time_zone": "UTC", "day": "2026-01-01", "users": ["user-1"], "person": None,
    "receipt": None, "shown": 20,
}  # fmt: skip
STATEMENTS = {
    "stream page": (reading.STREAM_PAGE, {"events_pkey", "events_position"}),
    "order page": (reading.ORDER_PAGE, {"events_order", "events_pkey"}),
    "order streams": (reading.ORDER_STREAMS, {"events_order"}),
    "histories": (reading.HISTORIES, {"events_pkey"}),
    "the last position": (moment.REACHED, {"events_position"}),
    "by position": (explaining.BY_POSITION, {"events_position"}),
    "a batch's size": (batches.COUNT, {"events_pkey"}),
    "a balance": (batches.BALANCE, {"events_pkey"}),
    "what was taken": (guards.TAKEN, {"events_pkey"}),
    "a user's streams": (timelines.USER_STREAMS, {"events_users_passed"}),
    "what the wallets lack": (timelines.UNFOLDED, {"events_position"}),
    "a user's page": (timelines.USER_PAGE, {"events_users_passed", "events_pkey"}),
}


@pytest.fixture(scope="module")
def grown(shared_database: Any, shared_ledger: Any) -> Store:
    """A log of coupons of 20 batches, locks of as many orders, and a few coupons that were shared, by its owner."""
    shop = Shop(shared_ledger)
    coupon_id = shop.coupon()
    shop.ledger.do(use_cases.lock(shop.request(), "order-0", user_id="user-1", coupon_ids=[coupon_id]))
    Runner(shared_database).catch_up()
    with psycopg.connect(shared_database.url) as owner:
        owner.execute(sql.SQL("set search_path to {}").format(sql.Identifier(shared_database.schema)))
        owner.execute(GROW, {"size": SIZE})
        owner.execute("analyze events")
    store: Store = shared_ledger.store
    return store


GROW = """
with head as (select max(notification_id) as position from events),
     lock as (select convert_from(state, 'utf8')::jsonb as payload from events where topic = 'coupon.locked' limit 1)
insert into events (originator_id, originator_version, topic, state, notification_id)
select 'coupon-' || lpad(n::text, 8, '0'), 1, case when n %% 100 = 0 then 'coupon.shared' else 'coupon.locked' end,
       convert_to((payload || jsonb_build_object('order_id', 'order-' || n, 'with_user_ids', array['user-' || n]))
                  ::text, 'utf8'),
       head.position + n
  from head, lock, generate_series(1, %(size)s) n
"""


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_it_is_found_by_an_index(name: str, mode: str, grown: Store) -> None:
    query, indexes = STATEMENTS[name]
    with grown.connection() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        plan = explain(connection, query, ASKED | {"after": "" if name == "a user's streams" else 0})
        connection.execute("reset plan_cache_mode")
    used = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    assert used - {"events_position"} <= {name for name in used if name in indexes or name.startswith("wallet")}, used
    assert indexes & used, used
    read = [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    assert set(read) <= {"projection_skips"}, scans(plan)  # which has a few rows, if any


def test_a_balance_sorts_nothing(grown: Store) -> None:
    with grown.connection() as connection:
        plan = explain(connection, batches.BALANCE, ASKED)
    assert not [node for node in nodes(plan) if "Sort" in node["Node Type"]], plan
