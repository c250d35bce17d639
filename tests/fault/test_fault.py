"""A few schedules of faults; ``make fault`` runs as many as are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.runs import runs
from tests.fault.schedule import Schedule

SEEDS = (4, 13, 10)
"""Among them are kills of a consumer, the deliverer, the alert process and backends. None kills the broker: that
leaves kafka-python with sockets that it never closes, which pytest takes for an error."""


def test_a_seed_is_a_schedule() -> None:
    assert Schedule.of(7) == Schedule.of(7) != Schedule.of(8)


@pytest.mark.timeout(400)
def test_promises_hold_while_things_break(tmp_path: Path) -> None:
    with runs(tmp_path) as all_runs:
        for seed in SEEDS:
            schedule = Schedule.of(seed)
            assert not all_runs.run(schedule), schedule
        assert not all_runs.checks.final()
