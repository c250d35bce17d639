"""Finding what is due goes through indexes, however much was sent before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger.database import Database
from ledger.store import Store
from ledger.telling import deliveries
from projections import standings

CHANNELS = 50


@pytest.fixture(scope="module")
def grown(shared_database: Database) -> Iterator[Store]:
    """A hundred thousand deliveries, of which a few thousand wait, each third for the future."""
    store = Store(shared_database)
    with store.connection() as connection:
        deliveries.waiting_channels(connection, 10)
    with psycopg.connect(shared_database.url) as owner:
        owner.execute(sql.SQL("set search_path to {}").format(sql.Identifier(shared_database.schema)))
        for statement in (
            """insert into channels (channel_id, merchant_id, owner, name, kind, target, wants, after_position)
               select 'c-' || n, 'plans', 'o', 'n', 'email', 'a@b.example', '{alert}', 0
                 from generate_series(1, %(channels)s) n""",
            """insert into channels (channel_id, merchant_id, owner, name, kind, target, wants, after_position,
                                     disabled_at)
               select 'd-' || n, 'plans', 'o', 'n', 'email', 'a@b.example', '{alert}', 0, now()
                 from generate_series(1, 2) n""",
            """insert into deliveries (key, channel_id, merchant_id, type, body, due_at)
               select 'd' || n, 'd-' || (n %% 2 + 1), 'plans', 'alert', '{}', now() - n * interval '43.3 seconds'
                 from generate_series(1, 6000) n""",
            """insert into deliveries (key, channel_id, merchant_id, type, body, state, settled_at, due_at)
               select n, 'c-' || (n %% %(channels)s + 1), 'plans', 'alert', '{}',
                      case when n %% 20 = 0 then 'due' when n %% 1000 = 1 then 'dead' else 'sent' end,
                      case when n %% 20 <> 0 then now() end,
                      now() + case when n %% 3 = 0 then interval '1 hour' else interval '-1 hour' end
                 from generate_series(1, 100000) n""",
        ):
            owner.execute(statement, {"channels": CHANNELS})
        owner.execute("analyze channels, deliveries")
    yield store
    store.close()


QUERIES: dict[str, tuple[str, Any]] = {
    "waiting": (deliveries._WAITING, {"limit": 1_000, "days": 3}),
    "claim": (deliveries._CLAIM, (["c-1", "c-11", "c-21"], [4, 4, 4], 60.0)),
    "unsendable": (deliveries._SETTLE_UNSENDABLE, (3, ["c-1", "c-11"])),
    "unsendable of disabled ones": (deliveries._SETTLE_UNSENDABLE, (3, ["d-1", "d-2"])),
    "standings": (standings.DELIVERIES_DUE, {"limit": 10}),
    "given up": (standings.DELIVERIES_GIVEN_UP, {"limit": 1_000}),
}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", QUERIES)
def test_no_delivery_is_looked_at_in_vain(name: str, mode: str, grown: Store) -> None:
    query, asked = QUERIES[name]
    with grown.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("set local plan_cache_mode = {}").format(sql.Literal(mode)))
        row: Any = connection.execute("explain (analyze, buffers, format json) " + query, asked).fetchone()
    plan = next(iter(row.values()))[0]["Plan"]
    for node in walk(plan):
        if node.get("Relation Name") == "deliveries" and node["Node Type"] != "ModifyTable":
            assert node["Node Type"] != "Seq Scan", node
            assert node.get("Rows Removed by Filter", 0) == 0
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 2_000


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from walk(child)


def test_channels_with_something_due_are_found(grown: Store) -> None:
    with grown.connection() as connection:
        found = deliveries.waiting_channels(connection, 1_000)
        assert found == sorted(set(found))
        rows = connection.execute(
            "select distinct channel_id from deliveries join channels using (channel_id)"
            " where state = 'due'"
            " and due_at <= now() - make_interval(days => case when disabled_at is null then 0 else 3 end)"
            " order by 1"
        ).fetchall()
        assert found == sorted(row["channel_id"] for row in rows)
        with connection.transaction(force_rollback=True):
            claimed = deliveries.claim(connection, dict.fromkeys(found[:3], 4))
            assert len(claimed) == 12
            assert deliveries.claim(connection, {found[0]: 10_000})
            assert found[0] not in deliveries.waiting_channels(connection, 1_000)
