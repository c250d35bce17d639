"""``coupon-ledger projections`` and ``coupon-ledger replay``: what an operator sees, and what the exit code says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from coupon_ledger.cli import run_cli
from ledger.database import Database
from projections.catalogue import PROJECTIONS
from projections.runner import Runner
from tests.postgres.test_projections_runner import append_raw, owner


class Told(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


Run = Callable[..., Told]


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against the test's ledger."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("COUPON_LEDGER_SCHEMA", database.schema)

    def run(*arguments: str) -> Told:
        code = run_cli(list(arguments))
        said = capsys.readouterr()
        return Told(code, said.out, said.err)

    return run


@pytest.fixture
def poison(shop: Any, database: Database) -> int:
    """The position of an event that is no JSON, and that stops all that fold what batches do."""
    shop.coupon("user-1")
    position = append_raw(database, "batch-x", 3, "batch.paused", "no json")
    Runner(database).catch_up()
    return position


def test_a_model_that_stopped_is_looked_at_and_let_go_on(run: Run, poison: int) -> None:
    told = json.loads(run("projections", "inspect", "batch_balance", "--json").out)
    assert (told["state"], told["event_position"], told["event_payload"]) == ("FAULTED", poison, "no json")
    for word in ("FAULTED", "batch.paused", "no json", f"position {poison}"):
        assert word in run("projections", "inspect", "batch_balance").out

    assert run("projections", "retry", "batch_balance").out == "batch_balance goes on\n"
    refused = run("projections", "skip", "batch_balance", "--reason", "a test")
    assert (refused.code, refused.err) == (
        1, "coupon-ledger: batch_balance runs: there is nothing to skip (projection_not_faulted)\n",
    )  # fmt: skip


def test_all_that_stopped_are_let_go_on(run: Run, shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    append_raw(database, "coupon-1", 2, "coupon.gilded", "{}")
    Runner(database).catch_up()
    told = run("projections", "retry", "--all")
    names = sorted(projection.name for projection in PROJECTIONS)
    assert (told.code, told.out.splitlines()) == (0, [f"{name} goes on" for name in names])
    assert run("projections", "retry", "--all").out == "none is faulted\n"


def test_several_are_rebuilt_and_one_that_cannot_be_is_told(run: Run, poison: int) -> None:
    names = ("wallet", "batch_balance", "coupon_status", "wallet")
    told = run("projections", "rebuild", *names)
    assert told.code == 1
    assert [line.split()[0] for line in told.out.splitlines()] == ["wallet", "coupon_status"]
    assert told.err.startswith(f"coupon-ledger: batch_balance cannot fold position {poison}: ")
    assert (told.err.count("\n"), told.err.endswith(" (unfoldable)\n")) == (1, True)


def test_a_skip_is_written_down_and_listed(run: Run, database: Database, poison: int) -> None:
    assert run("projections", "skips").out == "none\n"
    elsewhere = run("projections", "skip", "batch_balance", "--reason", "a test", "--position", "1")
    assert elsewhere.code == 1
    assert f"at position {poison} (projection_elsewhere)" in elsewhere.err
    said = run("projections", "skip", "batch_balance", "--reason", "a test", "--position", str(poison), "--by", "ann")
    assert said == (0, f"batch_balance passes over position {poison} (batch.paused) and goes on\n", "")
    [listed] = json.loads(run("projections", "skips", "batch_balance", "--json").out)
    assert (listed["position"], listed["reason"], listed["actor"]) == (poison, "a test", "ann")
    assert json.loads(run("projections", "skips", "wallet", "--json").out) == []
    status = {row["name"]: row for row in json.loads(run("projections", "status", "--json").out)}
    assert {name: row["skips"] for name, row in status.items() if row["skips"]} == {"batch_balance": 1}
    Runner(database).catch_up()
    assert "; 1 skipped as before" in run("projections", "rebuild", "batch_balance").out
    refused = run("projections", "rebuild", "batch_balance", "--fold-skipped")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert f"batch_balance cannot fold position {poison}: " in refused.err
    assert "(unfoldable)" in refused.err
    with owner(database) as connection:  # as if its code were mended
        connection.execute("alter table events disable trigger events_append_only")
        connection.execute("update events set topic = 'template.created' where notification_id = %s", (poison,))
    assert "; 1 that it skipped are folded" in run("projections", "rebuild", "batch_balance", "--fold-skipped").out
    assert "skipped" not in run("projections", "rebuild", "batch_balance").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("projections", "skip", "wallet"),
        ("projections", "skip", "wallet", "--reason", " "),
        ("projections", "inspect", "horoscope"),
        ("projections", "rebuild"),
        ("projections", "retry"),
        ("projections", "retry", "wallet", "--all"),
        ("projections", "rebuild", "wallet", "--all"),
        ("projections", "rebuild", "wallet", "horoscope"),
        ("projections", "rebuild", "--all", "--fold-skipped"),
        ("projections", "rebuild", "wallet", "--by", "ann"),
        ("replay", "--to", "3"),
        ("replay", "--models", "wallet,horoscope"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    told = run(*arguments)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)


def test_rebuilt_switched_back_and_freed(run: Run, shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    Runner(database).catch_up()
    assert run("projections", "rebuild", "--all").out == "none is outdated\n"
    assert run("projections", "rebuild", "wallet").out == "wallet rebuilt to position 4: 1 rows, as before\n"
    shop.coupon("user-2")
    Runner(database).catch_up()
    back = run("projections", "switch-back", "wallet")
    assert back.out == "wallet switched back at position 8: 4 events were folded into it first\n"
    with owner(database) as connection:
        connection.execute("update wallet_v2 set discount_minor = 7 where user_id = 'user-1'")
    rebuilt = run("projections", "rebuild", "wallet").out
    assert "2 rows, 1 row DIFFERENT, the first at merchant_id=merchant-1 user_id=user-1 coupon_id=" in rebuilt
    assert run("projections", "drop-before", "wallet").out == "wallet has no table of before any more\n"
    for command in ("switch-back", "drop-before"):
        told = run("projections", command, "wallet")
        assert (told.code, told.err.count("\n")) == (1, 1)
        assert "(nothing_before)" in told.err
    assert run("projections", "switch-back", "funnel").code == 1


def test_what_is_outdated_is_rebuilt(run: Run, shop: Any, database: Database) -> None:
    """As after an upgrade: the checkpoint and the table are of a version before."""
    shop.coupon("user-1")
    Runner(database).catch_up()
    with owner(database) as connection:
        connection.execute("alter table wallet_v2 rename to wallet_v1")
        connection.execute("update projection_checkpoints set version = 1 where name = 'wallet'")
    assert "wallet is live in version 1" in run("replay").err
    assert run("ready") == (1, "", "coupon-ledger: not ready: projections (unavailable)\n")
    shown = {row["name"]: row for row in json.loads(run("projections", "status", "--json").out)}
    assert {name for name, row in shown.items() if row["state"] != "RUNNING"} == {"wallet"}
    wallet = shown["wallet"]
    assert (wallet["state"], wallet["version"], wallet["release_version"]) == ("OUTDATED", 1, 2)
    [line] = [line for line in run("projections", "status").out.splitlines() if "OUTDATED" in line]
    assert [cell.strip() for cell in line.split("│")[1:5]] == ["wallet", "1", "2", "OUTDATED"]
    told = run("projections", "rebuild", "--all")
    assert (told.code, told.out) == (0, "wallet rebuilt to position 4: 1 rows, first of their version\n")
    assert run("ready").code == 0
    refused = run("projections", "switch-back", "wallet")
    assert refused.code == 1
    assert "switch back with the release that folds version 1 (other_release)" in refused.err


def test_a_replay_says_what_differs(run: Run, shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    Runner(database).catch_up()
    same = run("replay", "--models", "wallet,coupon_status")
    assert same == (0, "wallet at position 4: 1 rows, as live\ncoupon_status at position 4: 1 rows, as live\n", "")
    with owner(database) as connection:
        connection.execute("update wallet_v2 set discount_minor = 7")
    differs = run("replay", "--models", "wallet")
    assert differs.code == 1
    first, live, replayed = differs.out.splitlines()
    assert first.startswith("wallet at position 4: 1 rows, 1 row DIFFERENT, the first at merchant_id=merchant-1")
    assert '"discount_minor":7' in live and '"discount_minor":0' in replayed
    told = run("replay", "--models", "wallet", "--json")
    assert told.code == 1
    [found] = json.loads(told.out)
    assert (found["differing"], found["live_row"]["discount_minor"]) == (1, 7)


def test_a_replay_is_kept_to_look_at(run: Run, shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    shop.coupon("user-2")
    Runner(database).catch_up()
    schema = f"{database.schema}_kept"
    try:
        told = run("replay", "--models", "wallet", "--to", "4", "--keep", schema, "--json")
        [kept] = json.loads(told.out)
        assert (told.code, kept["name"], kept["position"], kept["rows"]) == (0, "wallet", 4, 1)
        assert (kept["compared"], kept["not_compared"]) == (None, "its rows do not say when they last moved")
        again = run("replay", "--keep", schema)
        assert (again.code, again.err.count("\n")) == (1, 1)
        assert run("replay", "--keep", f"{schema}2", "--to", "9").code == 2
    finally:
        with owner(database) as connection:
            connection.execute(f'drop schema "{schema}" cascade'.encode())


def test_a_slice_that_differs_is_told(run: Run, shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    shop.coupon("user-2")
    Runner(database).catch_up()
    with owner(database) as connection:
        connection.execute("update coupon_status_v2 set discount_minor = 7")
    schema = f"{database.schema}_kept"
    try:
        told = run("replay", "--models", "coupon_status", "--to", "4", "--keep", schema, "--json")
        [kept] = json.loads(told.out)
        assert (told.code, kept["rows"], kept["compared"], kept["differing"]) == (1, 1, 1, 1)
    finally:
        with owner(database) as connection:
            connection.execute(f'drop schema "{schema}" cascade'.encode())
