"""Running schedules: load and faults at once, then everything healed, drained and checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

from api import keys
from tests.fault.checks import Checks
from tests.fault.hook import Hook
from tests.fault.load import Load, claim, prepare, swing, upload
from tests.fault.messages import make, send
from tests.fault.schedule import Schedule
from tests.fault.world import World, world


class Runs:
    """Schedules that follow one another in one world; each has a merchant of its own."""

    def __init__(self, world: World, checks: Checks) -> None:
        self.world = world
        self.checks = checks
        self.count = 0

    def run(self, schedule: Schedule) -> list[str]:
        """Violations, of which there must be none."""
        self.count += 1
        merchant_id = f"merchant-{self.count}-{schedule.seed}"
        self.world.reconnect()
        hook = Hook(schedule)
        self.world.receiver.answer = hook.answer
        load = prepare(self.world.ledger, schedule, merchant_id, self.world.receiver, hook)
        make(load, Random(schedule.seed))
        with self.world.ledger.store.connection() as connection:
            token = keys.create(connection, merchant_id, "shopper-app", "fault")
        began = time.monotonic()
        threads = [threading.Thread(target=_guarded, args=(load, do)) for do in self._doings(load)]
        for thread in threads:
            thread.start()
        threads += claim(load, self.world.url, token)
        for fault in schedule.faults:
            time.sleep(max(0.0, began + fault.after_seconds - time.monotonic()))
            self.world.suffer(fault)
        for thread in threads:
            thread.join()
        if (waits := self.checks.drained()) is not None:
            load.trouble.append(f"not drained: {waits}")
        return self.checks.violations(load)

    def _doings(self, load: Load) -> list[Callable[[], None]]:
        settings, ledger = self.world.settings, self.world.ledger
        return [
            partial(send, load, settings.bootstrap_servers, settings.topic_prefix),
            partial(upload, load, ledger),
            partial(swing, load, ledger),
        ]


def _guarded(load: Load, do: Callable[[], None]) -> None:
    try:
        do()
    except Exception as error:
        load.trouble.append(f"{type(error).__name__}: {error}")


@contextmanager
def runs(state: Path) -> Iterator[Runs]:
    """A fresh world in this folder."""
    with world(state) as made:
        checks = Checks(made)
        try:
            yield Runs(made, checks)
        finally:
            checks.close()
