"""The Spark job of ``examples/spark`` on real exports: it agrees where all is well, and finds what is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ledger.application import Ledger
from ledger.database import Database
from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.export.run import Options, export
from projections.runner import Runner
from tests.conftest import Shop
from tests.postgres.lives import Lives

ROOT = Path(__file__).parents[2]
JOB = ROOT / "examples" / "spark" / "batch_balances.py"
BATCHES = 4

Job = Callable[[Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def job(spark_python: Path, spark_environment: dict[str, str]) -> Job:
    """Runs the job on a folder."""

    def job(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [spark_python, JOB, folder]
        return subprocess.run(command, env=spark_environment, capture_output=True, text=True, timeout=280)

    return job


@pytest.fixture
def lived(database: Database, ledger: Ledger) -> Database:
    """A ledger with batches whose coupons took every step, and one that issued nothing."""
    shop = Shop(ledger)
    for seed in range(BATCHES - 1):
        lives = Lives(shop, seed)
        for _ in range(10):
            lives.go_on(80)
    shop.batch(quantity=7, start=False)
    checkpoints.install(database, PROJECTIONS)
    Runner(database, PROJECTIONS).catch_up()
    return database


@pytest.mark.timeout(600)
def test_every_batch_balance_is_recomputed_from_the_exported_log(lived: Database, job: Job, tmp_path: Path) -> None:
    options = Options(format="parquet", what=("log", "batch_balance"))
    done = export(lived, tmp_path / "whole", options)
    result = job(tmp_path / "whole")
    position = done.manifest.models["batch_balance"].position
    assert (result.stdout, result.returncode) == (f"{BATCHES} batches at position {position}: 0 differ\n", 0), result

    change = (
        "update batch_balance_v{} set used = used - 1, expired = expired + 1 where batch_id = (select min(batch_id)"
    )
    version = next(projection.version for projection in PROJECTIONS if projection.name == "batch_balance")
    with psycopg.connect(lived.url, options=f"-c search_path={lived.schema}") as connection:
        connection.execute((change.format(version) + " from batch_balance where used > 0)").encode())
    export(lived, tmp_path / "changed", options)
    result = job(tmp_path / "changed")
    assert result.returncode == 1, result
    assert f"{BATCHES} batches at position {position}: 1 differ\n" in result.stdout
    assert '"recomputed": {"quantity": 1000,' in result.stdout


def test_an_export_that_holds_too_little_is_one_line(lived: Database, job: Job, tmp_path: Path) -> None:
    for name, options in {
        "csv": Options(format="csv"),
        "log": Options(format="parquet", what=("log",)),
        "late": Options(format="parquet", after=5),
        "short": Options(format="parquet", until=5),
    }.items():
        export(lived, tmp_path / name, options)
        result = job(tmp_path / name)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result


def test_what_spark_cannot_read_is_no_difference(lived: Database, job: Job, tmp_path: Path) -> None:
    done = export(lived, tmp_path, Options(format="parquet", what=("log", "batch_balance")))
    path = tmp_path / done.manifest.files[0].path
    path.write_bytes(path.read_bytes()[:-1])
    result = job(tmp_path)
    assert result.returncode == 2, result
    assert result.stderr.splitlines()[-1].startswith(f"batch_balances: {tmp_path}: ")
