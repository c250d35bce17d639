"""docs/privacy.md names every table that can have something of a person."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from ledger.database import PROJECTOR_ROLE, Database
from projections.catalogue import PROJECTIONS
from projections.checkpoints import install

PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text("utf-8")
NAMED = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\| .*", PAGE, re.MULTILINE))))
NOTHING = {
    # of batches, days and months
    "alerts", "batch_balance", "batch_stock", "daily_statistics", "funnel", "liability",
    # codes without their users, and jobs without their rows
    "code_sets", "codes", "issuance_job_outcomes", "issuance_job_work", "issuance_jobs",
    # of the service itself
    "analytics_views", "checkpoints", "cosignatures", "followers", "kafka_offsets", "projection_checkpoints",
    "projections_before", "schema_migrations", "seal_anchors", "seal_keys", "seal_standing",
}  # fmt: skip
"""Tables in which nothing is of a person: whoever adds one decides whether it belongs here or on the page."""
OF_A_PERSON = {
    "actor", "body", "email", "friend_id", "holder_id", "last_detail", "last_request_id", "login", "order_id", "owner",
    "person", "settled_by", "user_id", "value", "who",
}  # fmt: skip


@pytest.fixture
def tables(database: Database) -> dict[str, set[str]]:
    """Columns of every table of a ledger, its read models' included, by its name without a version."""
    install(Database(database.url, database.schema, PROJECTOR_ROLE), PROJECTIONS)
    query = """
        select c.relname, array_agg(a.attname::text)
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p')
         group by c.relname
    """
    with psycopg.connect(database.url) as owner:
        rows = owner.execute(query, (database.schema,)).fetchall()
    return {re.sub(r"_v\d+$", "", name): set(columns) for name, columns in rows}


def test_each_table_is_on_the_page_or_has_nothing_of_a_person(tables: dict[str, set[str]]) -> None:
    assert tables.keys() - NAMED - NOTHING == set()
    assert not NAMED & NOTHING
    assert NOTHING - tables.keys() == set()


def test_a_table_that_names_a_user_is_on_the_page(tables: dict[str, set[str]]) -> None:
    assert {name for name, columns in tables.items() if columns & OF_A_PERSON} - NAMED == set()
    assert {name for name, columns in tables.items() if "user_id" in columns} >= {"user_quota", "wallet", "contacts"}
