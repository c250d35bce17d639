"""What follows from rows: ratios, targets, files and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report import BEGIN, END, markdown, ratio_table, replaced, row_table, target_table
from benchmarks.results import Row, best, case_of, judge, ratios, read, size_name, write


def row(contender: str, rate: float, **changes: Any) -> Row:
    """A row of claims by 64 callers of one process."""
    values = {
        "case": "claims",
        "callers": 64,
        "processes": 1,
        "p50_ms": 10.0,
        "p99_ms": 20.0,
        "cpu_s_per_1000": 0.1,
        "exact": True,
    }
    return Row(**(values | {"contender": contender, "rate_per_s": rate} | changes))


def test_a_ratio_compares_each_contenders_best_process_count() -> None:
    rows = [
        row("ledger", 4_000),
        row("ledger", 5_000, processes=2),
        row("app_save", 200),
        row("app_save", 100, processes=2),
    ]
    assert ratios(rows) == {"claims.64.ledger/app_save": 25.0}
    assert [(row.contender, row.processes) for row in best(rows)] == [("ledger", 2), ("app_save", 1)]


def test_an_inexact_row_never_wins_and_has_no_ratio() -> None:
    rows = [
        row("ledger", 4_000),
        row("ledger", 9_000, processes=2, exact=False),
        row("redis_always", 8_000, exact=False),
    ]
    assert best(rows)[0].rate_per_s == 4_000
    assert ratios(rows) == {}
    assert ratios([row("ledger", 4_000, exact=False), row("app_save", 100)]) == {}


def test_a_small_ratio_keeps_two_digits() -> None:
    assert ratios([row("ledger", 1_234), row("redis_everysec", 30_000)]) == {"claims.64.ledger/redis_everysec": 0.041}


def test_growth_compares_the_ledger_with_itself_on_its_smallest_log() -> None:
    rows = [
        row("ledger", rate, case=f"growth_lock_confirm_{size}")
        for size, rate in (("10m", 900), ("1m", 950), ("10k", 1_000))
    ]
    assert ratios(rows) == {
        "growth.lock_confirm.64.1m/10k": 0.95,
        "growth.lock_confirm.64.10m/10k": 0.9,
    }


@pytest.mark.parametrize(("count", "name"), [(10_000, "10k"), (1_000_000, "1m"), (10_000_000, "10m"), (1_500, "1500")])
def test_sizes_have_short_names(count: int, name: str) -> None:
    assert size_name(count) == name


@pytest.mark.parametrize(
    ("row_case", "case"),
    [
        ("claims", "claims"),
        ("lock_confirm_1ms", "commit_latency"),
        ("growth_claims_10m", "growth"),
        ("http_claims", "http"),
        ("bulk", "bulk"),
        ("seal_steady", "seal"),
        ("verify", "verify"),
    ],
)
def test_each_row_belongs_to_a_case_of_the_command_line(row_case: str, case: str) -> None:
    assert case_of(row_case) == case


def test_targets_say_what_is_met() -> None:
    rows = [row("ledger", 4_000, p99_ms=51.0), row("app_save", 100), row("relational", 1_000)]
    judged = {judgement.what: judgement.met for judgement in judge(rows)}
    assert judged == {
        "claims.64.ledger/app_save": True,
        "claims.64.ledger/relational": False,
        "claims.64.p99_ms": False,
    }


def test_a_rate_that_is_wanted_counts_only_where_the_outcome_was_exact() -> None:
    for rate, exact, met in ((16_667, True, True), (16_666, True, False), (20_000, False, False)):
        [judgement] = judge([row("ledger", rate, case="verify", callers=1, exact=exact)])
        assert (judgement.what, judgement.met) == ("verify.rate_per_s", met)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [row("ledger", 4_000), row("copy", 100, case="bulk", p50_ms=None, p99_ms=None), row("app_save", 100)]
    write(tmp_path / "results.json", rows)
    assert read(tmp_path / "results.json") == rows
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["ratios"] == {"claims.64.ledger/app_save": 40.0}
    assert list(stored["rows"][0]) == [
        "case",
        "contender",
        "callers",
        "processes",
        "rate_per_s",
        "p50_ms",
        "p99_ms",
        "cpu_s_per_1000",
        "exact",
    ]
    assert read(tmp_path / "absent.json") == []


def test_markdown_strikes_out_the_inexact_and_marks_redis() -> None:
    rows = [row("ledger", 4_000), row("redis_always", 8_000), row("leaky", 123_456, exact=False)]
    text = markdown(rows, "make bench")
    assert "`make bench`" in text
    assert "| ledger | 64 | 1 | 4,000 |" in text
    assert "| redis_always † | 64 | 1 | 8,000 |" in text
    assert "| leaky | 64 | 1 | ~~123,456~~ |" in text
    assert "| claims.64.ledger/redis_always | at least 1 | 0.5 | **no** |" in text


def test_tables_show_every_row_in_the_terminal() -> None:
    rows = [row("ledger", 4_000), row("redis_always", 8_000), row("copy", 5, case="bulk", p50_ms=None, p99_ms=None)]
    console = Console(width=120)
    with console.capture() as capture:
        for table in (row_table(rows), ratio_table(rows), target_table(rows)):
            console.print(table)
    text = capture.get()
    assert all(
        word in text for word in ("4,000", "redis_always †", "bulk", "claims.64.ledger/redis_always", "at least 1")
    )


def test_only_what_is_between_the_markers_is_replaced() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(document, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="once each"):
        replaced("no markers", "new")
