"""Drives a contender from threads in processes for a bounded time, and measures what it did."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import CONTENDERS, Contender, random_user

START_DELAY_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Load:
    """What one process is asked to do."""

    contender: str
    url: str
    schema: str
    threads: int
    start_at: float
    seconds: float


def contender_class(name: str) -> type[Contender]:
    """The contender of that name."""
    return next(contender for contender in CONTENDERS if contender.name == name)


def drive(load: Load) -> tuple[list[float], float]:
    """Latencies in seconds of every call, and this process's CPU seconds."""
    contender = contender_class(load.contender)(load.url, load.schema, load.threads)
    latencies: list[list[float]] = [[] for _ in range(load.threads)]

    def call(mine: list[float]) -> None:
        contender.claim(random_user())  # connections and caches are warm before the clock starts
        time.sleep(max(0.0, load.start_at - time.time()))
        end_at = load.start_at + load.seconds
        while (begun := time.time()) < end_at:
            contender.claim(random_user())
            mine.append(time.time() - begun)

    threads = [threading.Thread(target=call, args=(mine,)) for mine in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contender.close()
    return [latency for mine in latencies for latency in mine], time.process_time()


def run(contender: str, url: str, schema: str, callers: int, processes: int, seconds: float) -> dict[str, Any]:
    """One row of results: rate, latencies and CPU of that many callers spread over processes."""
    start_at = time.time() + START_DELAY_SECONDS
    load = Load(contender, url, schema, callers // processes, start_at, seconds)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.map(drive, [load] * processes, chunksize=1)
    latencies = sorted(latency for part, _ in parts for latency in part)
    return {
        "case": "claims",
        "contender": contender,
        "callers": callers,
        "processes": processes,
        "rate_per_s": round(len(latencies) / seconds, 1),
        "p50_ms": round(latencies[len(latencies) // 2] * 1_000, 2),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1_000, 2),
        "cpu_s_per_1000": round(sum(cpu for _, cpu in parts) / len(latencies) * 1_000, 3),
    }
