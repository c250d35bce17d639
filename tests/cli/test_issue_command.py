"""``coupon-ledger issue`` and ``coupon-ledger jobs``."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys

import pytest

from api.job_answers import shown
from ledger.issuance import jobs as issuance_jobs
from tests.http.jobs import USERS, settle, step


@pytest.fixture
def run(database):
    """Runs ``coupon-ledger`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_issues_watches_and_undoes(run, shop, ledger, tmp_path):
    batch_id = shop.batch(quantity=2)
    file = tmp_path / "users.csv.gz"
    file.write_bytes(gzip.compress(b"user_id\nuser-1\nuser-2\nuser-3\n =x\n", mtime=0))
    issue = ("issue", "--file", str(file), "--batch", batch_id, "--merchant", "merchant-1")
    begun = run(*issue, "--no-wait", "--json")
    assert (begun.returncode, begun.stderr) == (0, "")
    job = json.loads(begun.stdout)
    assert (job["state"], job["accepted"], job["rejected"], job["issued"]) == ("RUNNING", 3, 1, 0)
    settle(ledger)
    again = run(*issue)
    assert (again.returncode, again.stderr) == (0, "")
    told = dict(line.split(maxsplit=1) for line in again.stdout.splitlines() if len(line.split(maxsplit=1)) > 1)
    assert (told["job_id"], told["state"], told["issued"]) == (job["job_id"], "FINISHED", "2")
    assert (told["refused"], told["waiting"], float(told["rows_per_second"]) > 0) == ("{'sold_out': 1}", "0", True)
    assert "upload_id" not in told
    assert run("jobs", "show", job["job_id"]).stdout == again.stdout
    failures = run("jobs", "failures", job["job_id"]).stdout.splitlines()
    assert [line.split(",")[:3] for line in failures] == [
        ["row", "user_id", "code"],
        ["4", " =x", "invalid_field"],
        ["3", "user-3", "sold_out"],
    ]
    (listed,) = json.loads(run("jobs", "list", "--merchant", "merchant-1", "--batch", batch_id, "--json").stdout)
    assert listed == json.loads(run("jobs", "show", job["job_id"], "--json").stdout)
    assert (listed["job_id"], listed["refused"]) == (job["job_id"], {"sold_out": 1})
    table = run("jobs", "list", "--merchant", "merchant-1").stdout
    assert job["job_id"] in table
    assert all(name in table for name in ("waiting", "rows per second", "seconds left", "{'sold_out': 1}"))
    assert run("jobs", "list", "--merchant", "merchant-2").stdout == "none\n"
    undone = run("jobs", "undo", job["job_id"], "--reason", "wrong users", "--no-wait", "--json")
    assert json.loads(undone.stdout)["state"] == "UNDOING"
    while step(ledger):
        pass
    watched = json.loads(run("jobs", "show", job["job_id"], "--watch", "--json").stdout)
    assert (watched["state"], watched["voided"], watched["undo_reason"]) == ("UNDONE", 2, "wrong users")


def _begun(run, shop, tmp_path):
    """The id of a job of three users, for two of whom there are coupons."""
    file = tmp_path / "users.csv"
    file.write_bytes(USERS)
    issue = ("issue", "--file", str(file), "--batch", shop.batch(quantity=2), "--merchant", "merchant-1")
    return json.loads(run(*issue, "--no-wait", "--json").stdout)["job_id"]


def _told(ledger, job_id):
    """The API's answer."""
    with ledger.store.connection() as connection:
        return shown(issuance_jobs.find(connection, job_id))


def test_shows_what_the_api_answers(run, shop, ledger, tmp_path):
    job_id = _begun(run, shop, tmp_path)
    for _ in ("none settled", "all settled"):
        told = _told(ledger, job_id)
        assert json.loads(run("jobs", "show", job_id, "--json").stdout) == told
        assert json.loads(run("jobs", "list", "--merchant", "merchant-1", "--json").stdout) == [told]
        step(ledger)


def test_the_bar_tells_the_rate(run, database, shop, ledger, tmp_path):
    job_id = _begun(run, shop, tmp_path)
    settle(ledger)
    rate = _told(ledger, job_id)["rows_per_second"]
    seen, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "coupon_ledger", "jobs", "show", job_id, "--watch", "--json"],
        env={
            **os.environ,
            "DATABASE_URL": database.url,
            "COUPON_LEDGER_SCHEMA": database.schema,
            "TERM": "xterm",
            "COLUMNS": "120",
        },
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        timeout=60,
        check=True,
    )
    bar = os.read(seen, 65_536).decode()
    for end in (seen, terminal):
        os.close(end)
    assert "3/3" in bar
    assert f"{rate:,.0f} rows/s" in bar


@pytest.mark.parametrize(
    ("content", "name", "arguments", "code", "said"),
    [
        (b"name\na\n", "users.csv", (), 2, "line 1 is not a heading"),
        (b"user_id\n \n", "users.csv", (), 2, "no row of the file is good"),
        (b"", "users.csv", (), 2, "the file has no rows"),
        (b"user_id\na\n", "users.txt", (), 2, "--format"),
        (b"user_id\na\n", "users.csv.gz", (), 2, "gzip is broken"),
        (b"user_id\na\n", "users.csv", ("--format", "ndjson"), 2, "no row of the file is good"),
        (b"user_id\na\n", "users.csv", ("--merchant", "merchant-2"), 1, "batch_not_found"),
        (b"user_id\na\n", "users.csv", ("--batch", "nowhere"), 1, "batch_not_found"),
        (None, "users.csv", (), 2, "does not exist"),
    ],
)
def test_bad_input_is_one_line(content, name, arguments, code, said, run, shop, tmp_path):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    result = run("issue", "--file", str(file), "--batch", shop.batch(), "--merchant", "merchant-1", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
    assert result.stderr.startswith("coupon-ledger: ")
    assert result.stderr.count("\n") == 1


def test_an_unknown_job_is_one_line(run):
    for arguments in (("show", "x"), ("failures", "x"), ("undo", "x", "--reason", "r")):
        result = run("jobs", *arguments)
        assert (result.returncode, result.stderr) == (1, "coupon-ledger: No such job (job_not_found)\n")
