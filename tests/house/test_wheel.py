"""The built wheel, in an environment of its own: it holds everything, claims its names alone, and starts."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from ledger.database import Database

ROOT = Path(__file__).parents[2]
PACKAGES = {"ledger", "projections", "api", "consumers", "coupon_ledger", "coupon_ledger_audit"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean virtual environment with the wheel and the locked production dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--requirement", ROOT / "requirements.lock"], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    subprocess.run([folder / "bin" / "pip", "check"], check=True, capture_output=True)
    return folder


def test_it_holds_every_module_and_data_file_and_no_tests(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert shipped >= set(tracked)
    assert {name.split("/")[0] for name in shipped} == PACKAGES


def test_its_names_belong_to_it_alone(environment: Path) -> None:
    code = (
        "import importlib.metadata as m; names = m.packages_distributions();"
        f"assert all(names[n] == ['coupon-ledger'] for n in {sorted(PACKAGES)}), names"
    )
    subprocess.run([environment / "bin" / "python", "-c", code], check=True)


def test_it_says_what_is_missing_without_the_embedded_extra(environment: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [environment / "bin" / "coupon-ledger", "migrate"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "coupon-ledger[embedded]" in result.stderr


def test_it_serves(environment: Path, database: Database, free_port: int, tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port}"
    settings = {
        "DATABASE_URL": database.url,
        "COUPON_LEDGER_SCHEMA": database.schema,
        "COUPON_LEDGER_HTTP_BIND": bind,
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    with subprocess.Popen([environment / "bin" / "coupon-ledger", "serve"], cwd=tmp_path, env=settings) as server:
        try:
            with urllib.request.urlopen(_when_up(f"http://{bind}/livez", server)) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"http://{bind}/openapi.json") as answer:
                assert b'"openapi"' in answer.read()
        finally:
            server.terminate()


def _when_up(url: str, server: subprocess.Popen[bytes]) -> str:
    import time

    for _ in range(300):
        assert server.poll() is None
        try:
            urllib.request.urlopen(url).close()
            return url
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not answer")
