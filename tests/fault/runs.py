"""Running schedules: load and faults at once, then everything healed, drained and checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from api import keys
from tests.fault.checks import Checks
from tests.fault.load import claim, prepare, send, upload
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
        load = prepare(self.world.ledger, schedule, merchant_id)
        with self.world.ledger.store.connection() as connection:
            token = keys.create(connection, merchant_id, "shopper-app", "fault")
        settings = self.world.settings
        trouble: list[str] = load.trouble

        def guarded(do: Callable[[], None]) -> None:
            try:
                do()
            except Exception as error:
                trouble.append(f"{do.__name__}: {type(error).__name__}: {error}")

        def send_all() -> None:
            send(load, settings.bootstrap_servers, settings.topic_prefix)

        def upload_file() -> None:
            if schedule.job_rows:
                upload(load, self.world.ledger)

        began = time.monotonic()
        threads = [threading.Thread(target=guarded, args=(do,)) for do in (send_all, upload_file)]
        for thread in threads:
            thread.start()
        threads += claim(load, self.world.url, token)
        for fault in schedule.faults:
            time.sleep(max(0.0, began + fault.after_seconds - time.monotonic()))
            self.world.suffer(fault)
        for thread in threads:
            thread.join()
        if (waits := self.checks.drained()) is not None:
            trouble.append(f"not drained: {waits}")
        return self.checks.violations(load)


@contextmanager
def runs(state: Path) -> Iterator[Runs]:
    """A fresh world in this folder."""
    with world(state) as made:
        checks = Checks(made)
        try:
            yield Runs(made, checks)
        finally:
            checks.close()
