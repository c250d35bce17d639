"""``coupon-ledger dead-letters``: many are retried or discarded at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from consumers.inputs import MEMBERS, ORDERS
from ledger import use_cases
from ledger.aggregate import coupon_id
from tests.kafka.conftest import sql
from tests.kafka.partition import Partition
from tests.kafka.test_members import registered
from tests.kafka.test_waiting import OVER, create, pay

__all__ = ["sql"]


@pytest.fixture
def run(database):
    """Runs ``coupon-ledger dead-letters`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "dead-letters", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def letters(ledger, shop, sql):
    """Two orders that came before their coupon, each created and paid; an order of another coupon; a member's."""
    batch = shop.batch(per_user_limit=None)
    coupons = [coupon_id(batch, "later", number) for number in range(2)]
    orders = Partition(ledger, ORDERS)
    for number, coupon in enumerate(coupons):
        orders.take(create(f"o-{number}", coupon), pay(f"o-{number}", coupon))
    orders.take(pay("o-2", shop.coupon()))
    sql(OVER)
    orders.try_again()
    Partition(ledger, MEMBERS).take(registered("user-1")._replace(value=b"{"))
    ledger.do(use_cases.issue(shop.request("later"), batch, ["user-1"] * 2))
    return coupons


def open_ones(run):
    return [(each["topic"], each["reason"]) for each in json.loads(run("list", "--json").stdout)]


def test_all_that_are_open_are_retried_in_their_order(run, letters, ledger):
    result = run("retry", "--all-open")
    assert result.stdout == "6 open: retried 4, malformed_json 1, not_locked 1\n"
    assert result.returncode == 1
    assert result.stderr == "coupon-ledger: 2 of 6 had no effect (still_dead)\n"
    assert sorted(open_ones(run)) == [(MEMBERS.topic, "malformed_json"), (ORDERS.topic, "not_locked")]
    for coupon in letters:
        assert [event.TOPIC for event in ledger.store.load([f"coupon-{coupon}"]).streams[f"coupon-{coupon}"]] == [
            "coupon.issued",
            "coupon.locked",
            "coupon.used",
        ]


def test_by_reason_topic_and_number(run, letters):
    result = run("retry", "--topic", ORDERS.topic, "--reason", "coupon_not_found", "--limit", "2")
    assert result.stdout == "4 open, the oldest 2 of them: retried 2\n"
    assert result.returncode == 0
    assert len(open_ones(run)) == 4
    result = run("discard", "--topic", MEMBERS.topic, "--note", "a test of the shop")
    assert (result.returncode, result.stdout) == (0, "1 open: discarded 1\n")
    assert MEMBERS.topic not in dict(open_ones(run))
    assert run("discard", "--all-open", "--note", "done by hand").stdout == "3 open: discarded 3\n"
    assert open_ones(run) == []
    (first, *_) = json.loads(run("list", "--all", "--json").stdout)
    assert first["settlement"] == "retried"
    assert run("retry", "--all-open").stdout == "0 open\n"


def test_ids_are_told_one_by_one(run, letters):
    (first, second, *_) = (str(each["id"]) for each in json.loads(run("list", "--json").stdout))
    assert run("retry", first).stdout == f"{first} retried\n"
    assert run("discard", second, "--note", "paid by hand").stdout == f"{second} discarded\n"
    settled = run("show", second).stdout
    assert "paid by hand" in settled


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "1", "--all-open"),
        ("retry", "1", "--topic", "t"),
        ("retry", "--all-open", "--limit", "0"),
        ("discard", "1"),
        ("discard", "--note", "nothing named"),
    ],
    ids=" ".join,
)
def test_it_is_said_which(run, arguments):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
