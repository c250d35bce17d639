"""``coupon-ledger demo`` as a stranger runs it: servers, processes, messages, reconciliation, exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(240)
def test_a_part_of_the_year_reconciles_and_exits_with_0(tmp_path: Path) -> None:
    others = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "KAFKA_BOOTSTRAP")}
    result = subprocess.run(
        [sys.executable, "-m", "coupon_ledger", "demo", "--exit", "--campaigns", "24", "--state", str(tmp_path)],
        env=others,
        capture_output=True,
        text=True,
        timeout=220,
    )
    assert result.returncode == 0, result.stderr
    assert "coupons issued" in result.stdout
    assert "DIFFERS" not in result.stdout

    verified = subprocess.run(
        [sys.executable, "-m", "coupon_ledger", "verify", "--json"],
        env=others | {"COUPON_LEDGER_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=220,
    )
    assert verified.returncode == 0, verified.stderr
    looked_at = {check["id"]: check["looked_at"] for check in json.loads(verified.stdout)["checks"]}
    assert looked_at["I10"] > 0  # every read model, replayed row by row
    assert looked_at["I15"] == looked_at["I9"] > 0  # the seal, over the whole log
