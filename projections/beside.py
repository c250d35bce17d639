"""A second session of the runner, in a thread of its own, where half of the read models fold a backlog."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from ledger.database import Database
from projections import checkpoints

Connection = psycopg.Connection[Any]
T = TypeVar("T")


class Beside:
    """Works in a session beside that of the leader, which whoever takes the lead after it ends (``lease.py``)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "beside")

    def begin(self, work: Callable[[Connection], T]) -> Future[T]:
        """Have it done, and do something else meanwhile."""
        return self._thread.submit(self._do, work)

    def close(self) -> None:
        """End the session. It may be used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _do(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = checkpoints.connect(self._database)
            self._connection.execute(_SESSION)
        return work(self._connection)


# It may wait for the leader for as long as that takes, for it holds no lease. By the lock it is known.
_SESSION = """
set application_name = 'coupon-ledger projections beside';
set idle_session_timeout = 0;
select pg_advisory_lock_shared('projection_checkpoints'::regclass::oid::int, 2);
"""
