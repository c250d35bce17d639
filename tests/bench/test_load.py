"""Callers in processes: what is counted, and what is not swallowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.load import Measured, percentile_ms

DRIVERS = """
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.load import drive


@dataclass
class Sleep:
    slow_at_first: float = 0.0

    @contextmanager
    def callers(self, process, count):
        steps = []
        for caller in range(count):
            sleeps = iter([self.slow_at_first])
            steps.append(lambda sleeps=sleeps: time.sleep(next(sleeps, 0.01)))
        yield steps


class FailSecond:
    @contextmanager
    def callers(self, process, count):
        if process == 1:
            raise ValueError("no such place")
        yield [lambda: None] * count


class FailOnce:
    @contextmanager
    def callers(self, process, count):
        def step(turns=iter(range(3))):
            if next(turns, 9) == 2:
                raise ValueError("sold out")
        yield [step] + [lambda: time.sleep(0.01)] * (count - 1)


if __name__ == "__main__":
    import sys

    driver = {"sleep": Sleep(0.4), "second": FailSecond(), "once": FailOnce()}[sys.argv[1]]
    done = drive(driver, callers=5, processes=2, seconds=0.3)
    print(json.dumps(asdict(done)))
"""


def driven(tmp_path: Path, name: str) -> subprocess.CompletedProcess[str]:
    """The output of five callers in two processes; a program of its own, because processes import it by its file."""
    program = tmp_path / "drivers.py"
    program.write_text(DRIVERS)
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, str(program), name],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_callers_of_all_processes_count_and_warming_does_not(tmp_path: Path) -> None:
    run = driven(tmp_path, "sleep")
    done = Measured(**json.loads(run.stdout))
    assert done.acknowledged == len(done.latencies) + 5
    assert len(done.latencies) - 5 <= done.in_time <= len(done.latencies)
    assert 5 <= done.in_time <= 5 * 30
    assert done.latencies == sorted(done.latencies)
    assert done.latencies[0] >= 0.01
    # The slow first step of each caller came before the clock, whose time is too short for it.
    assert done.row("claims", "sleep", 5, 2, exact=True).rate_per_s > 5 / 0.3


def test_a_process_that_cannot_open_its_place_ends_the_run(tmp_path: Path) -> None:
    run = driven(tmp_path, "second")
    assert run.returncode == 1
    assert "ValueError: no such place" in run.stderr


def test_a_caller_that_fails_ends_the_run(tmp_path: Path) -> None:
    run = driven(tmp_path, "once")
    assert run.returncode == 1
    assert "ValueError: sold out" in run.stderr


def test_percentiles_are_of_whole_lists() -> None:
    latencies = [number / 1_000 for number in range(1, 101)]
    assert percentile_ms(latencies, 0.5) == 51.0
    assert percentile_ms(latencies, 0.99) == 100.0
    assert percentile_ms([0.002], 0.99) == 2.0
    assert percentile_ms([], 0.5) is None
