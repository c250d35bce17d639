"""``coupon-ledger verify``: its report, its one line, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from coupon_ledger_audit.note import WITNESS, Checkpoint, SigningKey, sign
from ledger.database import Database
from tests.conftest import Shop
from tests.postgres.seals import KEY, ORIGIN, last_of, seal, superuser

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Run:
    """Runs ``coupon-ledger verify`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "DATABASE_URL": database.url,
            "COUPON_LEDGER_SCHEMA": database.schema,
            "COUPON_LEDGER_SEAL_FOLDER": str(tmp_path / "seal"),
        }
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


@pytest.fixture
def sealed(database: Database, shop: Shop, tmp_path: Path) -> Path:
    """The folder of a ledger's seal."""
    shop.coupon()
    seal(database, tmp_path / "seal")
    shop.coupon()
    seal(database, tmp_path / "seal")
    return tmp_path / "seal"


def test_a_forged_ledger_passes_by_its_own_keys_alone(
    run: Run, database: Database, sealed: Path, tmp_path: Path
) -> None:
    """Log, tiles, notes and keys are all rewritten."""
    key, last = tmp_path / "coupons.vkey", tmp_path / "last-checkpoint"
    key.write_text(f"{KEY.verifier()}\n", "utf-8")
    last.write_bytes((sealed / "checkpoint").read_bytes())
    asked = ("--only", "I15", "--key", str(key), "--last", str(last))
    right = run(*asked)
    assert (right.returncode, right.stderr) == (0, "")
    assert "\nthe seal's keys are those given\n" in right.stdout
    size = last.read_text("utf-8").splitlines()[1]
    assert f"beginning with the {size} events of a checkpoint that was kept" in right.stdout
    with superuser(database) as owner:
        owner.execute("update events set recorded_at = recorded_at + interval '1 us' where notification_id = 4")
        owner.execute("truncate checkpoints, cosignatures, seal_keys, seal_anchors")
    shutil.rmtree(sealed)
    last_of(sealed).unlink()
    seal(database, sealed, SigningKey.generate(ORIGIN))
    believed = run("--only", "I15")
    assert (believed.returncode, believed.stderr) == (0, "")
    assert (
        "\nthe seal's keys are those that the database names: who can rewrite the database can name" in believed.stdout
    )
    assert json.loads(run("--only", "I15", "--json").stdout)["seal_keys"] == "database"
    found = run(*asked)
    assert found.returncode == 1
    assert found.stderr == "coupon-ledger: not as it must be: I15, at no position of the log (I15)\n"
    told = " ".join(found.stdout.split())
    assert f"the checkpoint is not signed by {ORIGIN}+{KEY.verifier().id.hex()}" in told
    assert f"the events of the positions 1 to {size} are not those of the checkpoint that was kept" in told
    report = json.loads(run(*asked, "--json").stdout)
    assert (report["ok"], report["seal_keys"], report["first_bad_position"]) == (False, "given", None)


def test_a_tail_that_was_cut_off_is_seen_by_who_kept_a_checkpoint(
    run: Run, database: Database, sealed: Path, tmp_path: Path
) -> None:
    last = tmp_path / "last-checkpoint"
    last.write_bytes((sealed / "checkpoint").read_bytes())
    with superuser(database) as owner:
        owner.execute("delete from checkpoints where size = (select max(size) from checkpoints)")
        [(size, note)] = owner.execute("select size, note from checkpoints").fetchall()
        owner.execute("delete from events where notification_id > %s", (size,))
    (sealed / "checkpoint").write_text(note, "utf-8")
    key = ("--only", "I15", "--key", str(KEY.verifier()))
    assert run(*key).returncode == 0
    found = run(*key, "--last", str(last))
    assert found.returncode == 1
    assert found.stderr == f"coupon-ledger: not as it must be: I15, first at position {size + 1} (I15)\n"


def test_keys_and_checkpoints_that_are_none(run: Run, tmp_path: Path) -> None:
    key, witness, other = str(KEY.verifier()), SigningKey.generate("w", WITNESS), SigningKey.generate("other")
    note = tmp_path / "note"
    note.write_text(sign(Checkpoint("other", 1, bytes(32)), other), "utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "two").write_text(f"{key}\n{key}\n", "utf-8")
    secret = KEY.text()
    for arguments, word in (
        (("--key", "nowhere.vkey"), "--key: neither a key nor a file of one: the key is not of the form"),
        (("--key", ""), "--key: neither a key nor a file of one"),
        (("--key", "x" * 5_000), "--key: neither a key nor a file of one"),
        (("--key", key[:-4]), "--key: neither a key nor a file of one"),
        (("--key", secret), "--key: neither a key nor a file of one"),
        (("--key", str(tmp_path)), "--key: neither a key nor a file of one"),
        (("--key", str(tmp_path / "binary")), "--key: neither a key nor a file of one"),
        (("--key", str(tmp_path / "two")), "--key: neither a key nor a file of one"),
        (("--key", str(witness.verifier())), "--key: w is the key of a witness"),
        (("--key", key, "--last", "nowhere"), "--last"),
        (("--key", key, "--last", str(tmp_path / "binary")), "--last: "),
        (("--key", key, "--last", str(note)), "the checkpoint is not signed by"),
        (("--last", str(note)), "--last needs --key"),
        (("--key", key, "--only", "I1"), "--key is of the check I15"),
    ):
        result = run(*arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), (arguments, result)
        assert result.stderr.startswith("coupon-ledger: ") and word in result.stderr, (word, result.stderr)
        assert secret not in result.stderr
