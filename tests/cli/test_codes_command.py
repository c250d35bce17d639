"""``coupon-ledger codes``: files of codes, once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

KEYS = "test=" + "k" * 32


@pytest.fixture
def run(database):
    """Runs ``coupon-ledger codes`` against the test's ledger."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "codes", *arguments],
            env={**os.environ, **settings, "COUPON_LEDGER_CODE_KEYS": KEYS, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_a_file_is_written_once_and_for_its_owner_only(run, shop, tmp_path):
    out, batch_id = tmp_path / "codes.csv", shop.batch()
    generate = ("generate", "--batch", batch_id, "--count", "500", "--job", "june")
    result = run(*generate, "--out", str(out))
    assert result.returncode == 0, result.stderr
    heading, *codes = out.read_text("utf-8").splitlines()
    assert (heading, len(set(codes))) == ("code", 500)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["codes.csv"]
    codes_id = result.stdout.split()[0]
    assert [each.event.TOPIC for each in shop.ledger.store.history(f"codes-{codes_id}")][1:] == ["codes.exported"]
    assert run(*generate, "--out", str(out)).returncode == 2  # never over a file
    again = run(*generate, "--out", str(tmp_path / "other.csv"))
    assert (again.returncode, "codes_exported" in again.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.csv"]


def test_lines_that_cannot_be_imported_are_named(run, shop, tmp_path):
    file, batch_id = tmp_path / "codes.csv", shop.batch()
    file.write_text('code,name\nOLD-1111,x\n"OLD 2222",y\n\nabc\nold1111\n', "utf-8")
    result = run("import", "--batch", batch_id, str(file))
    assert result.returncode == 2
    assert [line.split(" ")[0] for line in result.stderr.splitlines()[:2]] == ["codes.csv:5:", "codes.csv:6:"]
    file.write_text("OLD-1111\nOLD 2222\n", "utf-8")
    result = run("import", "--batch", batch_id, str(file))
    assert result.returncode == 0, result.stderr
    codes_id, count, _ = result.stdout.split()
    assert count == "2"
    assert run("revoke", codes_id, "--reason", "leak").returncode == 0
    assert shop.ledger.store.history(f"codes-{codes_id}")[-1].event.reason == "leak"


def test_without_a_key_it_says_so(run, shop, tmp_path):
    for keys, code in (("", 2), ("short=abc", 2)):
        result = run("export", "x", "--out", str(tmp_path / "x"), COUPON_LEDGER_CODE_KEYS=keys)
        assert result.returncode == code
        assert "code_keys" in result.stderr
        assert "abc" not in result.stderr
