"""Two processes of the projector: one folds, and whichever way it goes away, the other goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from ledger.database import PROJECTOR_ROLE, Database
from projections import replay
from projections.catalogue import PROJECTIONS
from tests.postgres.test_projections_rebuild import writing
from tests.postgres.test_projections_runner import leaders, positions, until


@contextmanager
def projector(database: Database) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ``coupon-ledger project``."""
    settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
    command = [sys.executable, "-m", "coupon_ledger", "project"]
    process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)


def other_leader(database: Database, than: int = 0) -> int:
    """Wait until one session leads that is not this one; there are never two."""

    def look() -> int | None:
        found = leaders(database)
        assert len(found) <= 1
        return found[0] if found and found[0] != than else None

    return int(until(look))


def wait_for_head(shop: Any, database: Database) -> None:
    head = shop.ledger.store.head()
    until(lambda: all(position >= head for position, _ in positions(database).values()))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM], ids=lambda how: how.name)
def test_another_takes_over(shop: Any, database: Database, how: signal.Signals) -> None:
    """In the middle of folding; and one that was frozen and wakes up folds no more, until it leads again."""
    batch_id = shop.batch(per_user_limit=None, quantity=100_000)
    with ExitStack() as stack:
        one = stack.enter_context(projector(database))
        session = other_leader(database)
        two = stack.enter_context(projector(database))
        with writing(shop, batch_id):
            wait_for_head(shop, database)
            one.send_signal(how)
            session = other_leader(database, than=session)
            wait_for_head(shop, database)
            if how == signal.SIGSTOP:
                one.send_signal(signal.SIGCONT)
                wait_for_head(shop, database)
                assert leaders(database) == [session]
                two.kill()
                other_leader(database, than=session)
                wait_for_head(shop, database)
        wait_for_head(shop, database)
    found = replay.compare(Database(database.url, database.schema, PROJECTOR_ROLE), PROJECTIONS)
    assert [(each.name, each.differing) for each in found] == [(projection.name, 0) for projection in PROJECTIONS]
    assert found[0].live_rows > 0
