"""What a case is told: where the servers are, how long and with how many callers to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.results import Row

RedisServer = Callable[[str], AbstractContextManager[str]]
"""Starts an empty Redis with this ``appendfsync``, and gives the path of its unix socket while it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run of the bench."""

    url: str
    """A PostgreSQL of the bench's own, as its superuser; each contender makes a schema of its own in it."""
    redis: RedisServer
    seconds: float = 5.0
    """How long each contender runs at each number of callers, after its connections are warm."""
    callers: tuple[int, ...] = (1, 8, 32, 64, 256)
    """Threads that call at once, over all processes together."""
    processes: tuple[int, ...] = (1, 2)
    """Processes that the callers are spread over; each number is a row of its own, and ratios take the best."""
    stored: tuple[int, ...] = (10_000, 1_000_000, 10_000_000)
    """Events that are already in the log, for growth."""
    connections: tuple[int, ...] = (1, 16, 64)
    """Keep-alive connections, for HTTP."""
    bulk_rows: int = 1_000_000
    """Coupons, for bulk issuance."""
    projected: int = 1_000_000
    """Events in the log that is folded into read models, verified and sealed."""
    tell: Callable[[str], None] = lambda line: None  # noqa: ARG005
    """Says a line to whoever watches."""


Measure = Callable[[Options], Iterator[Row]]
"""What a case module offers as ``measure``: its rows, each as soon as it is measured."""
