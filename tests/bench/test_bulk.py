"""Bulk issuance really runs from a broker to the log, and its rivals write the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks import bulk, results, servers
from benchmarks.contenders.base import Place
from benchmarks.options import Options
from benchmarks.results import Row

MESSAGES = 300


@pytest.fixture(scope="module")
def options(database_url: str) -> Options:
    """A very short run."""
    return Options(url=database_url, redis=servers.redis_server, processes=(1, 2), stored=(50, 400), bulk_rows=MESSAGES)


@pytest.fixture(scope="module")
def rows(options: Options) -> list[Row]:
    """All rows of the case."""
    return list(bulk.measure(options))


def test_every_message_has_one_coupon_and_the_rivals_write_as_many_rows(rows: list[Row], tmp_path: Path) -> None:
    assert [(row.contender, row.processes) for row in rows] == [
        ("ledger", 1),
        ("copy", 1),
        ("copy_by_poll", 1),
        ("insert_arrays", 1),
        ("ledger", 2),
    ]
    assert [row for row in rows if not row.exact or row.rate_per_s <= 0] == []
    results.write(tmp_path / "results.json", rows)
    assert results.ratios(rows).keys() == {f"bulk.1.ledger/{name}" for name in bulk.RAW}


def test_it_grows(options: Options) -> None:
    with bulk.fresh(options) as long:
        bulk.store_events(long.url, long.schema, 400)
        rows = list(bulk.measure_growth(options, {400: Place(long.url, long.schema)}))
    assert [(row.case, row.exact) for row in rows] == [("growth_bulk_50", True), ("growth_bulk_400", True)]
    assert list(results.ratios(rows)) == ["growth.bulk.1.400/50"]


@pytest.fixture
def pair(options: Options) -> Iterator[tuple[bulk.Database, bulk.Database]]:
    """Two ledgers, of which the first has events."""
    with bulk.fresh(options) as full, bulk.fresh(options) as empty:
        bulk.store_events(full.url, full.schema, 100)
        yield full, empty


@pytest.mark.parametrize("contender", list(bulk.RAW))
def test_a_rival_writes_the_rows_as_they_were(contender: str, pair: tuple[bulk.Database, bulk.Database]) -> None:
    full, empty = pair
    assert bulk.write_again(contender, full, empty).exact
    tables = []
    for database in pair:
        with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
            tables.append(
                {
                    table: sorted(map(repr, connection.execute(f"select * from {table}").fetchall()))
                    for table in ("events", "user_quota", "batch_stock", "requests")
                }
            )
    assert tables[0] == tables[1]
    assert len(tables[0]["events"]) == 100


def test_a_rival_that_loses_rows_is_not_exact(
    pair: tuple[bulk.Database, bulk.Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bulk.OUTCOME, "user_quota", bulk.OUTCOME["user_quota"] + " limit 1")
    assert not bulk.write_again("copy", *pair).exact
