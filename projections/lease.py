"""The lease: of all runners one leads, for as long as its session lives and it does something with it.

It is a lock of the session, so whoever lost its connection has lost the lead with it, and what it had not committed.
A process that dies takes its connection along. One that is frozen does not, and PostgreSQL may wait for it for ever in
the middle of a statement; so those who wait for the lead watch it, and end the session of one that keeps PostgreSQL
waiting.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import psycopg

from projections import checkpoints

FROZEN_SECONDS = 1.5
"""So long a leader may keep PostgreSQL waiting: it asks for news several times a second."""
PATIENCE_LIMIT_SECONDS = 24.0

Connection = psycopg.Connection[Any]
log = logging.getLogger(__name__)


class Lease:
    """One runner's view of who leads."""

    def __init__(self) -> None:
        self._patience_seconds = FROZEN_SECONDS
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0

    def take(self, connection: Connection) -> bool:
        """Lead from now on, or see that another session does. Ask again until it is so, a few times a second."""
        [(leads,)] = checkpoints.rows(connection, _TAKE)
        if not leads:
            self._watch(connection)
        return bool(leads)

    def used(self) -> None:
        """A chunk was folded under the lease: whoever held it before was ended for good reason."""
        self._patience_seconds = FROZEN_SECONDS

    def _watch(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute("set local role none")  # sessions may be ended by their own login
            seen = next(iter(checkpoints.rows(connection, _LEADER)), None)
            if seen is None or seen != self._seen:
                self._seen, self._seen_at = seen, time.monotonic()
            elif time.monotonic() - self._seen_at > self._patience_seconds:
                log.warning("the projector that leads is frozen: its session %d is ended", seen[0])
                checkpoints.rows(connection, "select pg_terminate_backend(%s)", (seen[0],))
                self._seen = None
                # On a machine that is too slow for our patience, two would end each other for ever.
                self._patience_seconds = min(2 * self._patience_seconds, PATIENCE_LIMIT_SECONDS)


_TAKE = "select pg_try_advisory_lock('projection_checkpoints'::regclass::oid::int, 1)"

# Only while PostgreSQL waits for it; then its state stays as it was since it changed.
_LEADER = """
select a.pid, a.state_change
  from pg_locks l join pg_stat_activity a using (pid)
 where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.objid = 1
   and l.classid = 'projection_checkpoints'::regclass::oid
   and l.database = (select oid from pg_database where datname = current_database())
   and a.wait_event_type = 'Client'
"""
