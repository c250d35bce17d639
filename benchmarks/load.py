"""Drives callers: threads in processes, warm before the clock starts, and measures what they did.

The rate counts operations that ended inside the measured seconds. Latencies are those of every operation that began
in them, however long it took, so that a caller that starves shows. CPU is that of the client processes alone, user
and system, from the start of the clock until the last caller came back.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import BrokenBarrierError
from typing import Any, Protocol

from benchmarks.results import Row

READY_SECONDS = 180.0
"""What bounds starting the processes and warming them."""

Step = Callable[[], object]
"""One operation of one caller, durable when it returns."""


class Driver(Protocol):
    """What callers do. It is pickled to each process, and opened there."""

    def callers(self, process: int, count: int) -> AbstractContextManager[Sequence[Step]]:
        """The steps of the ``count`` callers of that process, one for each, with connections of their own."""


@dataclass(slots=True)
class Measured:
    """What callers did."""

    seconds: float
    acknowledged: int = 0
    """Operations that came back, warming and the last ones too: what must be found in the store afterwards."""
    in_time: int = 0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """In seconds, sorted."""

    def row(self, case: str, contender: str, callers: int, processes: int, *, exact: bool) -> Row:
        """The row of results."""
        return Row(
            case=case,
            contender=contender,
            callers=callers,
            processes=processes,
            rate_per_s=round(self.in_time / self.seconds, 1),
            p50_ms=percentile_ms(self.latencies, 0.5),
            p99_ms=percentile_ms(self.latencies, 0.99),
            cpu_s_per_1000=round(self.cpu_seconds / max(1, len(self.latencies)) * 1_000, 3),
            exact=exact,
        )


def percentile_ms(latencies: Sequence[float], share: float) -> float | None:
    """The share's value of sorted latencies in seconds, in milliseconds."""
    if not latencies:
        return None
    return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1_000, 2)


def drive(driver: Driver, *, callers: int, processes: int, seconds: float) -> Measured:
    """Run that many callers, spread evenly over the processes. Raises what a caller raised."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes)
    whole = Measured(seconds)
    shares = [callers // processes + (process < callers % processes) for process in range(processes)]
    with ProcessPoolExecutor(processes, context, initializer=_share, initargs=(ready,)) as pool:
        parts = [pool.submit(_drive, driver, process, count, seconds) for process, count in enumerate(shares)]
        failures = [failure for part in parts if (failure := part.exception()) is not None]
        # A process that fails breaks the barrier for the others, whose failures say nothing.
        for failure in sorted(failures, key=lambda failure: isinstance(failure, BrokenBarrierError)):
            raise failure
        for part in parts:
            done = part.result()
            whole.acknowledged += done.acknowledged
            whole.in_time += done.in_time
            whole.cpu_seconds += done.cpu_seconds
            whole.latencies += done.latencies
    whole.latencies.sort()
    return whole


_ready: Any = None


def _share(barrier: Any) -> None:
    global _ready  # noqa: PLW0603  # a barrier reaches a pool's process in no other way
    _ready = barrier


def _drive(driver: Driver, process: int, count: int, seconds: float) -> Measured:
    try:
        with driver.callers(process, count) as steps:
            return _Callers(steps, seconds).run()
    except BaseException:
        _ready.abort()
        raise


class _Callers:
    """The callers of one process."""

    def __init__(self, steps: Sequence[Step], seconds: float) -> None:
        self._steps, self._seconds = steps, seconds
        self._warm = threading.Barrier(len(steps) + 1)
        self._go = threading.Event()
        self._ends_at = 0.0
        self._failures: list[BaseException] = []
        self._timings: list[list[tuple[float, float]]] = [[] for _ in steps]

    def run(self) -> Measured:
        threads = [
            threading.Thread(target=self._call, args=(step, timings), daemon=True)
            for step, timings in zip(self._steps, self._timings, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            self._warm.wait(READY_SECONDS)
            _ready.wait(READY_SECONDS)
        except BrokenBarrierError:
            raise (self._failures or [BrokenBarrierError("callers were not warm in time")])[0] from None
        cpu = time.process_time()
        self._ends_at = time.perf_counter() + self._seconds
        self._go.set()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
        done = Measured(self._seconds, len(self._steps), cpu_seconds=time.process_time() - cpu)
        for timings in self._timings:
            done.acknowledged += len(timings)
            done.in_time += sum(ended <= self._ends_at for _, ended in timings)
            done.latencies += [ended - begun for begun, ended in timings]
        return done

    def _call(self, step: Step, timings: list[tuple[float, float]]) -> None:
        try:
            step()
            self._warm.wait(READY_SECONDS)
            self._go.wait()
            while (begun := time.perf_counter()) < self._ends_at:
                step()
                timings.append((begun, time.perf_counter()))
        except BaseException as failure:
            self._failures.append(failure)
            self._warm.abort()
