"""coupon-ledger analysts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from coupon_ledger.cli import run_cli
from ledger.application import Ledger
from ledger.database import Database
from projections.runner import Runner
from tests.conftest import Shop

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``coupon-ledger`` with arguments against an empty ledger."""

    def run(*arguments: str, **environment: str) -> CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        for name, value in {**settings, **environment}.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = run_cli(list(arguments))
        return CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def login(database: Database) -> Iterator[str]:
    """A name for a login, which is taken away whatever becomes of the test."""
    name = f"analyst_{uuid.uuid4().hex[:12]}"
    yield name
    with psycopg.connect(database.url, autocommit=True) as owner:
        if owner.execute("select from pg_roles where rolname = %s", (name,)).rowcount:
            owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def test_a_login_is_made_listed_and_dropped(run: Run, login: str, ledger: Ledger) -> None:
    for merchant in ("acme", "rival"):
        Shop(ledger, merchant).coupon()
    Shop(ledger, "other").batch()
    Runner(ledger.store.database).catch_up()
    made = run("analysts", "create", login, "--merchant", "acme", "--merchant", "other")
    assert (made.returncode, made.stderr) == (0, "")
    password = made.stdout.strip()
    with psycopg.connect(make_conninfo(ledger.store.database.url, user=login, password=password)) as session:
        assert session.execute("select merchant_id, state from coupons").fetchall() == [("acme", "UNUSED")]
        listed = json.loads(run("analysts", "list", "--json").stdout)
        assert listed == [{"login": login, "merchants": ["acme", "other"], "sessions": 1}]
    assert password not in run("analysts", "list").stdout
    again = run("analysts", "create", login, "--merchant", "rival")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert run("analysts", "drop", login).stdout == f"dropped {login}\n"
    assert run("analysts", "list").stdout == "none\n"
    gone = run("analysts", "drop", login)
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    assert "analyst_not_found" in gone.stderr


def test_a_login_without_a_password(run: Run, login: str, ledger: Ledger, database: Database) -> None:
    Shop(ledger, "acme").batch()
    made = run("analysts", "create", login, "--merchant", "acme", "--no-password")
    assert (made.returncode, made.stdout) == (0, f"{login} may log in without a password of ours\n")
    with psycopg.connect(database.url) as owner:
        kept = owner.execute("select rolpassword from pg_authid where rolname = %s", (login,)).fetchone()
    assert kept == (None,)


def test_bad_usage_is_one_line(run: Run, login: str, ledger: Ledger) -> None:
    Shop(ledger, "acme").batch()
    for arguments in (
        (login,),
        ("coupon_ledger_app", "--merchant", "acme"),
        (login, "--merchant", ""),
        (login, "--merchant", "acme", "--merchant", "acmee"),
    ):
        answer = run("analysts", "create", *arguments)
        assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert "knows no merchant acmee" in answer.stderr
    assert run("analysts", "list").stdout == "none\n"


def test_who_may_make_no_roles_hears_so_in_one_line(run: Run, login: str, ledger: Ledger, database: Database) -> None:
    Shop(ledger, "acme").batch()
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login in role coupon_ledger_app").format(sql.Identifier(login)))
    url = make_conninfo(database.url, user=login)
    answer = run("analysts", "create", f"{login}_2", "--merchant", "acme", DATABASE_URL=url)
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "permission denied" in answer.stderr
