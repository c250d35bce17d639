"""The order of the log under fire: what a follower may rely on, while writers stall, change their minds and are killed.

The full size is a million events, in ten to twenty minutes on two cores:

    ORDERING_EVENTS=1000000 pytest tests/postgres/test_ordering_adversity.py --timeout 3600
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from ledger.commit import Unit, commit_group
from ledger.database import Database
from ledger.events import Recorded
from ledger.store import Store
from tests.postgres.tools import WRITERS_LOCK
from tests.unit.specs import issued

EVENTS = int(os.environ.get("ORDERING_EVENTS", "16000"))
WRITERS, FOLLOWERS, SEED = 8, 2, 20_260_101
ROLLED_BACK = 0.1
"""Share of the transactions whose writer changes its mind after its positions are taken."""
STALLS_MILLISECONDS = [0] * 16 + [1, 3, 10, 40]
"""How long a writer may stand still with its positions taken and nothing committed."""
KILL_PAUSE_SECONDS = 0.05
VICTIMS = "ordering adversity"
"""The application name of sessions that the executioner may end."""
LOST = (psycopg.OperationalError, psycopg.InterfaceError)


class ChangeOfMind(Exception):
    """A writer rolls back."""


@dataclass
class Written:
    """What one writer did: transactions by number, and how many events each has."""

    committed: dict[int, int] = field(default_factory=dict)
    rolled_back: set[int] = field(default_factory=set)
    unknown: dict[int, int] = field(default_factory=dict)
    """Its session was killed, perhaps while committing: all of it is there or nothing."""


def session(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    connection = database.connect(application_name=VICTIMS)
    connection.execute("set lock_timeout = '60s'")
    return connection


def write(database: Database, writer: int, events: int) -> Written:
    """Commit about so many events, in transactions of some groups each."""
    chance = random.Random(SEED + writer)
    store, written = Store(database), Written()
    connection: psycopg.Connection[tuple[object, ...]] | None = None
    number = 0
    while sum(written.committed.values()) < events:
        number += 1
        count = 0
        try:
            if connection is None:
                connection = session(database)
            with connection.transaction():
                for _ in range(chance.randint(1, 4)):
                    units: list[Unit] = []
                    for _ in range(chance.randint(1, 12)):
                        size = chance.randint(1, 3)
                        units.append(
                            Unit([issued(coupon=f"{writer}-{number}-{count + n}").event(1) for n in range(size)])
                        )
                        count += size
                    commit_group(store, connection, units)
                    connection.execute("select pg_sleep(%s)", (chance.choice(STALLS_MILLISECONDS) / 1_000,))
                if chance.random() < ROLLED_BACK:
                    raise ChangeOfMind
            written.committed[number] = count
        except ChangeOfMind:
            written.rolled_back.add(number)
        except LOST:
            written.unknown[number] = count
            connection = None
    return written


@dataclass
class Followed:
    """What one follower saw, as a digest of positions and streams in the order in which it saw them."""

    position: int = 0
    sessions: int = 0

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()
        self._recorded_at: datetime | None = None

    def see(self, entry: Recorded) -> None:
        assert entry.position == self.position + 1, f"{entry.position} came after {self.position}"
        assert self._recorded_at is None or entry.recorded_at >= self._recorded_at
        self.position, self._recorded_at = entry.position, entry.recorded_at
        self._digest.update(f"{entry.position} {entry.event.originator_id}\n".encode())

    @property
    def saw(self) -> tuple[int, str]:
        return self.position, self._digest.hexdigest()


def follow(database: Database, stop: Path, listens: bool) -> tuple[int, str, int]:
    """Read by position until the writers are done, and then to the end; a killed session goes on where it was."""
    store, followed, chance = Store(database), Followed(), random.Random(SEED)
    finished = False
    while not finished:
        with suppress(*LOST), session(database) as connection:
            followed.sessions += 1
            if listens:
                connection.execute(sql.SQL("listen {}").format(sql.Identifier(f"{database.schema}_events")))
            while not finished:
                last_round, before = stop.exists(), followed.position
                for entry in store.read(connection, followed.position, chance.randint(1, 500)):
                    followed.see(entry)
                finished = last_round and followed.position == before
                if listens and followed.position == before:
                    list(connection.notifies(timeout=1, stop_after=1))
    return *followed.saw, followed.sessions


def kill(database: Database, stop: Path) -> int:
    """End sessions at random until told to stop; every other time that of the writer who has the lock."""
    chance, killed, turn = random.Random(SEED), 0, 0
    holders = WRITERS_LOCK.replace("pg_advisory_xact_lock", "").removeprefix("select ")
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(database.schema)))
        while not stop.exists():
            threading.Event().wait(KILL_PAUSE_SECONDS * 2 * chance.random())
            turn += 1
            query = "select pid from pg_stat_activity where application_name = %s"
            if turn % 2:
                query += (
                    " and pid in (select pid from pg_locks where locktype = 'advisory' and granted"
                    f" and objid = ({holders} & 4294967295)::oid)"
                )
            pids = [pid for (pid,) in connection.execute(query.encode(), (VICTIMS,))]
            if pids:
                connection.execute("select pg_terminate_backend(%s)", (chance.choice(pids),))
                killed += 1
    return killed


def test_followers_miss_nothing_whatever_becomes_of_the_writers(database: Database, tmp_path: Path) -> None:
    writers_are_done, stop_killing = tmp_path / "writers are done", tmp_path / "stop killing"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WRITERS + FOLLOWERS + 1, mp_context=spawn) as pool:
        followers = [pool.submit(follow, database, writers_are_done, listens) for listens in (True, False)]
        executioner = pool.submit(kill, database, stop_killing)
        try:
            writers = [pool.submit(write, database, writer, EVENTS // WRITERS) for writer in range(WRITERS)]
            written = [writer.result() for writer in writers]
        finally:
            stop_killing.touch()
            writers_are_done.touch()
        killed = executioner.result()
        seen = [follower.result() for follower in followers]

    there = read_back(database, written)
    assert [(position, digest) for position, digest, _ in seen] == [there] * FOLLOWERS
    assert there[0] >= EVENTS
    # It was no easy ride: writers changed their minds, were killed in the act, and followers were killed too.
    transactions = sum(len(one.committed) + len(one.rolled_back) + len(one.unknown) for one in written)
    assert 0.05 < sum(len(one.rolled_back) for one in written) / transactions < 0.15
    assert sum(len(one.unknown) for one in written) > 0
    assert sum(sessions for _, _, sessions in seen) > FOLLOWERS
    assert killed > 0


def read_back(database: Database, written: list[Written]) -> tuple[int, str]:
    """What a follower should have seen; and each transaction is there as a whole, in one piece, or not at all."""
    store, log = Store(database), Followed()
    with database.connect() as connection:
        while True:
            before = log.position
            for entry in store.read(connection, log.position, 10_000):
                log.see(entry)
            if log.position == before:
                break
        rows = connection.execute(
            "select split_part(originator_id, '-', 2)::int, split_part(originator_id, '-', 3)::int, count(*),"
            " max(notification_id) - min(notification_id) + 1 from events group by 1, 2"
        ).fetchall()
    there = {(writer, number): count for writer, number, count, _ in rows}
    assert all(count == span for _, _, count, span in rows)
    for writer, one in enumerate(written):
        assert {number: there.get((writer, number)) for number in one.committed} == one.committed
        assert all((writer, number) not in there for number in one.rolled_back)
        assert all(there.get((writer, number), count) == count for number, count in one.unknown.items())
        assert {number for of, number in there if of == writer} <= one.committed.keys() | one.unknown.keys()
    return log.saw
