"""``coupon-ledger reconcile``: a file compared, commands proposed, approved and applied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import use_cases
from ledger.database import Database
from tests.conftest import Shop

Run = Callable[..., subprocess.CompletedProcess[str]]
HEADING = "order_id,coupon_id,state,discount_minor,currency,at\n"


@pytest.fixture
def run(database: Database) -> Run:
    """Runs ``coupon-ledger reconcile`` against the test's ledger."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "reconcile", *map(str, arguments)],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def orders(shop: Shop, tmp_path: Path) -> Path:
    """A file of one order that the ledger knows as held alone."""
    coupon_id = shop.coupon()
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    path = tmp_path / "orders.csv"
    path.write_text(f"{HEADING}order-1,{coupon_id},paid,200,EUR,2026-11-22T10:00:00Z\n", "utf-8")
    return path


def test_compares_proposes_and_applies(run: Run, orders: Path, tmp_path: Path) -> None:
    proposals = tmp_path / "proposals.ndjson"
    told = ("--orders", orders, "--merchant", "merchant-1")
    result = run(*told, "--propose", proposals, "--proposed-by", "alice")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("missing: order order-1, coupon ")
    assert "  proposed: confirm\n" in result.stdout
    assert "0 equal, 1 missing in the ledger, 0 extra in the ledger, 0 differing\n" in result.stdout
    assert "taken off, in minor units of EUR: 200 by the file, 0 by the ledger\n" in result.stdout

    result = run("--apply", proposals, "--approved-by", "alice")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "coupon-ledger: line 1 was proposed by alice, who cannot approve it\n"

    result = run("--apply", proposals, "--approved-by", "bob")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "line 1: confirm done at position 6\n1 proposals: 1 done, 0 done before, 0 refused\n"
    result = run("--apply", proposals, "--approved-by", "bob", "--json")
    first, summary = map(json.loads, result.stdout.splitlines())
    assert (first["result"], first["position"]) == ("done before", 6)
    assert summary == {"summary": {"proposals": 1, "done": 0, "done before": 1, "refused": 0}}

    result = run(*told)
    assert result.returncode == 0
    assert "1 equal, 0 missing" in result.stdout


def test_json_is_an_object_a_line(run: Run, orders: Path) -> None:
    result = run("--orders", orders, "--merchant", "merchant-1", "--json", "--since", "2026-01-01T00:00:00Z")
    finding, summary = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 1
    assert (finding["kind"], finding["order_id"], finding["line"]) == ("missing", "order-1", 2)
    assert (finding["ledger"]["use"], finding["ledger"]["last_position"]) == ("held", 5)
    assert summary["summary"]["missing"] == 1
    assert summary["summary"]["since"] == "2026-01-01T00:00:00Z"
    assert summary["summary"]["money"] == [{"currency": "EUR", "told_minor": 200, "ledger_minor": 0}]


def test_bad_lines_are_told_and_nothing_is_compared(run: Run, orders: Path, tmp_path: Path) -> None:
    with orders.open("a", encoding="utf-8") as file:
        file.write(
            "order-2,coupon-2,sold,200,EUR,2026-11-22T10:00:00Z\norder-3,coupon-3,paid,-1,EUR,2026-11-22T10:00:00Z\n"
        )
    proposals = tmp_path / "proposals.ndjson"
    result = run("--orders", orders, "--merchant", "merchant-1", "--propose", proposals)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "orders.csv:3: state is paid, cancelled, refunded",
        "orders.csv:4: discount_minor is a whole number of minor units from 0 to below 10^12",
        "coupon-ledger: nothing was compared: line 3 state is paid, cancelled, refunded, and 1 more",
    ]
    assert not proposals.exists()


def test_bad_usage_is_one_line(run: Run, orders: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    unnamed = tmp_path / "orders"
    unnamed.touch()
    heading = tmp_path / "heading.csv"
    heading.write_text(HEADING, "utf-8")
    twice = tmp_path / "twice.csv"
    twice.write_text(f"state,{HEADING}", "utf-8")
    told = ("--orders", orders, "--merchant", "merchant-1")
    for arguments, word in (
        ((), "--orders and --merchant are needed"),
        (("--orders", orders), "--orders and --merchant are needed"),
        (("--apply", there), "--apply needs --approved-by"),
        (("--apply", there, "--orders", orders, "--approved-by", "bob"), "goes with neither"),
        (("--orders", unnamed, "--merchant", "m"), "name csv or ndjson"),
        (("--orders", orders, "--merchant", "m", "--propose", there), "is there already"),
        (("--orders", orders, "--merchant", "m", "--since", "yesterday"), "--since"),
        (("--orders", tmp_path / "gone", "--merchant", "m"), "does not exist"),
        ((*told, "--propose", tmp_path / "gone" / "p"), "No such file or directory"),
        ((*told, "--propose", orders / "p"), "Not a directory"),
        ((*told, "--since", "2026-11-22T10:00:00"), "--since"),
        ((*told, "--since", "2026-11-23T00:00:00.5Z", "--until", "2026-11-23T00:00:00Z"), "ends before it begins"),
        (("--orders", heading, "--merchant", "merchant-1"), "the file has no lines"),
        (("--orders", twice, "--merchant", "merchant-1"), "names state twice"),
        (("--orders", orders, "--merchant", "m"), "the ledger knows no merchant m"),
        (("--orders", orders, "--merchant", "m\udcff"), "merchant is 1 to 128 printable characters"),
        ((*told, "--propose", tmp_path / "p", "--proposed-by", "\u0430lice"), "printable ASCII"),
    ):
        result = run(*arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), arguments
        assert word in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"there", "orders", "heading.csv", "twice.csv", "orders.csv"}


def test_the_span_takes_fractions_and_offsets(run: Run, orders: Path) -> None:
    span = ("--since", "2026-11-22T11:00:00.25+02:00", "--until", "2026-11-22T10:00:00.000001Z")
    result = run("--orders", orders, "--merchant", "merchant-1", *span)
    assert result.returncode == 1, result.stderr
    assert "from 2026-11-22T09:00:00.250000+00:00 to 2026-11-22T10:00:00.000001+00:00" in result.stdout


def test_times_out_of_the_calendar_are_bad_lines(run: Run, orders: Path) -> None:
    for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z"):
        orders.write_text(f"{HEADING}order-1,coupon-1,paid,200,EUR,{at}\n", "utf-8")
        result = run("--orders", orders, "--merchant", "merchant-1")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.splitlines()[0] == "orders.csv:2: at is in a year from 1970 to 9000"
        assert len(result.stderr.splitlines()) == 2
