"""``coupon-ledger history`` and ``coupon-ledger explain``."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
import pytest

from coupon_ledger.cli import run_cli
from ledger import use_cases
from ledger.history import moment as moments
from projections.catalogue import PROJECTIONS
from projections.checkpoints import install
from projections.runner import Runner
from tests.clock import clock_text
from tests.conftest import Shop


@pytest.fixture
def run(database):
    """Runs a command against the test's ledger."""

    def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", *arguments],
            env={**os.environ, **settings},
            input=given,
            capture_output=True,
            timeout=60,
        )

    return run


@pytest.fixture
def shown(run):
    """The JSON that a command prints."""

    def shown(*arguments: str, given: bytes = b""):
        result = run(*arguments, "--merchant", "merchant-1", "--json", given=given)
        assert (result.returncode, result.stderr) == (0, b""), result.stderr
        return orjson.loads(result.stdout)

    return shown


def test_shows_timelines_states_and_differences(run, shown, shop, ledger):
    batch_id = shop.batch(per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    issued = ledger.store.head()
    before = clock_text(ledger)
    ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    after = clock_text(ledger)
    Runner(ledger.store.database).catch_up()
    for words in (("coupon", coupon_id), ("order", "order-1"), ("user", "user-1")):
        events = shown("history", *words)
        assert [event["topic"] for event in events] == ["coupon.issued", "coupon.locked"], words
    assert [event["topic"] for event in shown("history", "batch", batch_id)] == ["batch.created", "batch.started"]
    assert shown("history", "coupon", coupon_id, "--at", before)["known"]["state"] == "UNUSED"
    assert shown("history", "coupon", coupon_id, "--position", str(issued))["known_position"] == issued
    assert shown("history", "batch", batch_id, "--at", after)["true"]["balance"]["locked"] == 1
    assert [each["state"] for each in shown("history", "user", "user-1", "--at", before)["known"]] == ["UNUSED"]
    assert len(shown("history", "order", "order-1", "--known-at", after)["known"]) == 1
    changed = shown("history", "coupon", coupon_id, "--at", before, "--until", after)["changed"]
    assert changed["state"] == {"before": "UNUSED", "after": "LOCKED"}
    counts = shown("history", "batch", batch_id, "--position", str(issued), "--until", after)["changed"]
    assert counts["balance.locked"] == {"before": 0, "after": 1}
    for words, members in ((("order", "order-1"), (None, "LOCKED")), (("user", "user-1"), ("UNUSED", "LOCKED"))):
        found = shown("history", *words, "--at", before, "--until", after)
        change = found["changed"][coupon_id]
        assert tuple(change[name] and change[name]["state"] for name in ("before", "after")) == members, words
        assert [event["topic"] for event in found["events"]] == ["coupon.locked"]
        between = ("--merchant", "merchant-1", "--at", before, "--until", after)
        assert "LOCKED" in run("history", *words, *between).stdout.decode()
    table = run("history", "coupon", coupon_id, "--merchant", "merchant-1", "--at", after).stdout.decode()
    assert "LOCKED" in table
    assert "lock_live" in table


def test_a_difference_has_two_positions_and_a_basis_as_over_http(shown, shop, ledger, long_ago):
    batch_id = shop.batch(per_user_limit=None)
    begin = ledger.store.head()
    claimed = ledger.do(use_cases.claim(shop.request(at=long_ago), batch_id, "user-1"))
    coupon_id, end = claimed.answer["coupon_id"], ledger.store.head()
    shop.coupon("user-1", batch_id)
    Runner(ledger.store.database).catch_up()
    between = ("--position", str(begin), "--until-position", str(end))
    found = shown("history", "user", "user-1", *between)
    assert (found["begin"]["known_position"], found["end"]["known_position"]) == (begin, end)
    assert found["changed"][coupon_id]["before"] is None
    assert [event["topic"] for event in found["events"]] == ["coupon.issued"]
    for words in (("user", "user-1"), ("coupon", coupon_id), ("batch", batch_id)):
        assert shown("history", *words, *between, "--basis", "true")["changed"] == {}, words
    known = shown("history", "coupon", coupon_id, *between, "--basis", "known")
    assert (known["before"], known["after"]["position"]) == (None, end)


def test_a_user_lacks_nothing_while_the_wallets_stand_still(shown, shop, ledger):
    batch_id = shop.batch(per_user_limit=None)
    install(ledger.store.database, PROJECTIONS)
    coupon_id, position = shop.coupon(batch_id=batch_id), ledger.store.head()
    then = shown("history", "user", "user-1", "--position", str(position))
    assert (then["known_position"], [each["coupon_id"] for each in then["known"]]) == (position, [coupon_id])
    assert [event["topic"] for event in shown("history", "user", "user-1")] == ["coupon.issued"]
    found = shown("history", "user", "user-1", "--position", "1", "--until-position", str(position))
    assert found["changed"].keys() == {coupon_id}


@pytest.mark.parametrize("between", [False, True])
def test_what_is_known_is_all_that_its_position_counts(between, shop, ledger, database, monkeypatch, capsys):
    """An event is committed just before the look at the end of the log, and is the last that the question counts."""
    batch_id = shop.batch(per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    quantity = use_cases.change_quantity(shop.request(), batch_id, expected=100, target=101)
    lock = use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id])
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("COUPON_LEDGER_SCHEMA", database.schema)
    for words, work in ((("coupon", coupon_id), lock), (("batch", batch_id), quantity)):
        head = ledger.store.head()

        def looked(connection, work=work, **asked):
            ledger.do(work)  # a second time it changes nothing
            return moments.moment(connection, **asked)

        monkeypatch.setattr("coupon_ledger.commands.history.moment", looked)
        last = (
            ["--position", str(head), "--until-position", str(head + 1)] if between else ["--position", str(head + 1)]
        )
        assert run_cli(["history", *words, "--merchant", "merchant-1", "--json", *last]) == 0
        found = orjson.loads(capsys.readouterr().out)
        assert (found["after"] if between else found["known"])["position"] == head + 1


def test_explains_a_refusal(run, shown, shop, ledger):
    coupon_id = shop.coupon()
    ledger.do(use_cases.void(shop.request(), coupon_id, reason="fraud"))
    asked = {"order_id": "order-1", "user_id": "user-1", "coupon_ids": [coupon_id]}
    body = orjson.dumps({"lock": asked, "code": "coupon_void"})
    found = shown("explain", "-", given=body)
    assert (found["refused"], found["code"], found["agrees"]) == (True, "coupon_void", True)
    assert [event["topic"] for event in found["because"]] == ["coupon.voided"]
    table = run("explain", "-", "--merchant", "merchant-1", given=body).stdout.decode()
    assert "coupon_void" in table
    assert "fraud" in table


def test_who_or_what_the_ledger_does_not_know_is_said(run, shop, ledger):
    coupon_id = shop.coupon()
    ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))

    def line(*arguments: str, merchant: str = "merchant-1") -> str:
        result = run("history", *arguments, "--merchant", merchant)
        assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (1, b"", 1), result.stderr
        return result.stderr.decode()

    assert "not_caught_up" in line("user", "user-1")
    Runner(ledger.store.database).catch_up()
    for moment in ((), ("--position", "1"), ("--position", "1", "--until", clock_text(ledger))):
        assert "knows no order ghost of merchant merchant-1" in line("order", "ghost", *moment)
        assert "knows no user ghost of merchant merchant-1" in line("user", "ghost", *moment)
    Shop(ledger, "merchant-2").coupon("user-9")
    assert "knows no order order-1 of merchant merchant-2" in line("order", "order-1", merchant="merchant-2")
    assert "knows no user user-1 of merchant merchant-2" in line("user", "user-1", merchant="merchant-2")
    for known in (("order", "order-1"), ("user", "user-1")):
        assert run("history", *known, "--merchant", "merchant-1", "--position", "1").returncode == 0


def test_a_moment_that_lies_ahead_is_told_by_its_option(run, shop):
    coupon_id = shop.coupon()
    ahead = "2999-01-01T00:00:00Z"
    for moment, option in (
        (("--position", "1", "--until", ahead), "--until"),
        (("--at", ahead), "--at"),
        (("--known-at", ahead), "--known-at"),
        (("--position", "999"), "--position"),
        (("--position", "1", "--until-position", "999"), "--until-position"),
    ):
        result = run("history", "coupon", coupon_id, "--merchant", "merchant-1", *moment)
        assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
        assert f"for {option}: ".encode() in result.stderr


@pytest.mark.parametrize("what", ["coupon", "batch", "order", "user"])
def test_a_moment_that_lies_before_the_first_is_told_by_its_option(what, run, shop, ledger):
    batch_id = shop.batch(per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    position = ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id])).position
    Runner(ledger.store.database).catch_up()
    id = {"coupon": coupon_id, "batch": batch_id, "order": "order-1", "user": "user-1"}[what]
    for option, value in (("--until-position", "2"), ("--until", "2026-01-01T00:00:00Z")):
        first = ("--merchant", "merchant-1", "--position", str(position))
        result = run("history", what, id, *first, option, value)
        assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (2, b"", 1)
        assert f"for {option}: the first moment must not lie after the second".encode() in result.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "code"),
    [
        (("history", "coupon", "nowhere", "--merchant", "merchant-1"), b"", 1),
        (("history", "batch", "nowhere", "--merchant", "merchant-1", "--position", "1"), b"", 1),
        (("history", "coupon", "nowhere"), b"", 2),
        (("history", "order", "o", "--merchant", "merchant-1", "--at", "yesterday"), b"", 2),
        (("history", "order", "o", "--merchant", "merchant-1", "--at", "2999-01-01T00:00:00Z"), b"", 2),
        (("history", "order", "o", "--merchant", "merchant-1", "--position", "99"), b"", 2),
        (("history", "order", "o", "--merchant", "merchant-1", "--until", "2026-01-01T00:00:00Z"), b"", 2),
        (("history", "order", "o", "--merchant", "merchant-1", "--position", "1", "--basis", "true"), b"", 2),
        (("history", "order", "o", "--merchant", "merchant-1", "--until-position", "1"), b"", 2),
        (
            (
                "history",
                "user",
                "user-1",
                "--merchant",
                "merchant-1",
                "--position",
                "1",
                "--until-position",
                "1",
                "--until",
                "2026-01-01T00:00:00Z",
            ),
            b"",
            2,
        ),
        (("explain", "-", "--merchant", "merchant-1"), b"{}", 2),
        (("explain", "-", "--merchant", "merchant-1"), b"no JSON", 2),
        (("explain", "-", "--merchant", "merchant-1"), b'{"lock": {}}', 2),
    ],
)
def test_what_it_cannot_do_is_one_line(arguments, given, code, run, shop):
    shop.coupon()
    result = run(*arguments, given=given)
    assert (result.returncode, result.stdout) == (code, b"")
    assert result.stderr.startswith(b"coupon-ledger: ")
    assert result.stderr.count(b"\n") == 1


def test_a_merchant_of_whom_nothing_is_known_is_refused(run, shop):
    coupon_id, batch_id = shop.coupon(), shop.batch()
    asked = orjson.dumps({"void": {"coupon_id": coupon_id, "reason": "fraud"}})
    for words in (
        ("history", "coupon", coupon_id),
        ("history", "batch", batch_id),
        ("history", "order", "order-1"),
        ("history", "user", "user-1", "--position", "1"),
        ("explain", "-"),
        ("what-if", "--batch", batch_id, "--quantity", "1"),
        ("what-if", "--template", "any", "--stacking", "exclusive"),
    ):
        result = run(*words, "--merchant", "merchant-x", given=asked)
        told = b"coupon-ledger: the ledger knows no merchant merchant-x\n"
        assert (result.returncode, result.stdout, result.stderr) == (2, b"", told), words
