"""Plans: every look-up of the write path goes through an index, whatever the tables' size when it was first planned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql

from ledger import store as store_module
from ledger import undoing
from ledger.commit import Unit, commit_group
from ledger.database import Database
from ledger.store import Store
from tests.conftest import Shop
from tests.unit.specs import issued

SIZE = 50_000


@pytest.fixture(scope="module")
def grown(shared_database: Database) -> Iterator[Store]:
    """A ledger that grew since its plans were first made: rows put there by its owner."""
    store = Store(shared_database)
    with store.connection() as connection:
        commit_group(store, connection, [Unit([issued(coupon="first").event(1)], supply={"b": 1})])
    with psycopg.connect(shared_database.url) as owner:
        owner.execute(sql.SQL("set search_path to {}").format(sql.Identifier(shared_database.schema)))
        grow(owner, analyze=True)
    yield store
    store.close()


def grow(owner: psycopg.Connection[Any], *, analyze: bool) -> None:
    for statement in (
        """insert into events select 'coupon-' || lpad(n::text, 8, '0'), 1, 'coupon.issued',
           (select state from events where notification_id = 1), n + (select max(notification_id) from events)
           from generate_series(1, %(size)s) n""",
        "insert into requests select 'm', 'r-' || n, '', '{}', n from generate_series(1, %(size)s) n",
        "insert into batch_stock select 'b-' || n, 10, 0 from generate_series(1, %(size)s) n on conflict do nothing",
        "insert into user_quota select 'b', 'u-' || n, 1 from generate_series(1, %(size)s) n",
    ):
        owner.execute(statement, {"size": SIZE})
    if analyze:
        owner.execute("analyze events, requests, batch_stock, user_quota")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(plan: dict[str, Any]) -> dict[str, set[str]]:
    """How each table is read."""
    found: dict[str, set[str]] = {}
    for node in nodes(plan):
        if "Relation Name" in node:
            found.setdefault(node["Relation Name"], set()).add(node["Node Type"])
    return found


def explain(connection: psycopg.Connection[Any], query: str, parameters: Any) -> dict[str, Any]:
    row: Any = connection.execute("explain (format json) " + query, parameters).fetchone()
    plan: dict[str, Any] = next(iter(row.values()))[0]["Plan"]
    return plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("streams", [1, 100])
def test_a_look_at_streams_uses_the_primary_keys(mode: str, streams: int, grown: Store) -> None:
    numbers = range(1, streams + 1)
    asked = {
        "streams": [f"coupon-{n:08}" for n in numbers],
        "requests": [{"merchant_id": "m", "request_id": f"r-{n}"} for n in numbers],
        "shares": [{"batch_id": "b", "user_id": f"u-{n}"} for n in numbers],
        "orders": [{"merchant_id": "m", "order_id": f"o-{n}"} for n in numbers],
    }
    parameters = {"asked": orjson.dumps(asked).decode()}
    with grown.connection() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        plan = explain(connection, store_module._LOAD, parameters)
        connection.execute("reset plan_cache_mode")
    assert set(scans(plan)) == {"events", "requests", "batch_stock", "user_quota"}
    kinds = {kind for found in scans(plan).values() for kind in found}
    assert kinds <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, scans(plan)
    assert "events_order" in {node.get("Index Name") for node in nodes(plan)}


def test_the_log_is_read_by_its_positions(grown: Store) -> None:
    with grown.connection() as connection:
        plan = explain(connection, store_module._READ, (SIZE // 2, 500))
    assert scans(plan) == {"events": {"Index Scan"}}
    assert not [node for node in nodes(plan) if node["Node Type"] == "Sort"]
    assert {node.get("Index Name") for node in nodes(plan)} >= {"events_position"}


def test_a_history_is_read_by_its_stream(grown: Store) -> None:
    with grown.connection() as connection:
        plan = explain(connection, store_module._HISTORY, ("coupon-00000001",))
    assert scans(plan) in ({"events": {"Index Scan"}}, {"events": {"Bitmap Heap Scan"}})


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("limit", sorted(undoing.STATEMENTS))
def test_a_page_of_a_batch_is_read_in_the_order_of_its_ids(mode: str, limit: int, grown: Store) -> None:
    """Also where one batch has them all: it stops at the limit, without a sort of what comes after."""
    asked = {"batch_id": "0", "by": None, "by_prefix": "r", "codes_id": None}
    asked |= {"beginning": "coupon-0", "after": "coupon-00012345"}
    with grown.connection() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        plan = explain(connection, undoing.STATEMENTS[limit], asked)
        connection.execute("reset plan_cache_mode")
    assert scans(plan) == {"events": {"Index Scan"}}
    assert not [node for node in nodes(plan) if node["Node Type"] == "Sort"]
    (scan,) = [node for node in nodes(plan) if node.get("Relation Name")]
    assert scan["Index Name"] == "events_pkey"
    assert all(
        column in scan["Index Cond"] for column in ("originator_id >", "originator_id <", "originator_version =")
    )


@pytest.mark.parametrize("refusals_likely", [False, True])
def test_a_commit_reads_only_the_rows_that_it_asks_for(refusals_likely: bool, database: Database) -> None:
    """Planned on empty tables that then grow unanalyzed, as in the first minutes of a ledger.

    auto_explain writes the plan of every statement inside the function to the session's own messages.
    """
    messages: list[str] = []
    store = Store(database)
    with psycopg.connect(database.url, autocommit=True, **database.session() | {"options": ""}) as owner:
        owner.execute("load 'auto_explain'")
        for name, value in {
            "auto_explain.log_min_duration": "0",
            "auto_explain.log_nested_statements": "on",
            "auto_explain.log_analyze": "on",
            "auto_explain.log_format": "json",
            "auto_explain.log_level": "notice",
            "search_path": f'"{database.schema}"',
        }.items():
            owner.execute("select set_config(%s, %s, false)", (name, value))
        first = Unit([issued(coupon="first").event(1)], supply={"b": 1})
        for unit in (first, _busy_unit("planned on next to nothing")):
            commit_group(store, owner, [unit], refusals_likely=refusals_likely)
        grow(owner, analyze=False)
        owner.execute("set client_min_messages = notice")
        owner.add_notice_handler(lambda notice: messages.append(notice.message_primary or ""))
        verdicts = commit_group(store, owner, [_busy_unit("new")], refusals_likely=refusals_likely)
        assert [verdict.word for verdict in verdicts] == ["done"]
    store.close()
    plans = [orjson.loads(message[message.index("{") :])["Plan"] for message in messages if "{" in message]
    reads = [node for plan in plans for node in nodes(plan) if "Relation Name" in node and "Scan" in node["Node Type"]]
    assert {"events", "batch_stock"} <= {node["Relation Name"] for node in reads}
    for node in reads:
        touched = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert touched <= 1, (node["Relation Name"], node["Node Type"], touched)


def _busy_unit(name: str) -> Unit:
    """It uses every guard."""
    return Unit(
        [issued(coupon=name.replace(" ", "")).event(1)],
        Shop(None).request(name),  # type: ignore[arg-type]
        reads={"coupon-first": 1},
        stock={"b": 0},
        quota={("b", "u"): (1, 3)},
        supply={"b-8": 11},
    )


def test_the_function_keeps_the_settings_that_its_plans_need() -> None:
    text = resources.files("ledger").joinpath("migrations/0008_commit_group.sql").read_text("utf-8")
    assert re.search(r"set enable_seqscan = off", text)
    assert re.search(r"set plan_cache_mode = force_generic_plan", text)
