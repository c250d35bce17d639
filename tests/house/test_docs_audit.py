"""docs/audit.md is run: its commands as they stand, in their order, from a coupon's id to a verified proof."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from api import keys
from ledger import use_cases
from ledger.database import Database
from projections.runner import Runner
from tests.conftest import MERCHANT, Shop

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "audit.md").read_text("utf-8").partition("## What the seal shows")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@contextmanager
def process(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[None]:
    """A process of the service, ended as a supervisor ends it."""
    with subprocess.Popen([sys.executable, "-m", "coupon_ledger", *arguments], env=environment, cwd=folder) as child:
        try:
            yield
        finally:
            child.terminate()
            assert child.wait(20) == 0


def until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{url}/livez", timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def run(commands: str, environment: dict[str, str], folder: Path) -> str:
    """What the commands of one block print. All of them must go well."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (commands, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def coupon_id(shop: Shop) -> str:
    """Of a coupon that was used."""
    coupon_id = shop.coupon()
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    return coupon_id


def test_an_auditor_gets_from_a_coupon_to_a_proof(
    database: Database, shop: Shop, coupon_id: str, tmp_path: Path, free_port: int
) -> None:
    with shop.ledger.store.connection() as connection:
        token = keys.create(connection, MERCHANT, "auditor", "auditor")
    Runner(Database(database.url, database.schema, "coupon_ledger_projector")).catch_up()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DATABASE_URL": database.url,
        "COUPON_LEDGER_SCHEMA": database.schema,
        "COUPON_LEDGER_STATE": str(tmp_path),
        "COUPON_LEDGER_HTTP_BIND": f"127.0.0.1:{free_port}",
        "COUPON_LEDGER_HTTP_WORKERS": "1",
        "API": f"http://127.0.0.1:{free_port}",
        "TOKEN": token,
        "COUPON": coupon_id,
        "PYTHONPATH": str(ROOT),
    }
    said = []
    with ExitStack() as service:
        for number, block in enumerate(BLOCKS):
            said.append(run(block, environment, tmp_path))
            if number == 0:
                service.enter_context(process(environment, tmp_path, "seal"))
                service.enter_context(process(environment, tmp_path, "serve"))
                until_it_answers(environment["API"])
            shop.coupon()  # the log goes on between the auditor's visits
    assert (tmp_path / "coupons.vkey").read_text("utf-8") == said[0]
    [verified] = [text for text, block in zip(said, BLOCKS, strict=True) if "coupon-ledger verify" in block]
    assert "the seal's keys are those given\n" in verified
    assert "events of a checkpoint that was kept" in " ".join(verified.split())
    verdicts = [text for text, block in zip(said, BLOCKS, strict=True) if "coupon-ledger-audit" in block]
    assert len(verdicts) == 4
    assert all(text.endswith("all is right\n") for text in verdicts)
    assert f"coupon-{coupon_id} 2 coupon.locked at position" in verdicts[0]
    assert f"--  coupons: not shown: that nothing came after version 2 of coupon-{coupon_id}" in verdicts[0]
    assert "ok  last: the log begins with" in verdicts[1]
    assert "--whole" in BLOCKS[said.index(verdicts[2])]
    assert "ok  balances: 1 published balances" in verdicts[2]
    assert "not shown" not in verdicts[2]
