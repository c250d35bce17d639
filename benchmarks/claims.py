"""Cases claims (one hot batch) and lock_confirm (random coupons): every contender in turns, each on a fresh place.

Each runs at each number of callers and processes. A contender whose pool's size matters runs briefly at several sizes
first, and its best one counts.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.base import CLAIMS_A_SECOND, PAIRS_A_SECOND, Contender, Coupon, Place, random_user
from benchmarks.contenders.redis import RedisAlways
from benchmarks.load import Driver, Measured, Step, drive
from benchmarks.options import Options
from benchmarks.results import Row
from benchmarks.servers import schema, settle

POOL_TRIAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Claims:
    """Callers who claim from the hot batch, each time for another user."""

    contender: type[Contender]
    place: Place

    @contextmanager
    def callers(self, process: int, count: int) -> Iterator[Sequence[Step]]:  # noqa: ARG002
        """One contender serves all callers of the process."""
        contender = self.contender(self.place, count)
        try:
            yield [lambda: contender.claim(random_user())] * count
        finally:
            contender.close()


@dataclass(frozen=True, slots=True)
class LocksAndConfirms:
    """Callers who lock and then confirm coupons, each coupon once."""

    contender: type[Contender]
    place: Place
    processes: int
    coupons: tuple[Coupon, ...]

    @contextmanager
    def callers(self, process: int, count: int) -> Iterator[Sequence[Step]]:
        """One contender serves all callers of the process, and each coupon goes to one of them."""
        contender = self.contender(self.place, count)
        mine = iter(self.coupons[process :: self.processes])
        try:
            yield [partial(_lock_confirm_next, contender, mine)] * count
        finally:
            contender.close()


def _lock_confirm_next(contender: Contender, coupons: Iterator[Coupon]) -> None:
    coupon = next(coupons, None)
    if coupon is None:
        raise RuntimeError(f"{contender.name} used up its coupons before the time was over")
    contender.lock_confirm(coupon, f"order-{uuid.uuid4().hex}")


def measure(options: Options) -> Iterator[Row]:
    """Claims on one hot batch."""
    yield from measure_all("claims", options, CONTENDERS)


def measure_lock_confirm(options: Options) -> Iterator[Row]:
    """Lock, then confirm: a pair is one operation."""
    yield from measure_all("lock_confirm", options, [contender for contender in CONTENDERS if contender.confirms])


def measure_all(case: str, options: Options, contenders: Sequence[type[Contender]]) -> Iterator[Row]:
    """Those contenders in turns, at each number of callers and processes."""
    for callers in options.callers:
        for contender in contenders:
            yield from _rows(case, options, contender, callers)


def _rows(case: str, options: Options, contender: type[Contender], callers: int) -> Iterator[Row]:
    for processes in options.processes:
        if processes <= callers:
            share = math.ceil(callers / processes)
            sizes = sorted({min(size, share) for size in contender.pool_sizes}) or [0]
            best = sizes[0]
            if len(sizes) > 1:
                brief = replace(options, seconds=min(POOL_TRIAL_SECONDS, options.seconds))
                rates = {size: _fresh(case, brief, contender, callers, processes, size).rate_per_s for size in sizes}
                best = max(rates, key=lambda size: rates[size])
            yield _fresh(case, options, contender, callers, processes, best)


_numbers = count(1)


def _fresh(
    case: str, options: Options, contender: type[Contender], callers: int, processes: int, pool_size: int
) -> Row:
    """The row of a contender on a schema, or a Redis, of its own."""
    name = f"{case}_{contender.name}_{next(_numbers)}"
    if issubclass(contender, RedisAlways):
        with options.redis(contender.appendfsync) as socket:
            return run(case, contender, Place(socket, name), callers, processes, options.seconds)
    with schema(options.url, name):
        return run(case, contender, Place(options.url, name, pool_size), callers, processes, options.seconds)


def run(case: str, kind: type[Contender], place: Place, callers: int, processes: int, seconds: float) -> Row:
    """One measurement on a place that exists, and the check of its outcome."""
    confirming = case == "lock_confirm"
    enough = int((PAIRS_A_SECOND if confirming else CLAIMS_A_SECOND) * max(1.0, seconds)) + 2 * callers
    contender = kind(place, 1)
    try:
        contender.prepare(0 if confirming else enough, enough if confirming else 0)
        driver: Driver
        if confirming:
            coupons = tuple(contender.coupons(enough))
            driver = LocksAndConfirms(kind, contender.place, processes, coupons)
        else:
            driver = Claims(kind, contender.place)
        if kind.on_postgres:
            settle(place.address)
        measured: Measured = drive(driver, callers=callers, processes=processes, seconds=seconds)
        outcome = contender.confirmed() if confirming else contender.claimed()
    finally:
        contender.close()
    exact = set(outcome) == {measured.acknowledged}
    return measured.row(case, kind.name, callers, processes, exact=exact)
