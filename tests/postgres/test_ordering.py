"""Commit order is the order of positions, without holes: what every follower of the log relies on."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.database import Database
from ledger.events import Recorded
from ledger.store import Store
from tests.conftest import Shop
from tests.postgres.tools import assert_guards_equal_events, whole_log, writers_blocked
from tests.unit.specs import issued

WRITERS, TRANSACTIONS, SEED = 8, 50, 20_260_101


class RollBack(Exception):
    """A writer changes its mind."""


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def write(store: Store, writer: int) -> list[str]:
    """Many transactions of some groups each; one in ten rolls back. Answers the streams that were committed."""
    chance = random.Random(SEED + writer)
    committed: list[str] = []
    with store.database.connect() as connection:
        connection.execute("set lock_timeout = '60s'")
        for number in range(TRANSACTIONS):
            streams = [f"{writer}-{number}-{n}" for n in range(chance.randint(1, 4))]
            try:
                with connection.transaction():
                    for stream in streams:
                        units = [Unit([issued(coupon=f"{stream}-{n}").event(1)]) for n in range(chance.randint(1, 3))]
                        commit_group(store, connection, units)
                    connection.execute("select pg_sleep(%s)", (chance.choice([0, 0, 0.001, 0.003]),))
                    if chance.random() < 0.1:
                        raise RollBack
            except RollBack:
                continue
            committed += streams
    return committed


def follow(store: Store, stop: threading.Event, after: int = 0) -> list[Recorded]:
    """Everything that a reader by position sees until the writers are done, and then to the end."""
    seen: list[Recorded] = []
    with store.database.connect() as connection:
        while True:
            last_round = stop.is_set()
            page = list(store.read(connection, seen[-1].position if seen else after, 7))
            seen += page
            if last_round and not page:
                return seen


def test_a_follower_sees_every_event_once_and_in_order(store: Store) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(WRITERS + 2) as pool:
        followers = [pool.submit(follow, store, stop) for _ in range(2)]
        writers = [pool.submit(write, store, writer) for writer in range(WRITERS)]
        committed = [stream for writer in writers for stream in writer.result(90)]
        stop.set()
        seen = [follower.result(30) for follower in followers]
    log = whole_log(store)
    assert [entry.position for entry in log] == list(range(1, len(log) + 1))
    assert seen == [log, log]
    written = {entry.event.originator_id.removeprefix("coupon-").rsplit("-", 1)[0] for entry in log}
    assert written == set(committed)
    assert len(committed) < WRITERS * TRANSACTIONS * 4
    times = [entry.recorded_at for entry in log]
    assert times == sorted(times)


def test_a_follower_does_not_see_what_is_not_committed(store: Store) -> None:
    with store.database.connect() as writer, store.database.connect() as reader:
        with writer.transaction(force_rollback=True):
            commit_group(store, writer, [Unit([issued(coupon="a").event(1)])])
            assert list(store.read(reader, 0, 10)) == []
        commit_group(store, writer, [Unit([issued(coupon="b").event(1)])])
        assert [(entry.position, entry.event.originator_id) for entry in store.read(reader, 0, 10)] == [(1, "coupon-b")]


def test_readers_do_not_wait_for_writers(ledger: Ledger, shop: Shop) -> None:
    coupon_id = shop.coupon()
    with writers_blocked(ledger.store.database):
        assert len(ledger.store.history(f"coupon-{coupon_id}")) == 1
        assert len(whole_log(ledger.store)) == ledger.store.head()
    assert_guards_equal_events(ledger.store.database)


def test_followers_are_told_once_a_group(store: Store) -> None:
    with store.database.connect() as listener, store.database.connect() as writer:
        listener.execute(f'listen "{store.database.schema}_events"')
        commit_group(store, writer, [Unit([issued(coupon=str(n)).event(1)]) for n in range(5)])
        told = list(listener.notifies(timeout=5, stop_after=1))
        assert len(told) == 1
        assert list(listener.notifies(timeout=0.1)) == []
