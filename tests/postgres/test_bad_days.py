"""Bad days of the server while callers go on calling: what each was told is true, and no caller is restarted."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType

import psycopg
import pytest

from ledger import store as store_module
from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.errors import OutcomeUnknown, Refusal, Unavailable
from ledger.migrate import migrate
from ledger.store import Store
from ledger.work import Receipt, Work
from tests.conftest import Shop
from tests.postgres.own_server import OwnServer, SmallDisk, small_disk, wait_until
from tests.postgres.tools import assert_guards_equal_events, whole_log

CALLERS = 8
DEADLOCK_WRITERS, DEADLOCK_TRANSACTIONS, SEED = 8, 25, 20_260_101


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    """A server that the test may treat badly."""
    with OwnServer(tmp_path / "state", {"deadlock_timeout": "10ms"}) as server:
        yield server


def own_ledger(server: OwnServer) -> Ledger:
    migrate(server.url, "bad_days")
    return Ledger(Store(Database(server.url, "bad_days")))


@dataclass
class Crowd:
    """Callers who claim without a pause, each request under a key of its own, and remember what they were told."""

    ledger: Ledger
    batch_id: str
    answered: dict[str, Receipt] = field(default_factory=dict)
    unavailable: set[str] = field(default_factory=set)
    """Told that nothing was written."""
    unknown: set[str] = field(default_factory=set)
    """Told to ask again under the same key."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> Crowd:
        self._calls = [self._pool.submit(self._call, caller) for caller in range(CALLERS)]
        self.goes_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown()
        if error is None:
            for call in self._calls:
                call.result()

    def goes_on(self) -> None:
        """Wait until the callers get answers."""
        wanted = len(self.answered) + 50
        wait_until(lambda: len(self.answered) >= wanted)

    def is_refused(self) -> None:
        """Wait until the callers are told that the service cannot."""
        wanted = len(self.unavailable) + 3
        wait_until(lambda: len(self.unavailable) >= wanted)

    def claim(self, key: str) -> Work:
        return use_cases.claim(Shop(self.ledger).request(key), self.batch_id, f"user-{key}")

    def _call(self, caller: int) -> None:
        for number in count():
            if self._stop.is_set():
                return
            key = f"{caller}-{number}"
            try:
                self.answered[key] = self.ledger.do(self.claim(key))
            except OutcomeUnknown:
                self.unknown.add(key)
            except Unavailable:
                self.unavailable.add(key)

    def was_told_the_truth(self) -> None:
        """What was acknowledged is there, what was refused is not, and every key finds out."""
        log = whole_log(self.ledger.store)
        assert [entry.position for entry in log] == list(range(1, len(log) + 1))
        issued = {entry.event.request_id: entry for entry in log if entry.event.TOPIC == "coupon.issued"}
        assert {key: issued[key].position for key in self.answered} == {
            key: receipt.position for key, receipt in self.answered.items()
        }
        assert not self.unavailable & issued.keys()
        assert issued.keys() <= self.answered.keys() | self.unknown
        for key, receipt in self.answered.items():
            again = self.ledger.do(self.claim(key))
            assert (again.answer, again.position, again.replayed) == (receipt.answer, receipt.position, True)
        for key in self.unknown | self.unavailable:
            assert self.ledger.do(self.claim(key)).replayed is (key in issued)
        assert_guards_equal_events(self.ledger.store.database)


def stop_and_start(server: OwnServer, crowd: Crowd) -> None:
    server.stop()
    crowd.is_refused()
    server.start()


def crash_and_start(server: OwnServer, crowd: Crowd) -> None:
    server.crash()
    crowd.is_refused()
    server.start()


def kill_a_backend(server: OwnServer, crowd: Crowd) -> None:
    """As the kernel does when memory ends: the server throws out every session and recovers."""
    victims: list[int] = []

    def found() -> bool:
        mine = "query like '%commit_whole_group%' and pid <> pg_backend_pid()"
        query = f"select pid from pg_stat_activity where {mine} limit 1"
        with psycopg.connect(server.url, autocommit=True) as connection:
            victims.extend(pid for (pid,) in connection.execute(query))
        return bool(victims)

    wait_until(found)
    recoveries = server.log.count("all server processes terminated; reinitializing")
    os.kill(victims[0], signal.SIGKILL)
    wait_until(lambda: server.log.count("all server processes terminated; reinitializing") > recoveries)


@pytest.mark.parametrize("go_wrong", [stop_and_start, crash_and_start, kill_a_backend])
def test_a_server_that_goes_and_comes_takes_nothing_with_it(
    go_wrong: Callable[[OwnServer, Crowd], None], own: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POOL_WAIT_SECONDS", 0.2)
    ledger = own_ledger(own)
    with Crowd(ledger, Shop(ledger).batch(quantity=1_000_000)) as crowd:
        for _ in range(3):
            go_wrong(own, crowd)
            crowd.goes_on()
    crowd.was_told_the_truth()
    ledger.close()


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SmallDisk, OwnServer]]:
    """A server whose own log is on a small disk, with no spare file for it."""
    monkeypatch.setattr(store_module, "POOL_WAIT_SECONDS", 0.2)
    settings = {"wal_recycle": "off", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with small_disk(160) as disk, OwnServer(disk.path / "state", settings) as own:
        yield disk, own


def test_a_disk_without_room_for_the_servers_own_log(cramped: tuple[SmallDisk, OwnServer]) -> None:
    """The worst full disk: the server itself ends. What it acknowledged is there once it has room and is started."""
    disk, own = cramped
    ledger = own_ledger(own)
    with Crowd(ledger, Shop(ledger).batch(quantity=1_000_000)) as crowd:
        disk.fill()
        with suppress(psycopg.OperationalError):  # it may be the first to find no room
            own.execute("select pg_switch_wal()")
        crowd.is_refused()
        wait_until(lambda: not own.alive)
        disk.free()
        own.start()
        crowd.goes_on()
    crowd.was_told_the_truth()
    ledger.close()


def test_a_server_that_ends_while_it_commits_did_not_say_that_nothing_was_written(
    cramped: tuple[SmallDisk, OwnServer],
) -> None:
    """Its last word names the full disk, as a refused statement's does, but the commit may be on the disk before."""
    disk, own = cramped
    ledger = own_ledger(own)
    shop = Shop(ledger)
    batch_id = shop.batch(quantity=1_000_000, per_user_limit=None)
    last_words: list[str | None] = []
    unknown = 0

    def ended() -> bool:
        nonlocal unknown
        try:
            ledger.do(use_cases.claim(shop.request(), batch_id, "user-1"))
        except Unavailable as error:
            if isinstance(error.__cause__, psycopg.errors.DiskFull):
                last_words.append(error.__cause__.diag.severity_nonlocalized)
        except OutcomeUnknown:
            unknown += 1
        return not own.alive

    for _ in range(20):
        assert not ended()
    disk.fill()
    with suppress(psycopg.OperationalError):
        own.execute("select pg_switch_wal()")
    wait_until(ended)
    assert set(last_words) <= {"ERROR"}
    assert last_words or unknown
    disk.free()
    ledger.close()


# --- deadlocks --------------------------------------------------------------------------------------------


def test_writers_of_the_same_things_in_any_order_never_lock_each_other_out(own: OwnServer) -> None:
    """Several groups in one transaction are the danger: what one group locked, the next group of another may want."""
    ledger = own_ledger(own)
    database = ledger.store.database
    shop = Shop(ledger)
    batches = [shop.batch(quantity=100_000, per_user_limit=10_000) for _ in range(3)]
    coupons = [shop.coupon("user-0", batch_id) for batch_id in batches for _ in range(4)]
    numbers = count()

    def works(chance: random.Random) -> list[Work]:
        """Work on the same few batches, users and coupons, in any order."""
        found: list[Work] = []
        for _ in range(chance.randint(1, 8)):
            request = shop.request(f"work-{next(numbers)}")
            batch_id, some = chance.choice(batches), chance.sample(coupons, 3)
            users = [f"user-{chance.randint(0, 3)}" for _ in range(3)]
            kind = chance.choice(["claim", "issue", "lock", "unlock", "quantity"])
            if kind == "claim":
                found.append(use_cases.claim(request, batch_id, users[0]))
            elif kind == "issue":
                found.append(use_cases.issue(request, batch_id, users))
            elif kind == "lock":
                found.append(use_cases.lock(request, "order", user_id="user-0", coupon_ids=some))
            elif kind == "unlock":
                found.append(use_cases.unlock(request, "order", coupon_ids=some, reason="r"))
            else:
                before, after = chance.sample([100_000, 200_000], 2)
                found.append(use_cases.change_quantity(request, batch_id, expected=before, target=after))
        return found

    start = threading.Barrier(DEADLOCK_WRITERS)

    def write(writer: int) -> list[Receipt | Refusal]:
        chance = random.Random(SEED + writer)
        results: list[Receipt | Refusal] = []
        with database.connect() as connection:
            connection.execute("set lock_timeout = '60s'")
            start.wait()
            for _ in range(DEADLOCK_TRANSACTIONS):
                with connection.transaction():
                    for _ in range(chance.randint(1, 4)):
                        results += ledger.do_all(works(chance), connection)
        return results

    with ThreadPoolExecutor(DEADLOCK_WRITERS) as pool:
        results = [result for written in pool.map(write, range(DEADLOCK_WRITERS)) for result in written]
    assert {"quantity", "coupons", "locks", "coupon_id"} <= {
        name for result in results if isinstance(result, Receipt) for name in result.answer
    }
    ledger.close()
    with psycopg.connect(own.url) as connection:
        assert connection.execute("select deadlocks from pg_stat_database where datname = 'postgres'").fetchone() == (
            0,
        )
    assert "deadlock detected" not in own.log
    assert_guards_equal_events(database)
