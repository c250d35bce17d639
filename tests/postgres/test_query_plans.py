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
from ledger.commit import Unit, commit_group
from ledger.store import Database, Store
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
        for statement in (
            """insert into events select 'coupon-' || lpad(n::text, 8, '0'), 1, 'coupon.issued',
               (select state from events where notification_id = 1), n + 1 from generate_series(1, %(size)s) n""",
            "insert into requests select 'm', 'r-' || n, '', '{}', n from generate_series(1, %(size)s) n",
            "insert into batch_stock select 'b-' || n, 10, 0 from generate_series(1, %(size)s) n",
            "insert into user_quota select 'b', 'u-' || n, 1 from generate_series(1, %(size)s) n",
            "analyze events, requests, batch_stock, user_quota",
        ):
            owner.execute(statement, {"size": SIZE} if "%(size)s" in statement else None)
    yield store
    store.close()


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
    parameters = {
        "streams": [f"coupon-{n:08}" for n in range(1, streams + 1)],
        "merchants": ["m"] * streams,
        "keys": [f"r-{n}" for n in range(1, streams + 1)],
    }
    with grown.connection() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        plan = explain(connection, store_module._LOAD, parameters)
        connection.execute("reset plan_cache_mode")
    assert set(scans(plan)) == {"events", "requests"}
    assert all("Index" in scan for kinds in scans(plan).values() for scan in kinds), scans(plan)


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


def test_a_commit_looks_everything_up_by_index(grown: Store) -> None:
    """auto_explain writes the plan of every statement inside the function to the session's own log messages."""
    messages: list[str] = []
    with psycopg.connect(grown.database.url, autocommit=True, **grown.database.session() | {"options": ""}) as owner:
        owner.execute("load 'auto_explain'")
        for name, value in {
            "auto_explain.log_min_duration": "0",
            "auto_explain.log_nested_statements": "on",
            "auto_explain.log_format": "json",
            "auto_explain.log_level": "notice",
            "client_min_messages": "notice",
            "search_path": f'"{grown.database.schema}"',
        }.items():
            owner.execute("select set_config(%s, %s, false)", (name, value))
        owner.add_notice_handler(lambda notice: messages.append(notice.message_primary or ""))
        unit = Unit(
            [issued(coupon="new").event(1)],
            Shop(None).request("new"),  # type: ignore[arg-type]
            reads={"coupon-00000007": 1},
            stock={"b-7": 1},
            quota={("b", "u-7"): (1, 3)},
            supply={"b-8": 11},
        )
        assert [verdict.word for verdict in commit_group(grown, owner, [unit])] == ["done"]
    plans = [orjson.loads(message[message.index("{") :]) for message in messages if "{" in message]
    read: dict[str, set[str]] = {}
    for plan in plans:
        for table, kinds in scans(plan["Plan"]).items():
            read.setdefault(table, set()).update(kinds)
    assert {"events", "requests", "batch_stock", "user_quota"} <= set(read)
    for table in ("events", "requests", "batch_stock", "user_quota"):
        kinds = {kind for kind in read[table] if kind != "ModifyTable"}
        assert kinds
        assert all("Index" in kind or kind == "Bitmap Heap Scan" for kind in kinds), (table, kinds)


def test_the_function_keeps_the_settings_that_its_plans_need() -> None:
    text = resources.files("ledger").joinpath("migrations/0003_commit_group.sql").read_text("utf-8")
    assert re.search(r"set enable_seqscan = off", text)
    assert re.search(r"set plan_cache_mode = force_generic_plan", text)
