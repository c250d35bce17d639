"""The command line as a person and a program meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from ledger.database import Database
from projections.catalogue import PROJECTIONS
from tests.conftest import drop_ledger

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database: Database) -> Run:
    """Runs ``coupon-ledger`` with arguments against an empty ledger."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", *arguments],
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dead-letters",),
        ("nonsense",),
        ("consume", "nothing"),
        ("keys", "create", "--merchant", "m"),
        ("keys", "create", "--merchant", "m", "--role", "king", "--name", "n"),
        ("keys", "create", "--merchant", "", "--role", "orders", "--name", "n"),
        ("dead-letters", "show", "one"),
        ("projections", "rebuild", "no-such-model"),
        ("expire", "--unknown"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("coupon-ledger: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("COUPON_LEDGER_HTTP_WORKERS", "many"),
        ("COUPON_LEDGER_HTTP_BIND", "nonsense"),
        ("DATABASE_URL", "garbage"),
        ("KAFKA_BOOTSTRAP", "garbage"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(run: Run, variable: str, value: str) -> None:
    result = run("keys", "list", **{variable: value})
    assert result.returncode == 2
    assert variable.removeprefix("COUPON_LEDGER_").lower() in result.stderr.lower()
    assert result.stderr.count("\n") == 1


def test_a_ledger_that_is_not_migrated_says_what_to_do(run: Run) -> None:
    result = run("keys", "list", COUPON_LEDGER_SCHEMA="never_migrated")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "coupon-ledger migrate" in result.stderr


def test_an_unreachable_database_is_one_line_and_exit_code_1(run: Run) -> None:
    result = run("keys", "list", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_keys_from_creation_to_revocation(run: Run) -> None:
    created = run("keys", "create", "--merchant", "acme", "--role", "operator", "--name", "back office")
    assert created.returncode == 0, created.stderr
    token = created.stdout.strip()
    key_id, secret = token.split(".", 1)
    listed = json.loads(run("keys", "list", "--json").stdout)
    assert [(key["key_id"], key["merchant_id"], key["role"]) for key in listed] == [(key_id, "acme", "operator")]
    assert secret not in json.dumps(listed)
    assert "acme" in run("keys", "list").stdout
    assert run("keys", "revoke", key_id).returncode == 0
    again = run("keys", "revoke", key_id)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


def test_migrate_twice_does_nothing_the_second_time(run: Run, database: Database) -> None:
    fresh = {"COUPON_LEDGER_SCHEMA": f"{database.schema}_cli"}
    assert "0001_events.sql" in run("migrate", **fresh).stdout
    assert run("migrate", **fresh).stdout == ""
    drop_ledger(database.url, fresh["COUPON_LEDGER_SCHEMA"])


def test_an_empty_ledger_after_migration(run: Run) -> None:
    assert run("migrate").returncode == 0
    assert run("ready").returncode == 0
    status = json.loads(run("projections", "status", "--json").stdout)
    assert {model["name"] for model in status} == {projection.name for projection in PROJECTIONS}
    assert all(model["lag_events"] == 0 for model in status)
    assert run("dead-letters", "list").stdout == "none\n"
    assert json.loads(run("dead-letters", "list", "--json").stdout) == []
    assert run("expire").stdout == "0 written down\n"


def test_help_and_version(run: Run) -> None:
    assert "Usage:" in run("--help").stdout
    assert run("--version").stdout.startswith("coupon-ledger, version ")
