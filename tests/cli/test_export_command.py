"""``coupon-ledger export`` as an operator runs it: files, memory, kills, one line for what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from projections import checkpoints
from projections.catalogue import PROJECTIONS, VERSIONS
from projections.runner import Runner

ROWS = 300_000
RSS_LIMIT_MIB = 400
"""What a page of rows, Arrow and the libraries take, generously: all rows at once take more than twice that."""


@pytest.fixture
def environment(database):
    return {**os.environ, "DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}


@pytest.fixture
def run(environment):
    """Runs ``coupon-ledger`` on the test's ledger."""

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "coupon_ledger", *map(str, arguments)]
        return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=100)

    return run


@pytest.fixture
def small(database, shop):
    """A ledger with a few coupons."""
    for number in range(3):
        shop.coupon(f"user-{number}")
    checkpoints.install(database, PROJECTIONS)
    Runner(database, PROJECTIONS).catch_up()
    return shop


def test_it_says_what_it_wrote_and_the_check_agrees(run, small, tmp_path):
    folder = tmp_path / "out"
    first = run("export", "--to", "parquet", "--output", folder)
    assert first.returncode == 0, first.stderr
    assert "coupon_status" in first.stdout
    assert "SHA-256" in first.stdout
    small.coupon("user-9")
    second = run("export", "--to", "parquet", "--output", folder, "--continue", "--what", "log", "--json")
    assert second.returncode == 0, second.stderr
    told = {one["what"]: one for one in json.loads(second.stdout)["exported"]}
    assert (told["log"]["new_files"], told["log"]["position"]) == (1, small.ledger.store.head())
    checked = run("export-check", folder, "--json")
    assert (checked.returncode, json.loads(checked.stdout)["findings"]) == (0, [])
    assert json.loads(checked.stdout)["log_position"] == small.ledger.store.head()
    next(folder.glob("log/*/*.parquet")).unlink()
    checked = run("export-check", folder)
    assert (checked.returncode, checked.stderr.count("\n")) == (1, 1)
    assert "is missing" in checked.stdout


def test_bad_usage_is_one_line(run, small, tmp_path):
    out = ("--output", tmp_path / "out")
    for arguments, words in (
        (("--to", "xml", *out), "xml"),
        (("--to", "csv", *out, "--what", "log,passwords"), "passwords"),
        (("--to", "csv", *out, "--after", "5", "--continue"), "--after"),
        (("--to", "csv"), "--output"),
    ):
        result = run("export", *arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), arguments
        assert words in result.stderr
        assert not (tmp_path / "out").exists()
    assert run("export", "--to", "csv", *out).returncode == 0
    lost, damaged = (shutil.copytree(tmp_path / "out", tmp_path / name) for name in ("lost", "damaged"))
    (lost / "manifest.json").unlink()
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["files"][0]["path"] = 1
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    for arguments, words in (
        (("export", "--to", "csv", *out), "--continue adds to it"),
        (("export", "--to", "ndjson", *out, "--continue"), "format csv"),
        (("export-check", tmp_path), "no manifest.json"),
        (("export", "--to", "csv", "--output", lost), "no manifest.json"),
        (("export", "--to", "csv", "--output", lost, "--continue"), "no manifest.json"),
        (("export-check", damaged), "files[0].path"),
        (("export", "--to", "csv", "--output", damaged, "--continue"), "files[0].path"),
    ):
        result = run(*arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert words in result.stderr


def test_a_merchant_of_whom_the_ledger_knows_nothing_is_one_line(run, small, tmp_path):
    for merchant, words in (("merchant-9", "knows no merchant merchant-9"), ("", "merchant is 1 to")):
        result = run("export", "--to", "csv", "--output", tmp_path / "out", "--merchant", merchant)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
        assert words in result.stderr
        assert not (tmp_path / "out").exists()
    result = run("export", "--to", "csv", "--output", tmp_path / "out", "--merchant", small.merchant_id)
    assert result.returncode == 0, result.stderr


def test_positions_beyond_the_log_are_one_line(run, small, tmp_path):
    head = small.ledger.store.head()
    for positions, words in (
        (("--after", head + 1), f"--after {head + 1}"),
        (("--until-position", head + 1), f"--until-position {head + 1}"),
        (("--after", 3, "--until-position", 2), "--until-position 2"),
    ):
        result = run("export", "--to", "csv", "--output", tmp_path / "out", *positions)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert words in result.stderr
        assert not list((tmp_path / "out").rglob("*.csv"))


def test_what_was_passed_over_is_told(run, small, database, tmp_path):
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        connection.execute(
            "insert into projection_skips (name, version, position, reason, actor)"
            " select name, version, 2, 'a test', 'cli:ann' from projection_checkpoints where name = 'wallet'"
        )
    result = run("export", "--to", "csv", "--output", tmp_path, "--json")
    assert result.returncode == 0
    assert {one["what"]: one["skips"] for one in json.loads(result.stdout)["exported"] if one["skips"]} == {"wallet": 1}
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("wallet was made to pass over 1 event,")
    assert json.loads((tmp_path / "manifest.json").read_text())["models"]["wallet"]["skips"] == 1
    result = run("export", "--to", "csv", "--output", tmp_path, "--continue", "--what", "log")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_read_model_of_another_version_is_told(run, small, database, tmp_path):
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        connection.execute(
            "update projection_checkpoints set version = version + 1, position = 3 where name = 'wallet'"
        )
    result = run("export", "--to", "csv", "--output", tmp_path, "--json")
    assert (result.returncode, result.stderr.count("\n")) == (0, 1), result.stderr
    version = VERSIONS["wallet"]
    assert result.stderr.startswith(f"wallet is exported in version {version + 1} as it stands at position 3, ")
    assert f"version {version}: " in result.stderr
    assert json.loads(result.stdout)["outdated"] == ["wallet"]
    assert json.loads((tmp_path / "manifest.json").read_text())["models"]["wallet"]["version"] == version + 1
    result = run("export", "--to", "csv", "--output", tmp_path, "--continue", "--what", "coupon_status")
    assert (result.returncode, result.stderr) == (0, "")


def test_without_pyarrow_parquet_is_one_line(run, small, tmp_path):
    broken = tmp_path / "broken" / "pyarrow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not installed')\n")
    result = run("export", "--to", "parquet", "--output", tmp_path / "out", PYTHONPATH=str(broken.parent))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "coupon-ledger[export]" in result.stderr
    result = run("export", "--to", "ndjson", "--output", tmp_path / "out", PYTHONPATH=str(broken.parent))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("format", ["parquet", "csv", "ndjson"])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(environment, run, database, shop, tmp_path, format):
    lengthen(database, shop, 5_000)
    out = tmp_path / "out"
    # No file may become longer: what the system says then is like a full disk, each time that more is written.
    command = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", sys.executable, "-m", "coupon_ledger"]
    arguments = ["export", "--to", format, "--output", str(out), "--what", "log"]
    result = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert result.stderr.startswith(f"coupon-ledger: {out}/log/day=")
    assert "File too large" in result.stderr
    assert not list(out.rglob("*.part"))
    assert run(*arguments).returncode == 0
    assert run("export-check", out).returncode == 0


def test_a_full_disk_at_the_manifest(environment, database, tmp_path):
    checkpoints.install(database, PROJECTIONS)  # whose columns are longer in the manifest than their rows
    command = ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", sys.executable, "-m", "coupon_ledger"]
    arguments = ["export", "--to", "ndjson", "--output", str(tmp_path)]
    result = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert str(tmp_path) in result.stderr and "manifest.json" in result.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "manifest.json").exists()


def test_a_file_in_the_way_is_one_line(run, small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log").write_text("in the way")
    result = run("export", "--to", "csv", "--output", tmp_path / "out")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "log" in result.stderr


def lengthen(database, shop, rows: int) -> None:
    """A log of so many coupons, whose events are as long as real ones."""
    shop.coupon("pattern")
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        connection.execute(
            """
            insert into events (originator_id, originator_version, topic, state, notification_id)
            select 'coupon-' || md5(n::text), 1, topic, state, notification_id + n
              from events cross join generate_series(1, %s) n
             where notification_id = (select max(notification_id) from events)
            """,
            (rows,),
        )


# What getrusage tells begins with the memory of the process that started this one.
MEASURED = """
import re, sys
from pathlib import Path
from coupon_ledger.cli import run_cli
code = run_cli(sys.argv[1:])
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
sys.exit(code)
"""


@pytest.mark.parametrize("format", ["parquet", "csv", "ndjson"])
def test_memory_does_not_grow_with_the_log(database, shop, environment, tmp_path, format):
    lengthen(database, shop, ROWS)
    command = [sys.executable, "-c", MEASURED, "export", "--to", format, "--output", tmp_path, "--what", "log"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert sum(file["rows"] for file in manifest["files"]) == shop.ledger.store.head() > ROWS
    assert int(result.stdout.splitlines()[-1]) < RSS_LIMIT_MIB


def test_a_killed_export_leaves_no_half_file_and_is_done_again(database, shop, environment, run, tmp_path):
    lengthen(database, shop, 100_000)
    arguments = ["export", "--to", "parquet", "--output", str(tmp_path), "--what", "log", "--continue"]
    assert run(*arguments, "--until-position", "1000").returncode == 0
    before = (tmp_path / "manifest.json").read_bytes()
    with subprocess.Popen([sys.executable, "-m", "coupon_ledger", *arguments], env=environment) as export:
        while not [path for path in tmp_path.rglob("*.part") if path.stat().st_size]:
            assert export.poll() is None
            time.sleep(0.01)
        export.send_signal(signal.SIGKILL)
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert list(tmp_path.rglob("*.part"))
    assert sum(pq.read_metadata(path).num_rows for path in tmp_path.rglob("part-*.parquet")) == 1_000
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert run("export-check", tmp_path).returncode == 0
    assert sum(pq.read_metadata(path).num_rows for path in tmp_path.rglob("*.parquet")) == shop.ledger.store.head()
