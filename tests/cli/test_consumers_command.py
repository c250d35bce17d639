"""``coupon-ledger consumers``: where each partition stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from consumers.inputs import ORDERS
from tests.kafka.partition import Partition
from tests.kafka.test_waiting import create, pay


@pytest.fixture
def run(database):
    """Runs ``coupon-ledger consumers`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "consumers", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_nobody_has_read_yet(run):
    assert run("status").stdout == "none\n"
    assert json.loads(run("status", "--json").stdout) == []


def test_shows_what_is_behind_and_what_waits(run, shop, ledger):
    orders = Partition(ledger, ORDERS)
    coupon = shop.coupon()
    orders.take(pay("o-1", coupon), create("o-2", coupon, coupon))
    orders.note_end(9)
    (row,) = json.loads(run("status", "--json").stdout)
    assert row.pop("seen_seconds_ago") >= 0
    assert row == {
        "consumer_group": "test",
        "topic": ORDERS.topic,
        "partition": 0,
        "next_offset": 2,
        "end_offset": 9,
        "lag": 7,
        "waiting": 1,
        "open_dead_letters": 1,
    }
    table = run("status").stdout
    assert ORDERS.topic in table
    assert "open dead letters" in " ".join(table.split())


def test_a_command_is_needed(run):
    result = run()
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
