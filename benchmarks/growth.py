"""Case growth: the ledger's claims, locks and confirmations, and bulk issuance, on logs that are already long.

The sizes of claims and locks run in turns, several times, so that a slow moment of the machine meets all of them; the
median counts. Bulk issuance runs once a size. A short log is made anew for each run, and coupons to lock are added to
it; the long ones grow by what is measured on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

from benchmarks.bulk import measure_growth
from benchmarks.claims import run
from benchmarks.contenders.base import Place
from benchmarks.contenders.ledger import GroupCommit
from benchmarks.options import Options
from benchmarks.results import Row, size_name
from benchmarks.servers import schema
from benchmarks.stored import store_events
from ledger.migrate import migrate

CALLERS = 64
"""At most, as the figures to reach are about so many."""
TURNS = 3
REMADE_UP_TO = 100_000
"""Events that are stored again before each run, because it adds many in proportion."""


def measure(options: Options) -> Iterator[Row]:
    """Rows ``growth_<case>_<size>``."""
    callers = min(CALLERS, max(options.callers))
    with ExitStack() as stack:
        long = {size: _store(stack, options, size) for size in options.stored if size > REMADE_UP_TO}
        for case in ("claims", "lock_confirm"):
            for processes in options.processes:
                turns: dict[int, list[Row]] = {size: [] for size in options.stored}
                for _ in range(TURNS):
                    for size, rows in turns.items():
                        with ExitStack() as own:
                            place = long.get(size) or _store(own, options, size)
                            rows.append(run(case, GroupCommit, place, callers, processes, options.seconds))
                for size, rows in turns.items():
                    yield replace(median(rows), case=f"growth_{case}_{size_name(size)}")
        yield from measure_growth(options, long)


def median(rows: Sequence[Row]) -> Row:
    """The row of the middle rate; exact when all are."""
    middle = sorted(rows, key=lambda row: row.rate_per_s)[len(rows) // 2]
    return replace(middle, exact=all(row.exact for row in rows))


_numbers = count(1)


def _store(stack: ExitStack, options: Options, size: int) -> Place:
    """A ledger of its own with so many events, until the stack closes."""
    name = f"growth_{size_name(size)}_{next(_numbers)}"
    stack.enter_context(schema(options.url, name))
    migrate(options.url, name)
    store_events(options.url, name, size)
    if size > REMADE_UP_TO:
        options.tell(f"{size:,} events stored")
    return Place(options.url, name)
