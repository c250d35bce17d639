"""The whole command, on servers of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import results
from benchmarks.__main__ import CASES


def bench(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """``make bench`` without make."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        env=os.environ | ({} if path is None else {"PATH": path}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_case_that_fails_is_named_and_the_others_are_measured_and_kept(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    before = [
        results.Row(
            case=case,
            contender="ledger",
            callers=1,
            processes=1,
            rate_per_s=1.0,
            p50_ms=None,
            p99_ms=None,
            cpu_s_per_1000=0.0,
            exact=True,
        )
        for case in ("claims", "lock_confirm", "growth_claims_10k")
    ]
    results.write(output, before)
    small = ["--seconds", "0.2", "--callers", "2", "--processes", "1", "--stored", "1"]
    run = bench("--case", "lock_confirm", "--case", "growth", *small, "--output", str(output))

    assert run.returncode == 1, run.stdout + run.stderr
    assert "failed: growth" in run.stdout
    assert "ValueError" in run.stderr
    assert "lock_confirm.2.ledger/app_save" in run.stdout
    rows = results.read(output)
    assert [(row.case, row.contender) for row in rows] == [
        ("claims", "ledger"),
        ("lock_confirm", "ledger"),
        ("lock_confirm", "app_save"),
        ("lock_confirm", "relational"),
    ]
    assert all(row.exact for row in rows)
    assert json.loads(output.read_text())["ratios"] == results.ratios(rows)


def test_a_missing_redis_is_one_line_before_anything_is_measured(tmp_path: Path) -> None:
    run = bench("--case", "claims", "--output", str(tmp_path / "results.json"), path=str(tmp_path))
    assert run.returncode == 2
    assert run.stderr == "redis-server is missing: apt-get install redis-server (Debian's package)\n"
    assert not (tmp_path / "results.json").exists()


def test_the_results_kept_are_of_cases_that_exist() -> None:
    assert {results.case_of(row.case) for row in results.read(results.RESULTS)} <= set(CASES)
