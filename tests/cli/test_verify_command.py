"""``coupon-ledger verify``: its report, its one line, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from ledger.database import Database
from tests.conftest import Shop

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database: Database) -> Run:
    """Runs ``coupon-ledger verify`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "verify", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_says_that_all_is_right(run: Run, shop: Shop) -> None:
    shop.coupon()
    result = run()
    assert (result.returncode, result.stderr) == (0, "")
    assert "I17" in result.stdout and "WRONG" not in result.stdout
    assert "not sealed" in result.stdout
    assert "the log to position 4, in " in result.stdout


def test_names_the_first_position_in_one_line(run: Run, shop: Shop, database: Database) -> None:
    shop.coupon()
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update events set topic = 'os:system' where notification_id = 4")
        connection.execute("update batch_stock set issued = issued + 1")
    result = run("--only", "Stock, catalogue")
    assert result.returncode == 1
    assert result.stderr == ("coupon-ledger: not as it must be: catalogue, stock, first at position 4 (catalogue)\n")
    assert "expected an event of the catalogue; found the topic 'os:system'" in " ".join(result.stdout.split())
    result = run("--json", "--only", "stock,catalogue")
    report = json.loads(result.stdout)
    assert result.returncode == 1
    assert (report["ok"], report["first_bad_position"], report["position"]) == (False, 4, 4)
    [catalogue, stock] = report["checks"]
    assert (catalogue["id"], catalogue["ok"], catalogue["wrong"], catalogue["first_bad_position"]) == (
        *("catalogue", False),
        *(1, 4),
    )
    assert catalogue["findings"] == [
        {
            "position": 4,
            "stream": catalogue["findings"][0]["stream"],
            "expected": "an event of the catalogue",
            "found": "the topic 'os:system'",
        }
    ]
    assert stock["first_bad_position"] == 2, "the last event that counts: the batch's creation"
    assert stock["findings"][0]["expected"] == "(quantity, taken) (100, 0)"


def test_a_check_that_there_is_not(run: Run) -> None:
    result = run("--only", "I1,I99")
    assert result.returncode == 2
    assert result.stderr.startswith("coupon-ledger: Invalid value for --only: I99 is no check: catalogue, ")
    assert result.stderr.count("\n") == 1


def test_no_check_named_is_not_all_of_them(run: Run) -> None:
    for only in ("", "I1,", " "):
        result = run("--only", only)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("coupon-ledger: Invalid value for --only: an empty name is no check: ")


def test_a_database_without_the_ledger(run: Run, database: Database) -> None:
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}", autocommit=True) as connection:
        connection.execute("drop table events cascade")
    result = run()
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "run coupon-ledger migrate" in result.stderr
