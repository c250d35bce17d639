"""Case seal: a log is sealed and stays sealed under load, and a tree with another root is not exact."""

from __future__ import annotations

from contextlib import nullcontext

import psycopg
import pytest

from benchmarks import results, seal
from benchmarks.options import Options


@pytest.fixture
def options(database_url: str) -> Options:
    """A very short run."""
    return Options(url=database_url, redis=lambda _: nullcontext(""), seconds=1.0, projected=2_000)


def test_a_backlog_is_sealed_and_so_is_all_that_is_written(options: Options) -> None:
    rows = list(seal.measure(options))
    assert [(row.case, row.contender, row.exact) for row in rows] == [
        ("seal_backlog", "ledger", True),
        ("seal_steady", "ledger", True),
        ("seal_backlog", "pymerkle", True),
    ]
    assert all(row.rate_per_s > 0 for row in rows)
    steady = rows[1]
    assert steady.p50_ms is not None
    assert steady.p99_ms is not None
    assert 0 < steady.p50_ms <= steady.p99_ms
    assert steady.rate_per_s <= 1.01 * seal.WRITES_PER_SECOND
    assert list(results.ratios(rows)) == ["seal_backlog.1.ledger/pymerkle"]
    assert [(judgement.what, judgement.wanted) for judgement in results.judge(rows)] == [
        ("seal_steady.1.p99_ms", "under 1000")
    ]
    assert {results.case_of(row.case) for row in rows} == {"seal"}


def test_rows_that_were_changed_meanwhile_give_another_root(options: Options) -> None:
    rows = seal.measure(options)
    assert [next(rows).exact, next(rows).exact] == [True, True]
    path = "-c search_path=bench_seal -c session_replication_role=replica"
    with psycopg.connect(options.url, autocommit=True, options=path) as owner:
        owner.execute("update events set recorded_at = recorded_at + interval '1 s' where notification_id = 50")
    assert [(row.contender, row.exact) for row in rows] == [("pymerkle", False)]
