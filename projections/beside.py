"""A second session of the runner, in a thread of its own, where half of the read models fold a backlog."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from ledger.database import Database
from projections import checkpoints

Connection = psycopg.Connection[Any]
T = TypeVar("T")


class Beside:
    """Works in a session beside that of the leader, which it is named after: whoever ends that one ends this one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "beside")

    def begin(self, leader: Connection, work: Callable[[Connection], T]) -> Future[T]:
        """Have it done, and do something else meanwhile."""
        return self._thread.submit(self._do, leader.info.backend_pid, work)

    def close(self) -> None:
        """End the session. It may be used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _do(self, leader_pid: int, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = checkpoints.connect(self._database)
            name = sql.Literal(name_beside(leader_pid))
            # It may wait for the leader for as long as that takes: it holds no lease.
            self._connection.execute(sql.SQL("set application_name = {}; set idle_session_timeout = 0").format(name))
        return work(self._connection)


def name_beside(leader_pid: int) -> str:
    """What the session beside a leader's calls itself."""
    return f"coupon-ledger projections beside {leader_pid}"
