"""``coupon-ledger demo`` as a stranger runs it: servers, processes, messages, reconciliation, exit code."""

from __future__ import annotations

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
