"""Case commit_latency: claims and lock_confirm with 1 ms more for each flush, nearer to a cloud disk.

Only contenders on PostgreSQL: its ``commit_delay`` makes the delay, and Redis has no such setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.claims import measure_all
from benchmarks.contenders import CONTENDERS
from benchmarks.options import Options
from benchmarks.results import Row
from benchmarks.servers import FLUSH_DELAY_US, lone_commit_ms, slow_flush

SEEN_AT_LEAST_MS = FLUSH_DELAY_US / 1_000 * 0.9


def measure(options: Options) -> Iterator[Row]:
    """The rows of both cases; raises ``RuntimeError`` when a lone commit does not take the delay."""
    quick = lone_commit_ms(options.url)
    with slow_flush(options.url):
        slow = lone_commit_ms(options.url)
        if slow - quick < SEEN_AT_LEAST_MS:
            raise RuntimeError(f"a flush is not delayed: {quick:.2f} ms without, {slow:.2f} ms with the delay")
        options.tell(f"a lone INSERT and its commit: {quick:.2f} ms, with the delay {slow:.2f} ms")
        durable = [contender for contender in CONTENDERS if contender.on_postgres]
        for case in ("claims", "lock_confirm"):
            for row in measure_all(case, options, [c for c in durable if c.confirms or case == "claims"]):
                yield replace(row, case=f"{case}_1ms")
