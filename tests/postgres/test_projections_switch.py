"""A rebuilt read model takes the place of the live one, and may give it back, while others write and read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.alerts import Alerts as Thresholds
from ledger.database import Database
from projections import checkpoints, flip, replay
from projections.models.alerts import Alerts
from projections.models.coupon_status import CouponStatus
from projections.models.wallet import Wallet
from projections.rebuild import NothingBefore, OtherRelease, drop_before, rebuild, switch_back
from projections.runner import Runner
from tests.postgres.test_projections_rebuild import NextWallet, owner, rows, status, writing

MODELS = [CouponStatus(), Wallet(), Alerts()]


def tables(database: Database) -> set[str]:
    """All that there is of the wallet."""
    with owner(database) as connection:
        found = connection.execute(
            "select relname from pg_class where relnamespace = current_schema()::regnamespace"
            "   and relkind = 'r' and relname like 'wallet%%'"
        )
        return {name for (name,) in found}


@pytest.fixture
def batch_id(shop: Any, database: Database) -> str:
    """A batch with coupons, all folded."""
    batch_id: str = shop.batch(per_user_limit=None, quantity=10_000, alerts=Thresholds(stock_below=9_990))
    shop.ledger.do(use_cases.issue(shop.request(), batch_id, [f"user-{number}" for number in range(30)]))
    Runner(database, MODELS).catch_up()
    return batch_id


class Reader(threading.Thread):
    """Asks the same question again and again, and keeps whatever goes wrong."""

    def __init__(self, database: Database, query: str, right: Callable[[Any, Any], bool]) -> None:
        super().__init__()
        self.database, self.query, self.right = database, query, right
        self.stop, self.asked, self.wrong = threading.Event(), 0, list[str]()

    def run(self) -> None:
        before: Any = 0
        try:
            with self.database.connect() as connection:
                while not self.stop.is_set():
                    [(now,)] = connection.execute(self.query.encode(), prepare=True).fetchall()
                    if not self.right(before, now):
                        self.wrong.append(f"{now} after {before}")
                    before, self.asked = now, self.asked + 1
        except psycopg.Error as error:
            self.wrong.append(repr(error))


def test_nobody_sees_an_error_or_a_gap(shop: Any, database: Database, batch_id: str) -> None:
    """Written, read and rebuilt at once: what a reader saw never goes away, and the rows are the log's at the end."""
    never_less = lambda before, now: now >= before  # noqa: E731
    never_none = lambda _, now: now == 1  # noqa: E731
    readers = [
        Reader(database, "select count(*) from wallet", never_less),
        Reader(database, "select count(*) from coupon_status", never_less),
        Reader(database, "select max(c.position) from wallet w join coupon_status c using (coupon_id)", never_less),
        Reader(database, "select count(*) from alerts", never_none),
    ]
    stop = threading.Event()
    runner = threading.Thread(target=Runner(database, MODELS).run, args=(stop,))
    threads = [runner, *readers]
    for thread in threads:
        thread.start()
    try:
        with writing(shop, batch_id):
            for _ in range(4):
                for projection in MODELS:
                    assert rebuild(database, projection).same is True
            for projection in MODELS:
                switch_back(database, projection)
            assert rebuild(database, NextWallet()).same is None
    finally:
        stop.set()
        for reader in readers:
            reader.stop.set()
        for thread in threads:
            thread.join(20)
    assert [reader.wrong for reader in readers] == [[], [], [], []]
    assert min(reader.asked for reader in readers) > 10
    newer = [CouponStatus(), NextWallet(), Alerts()]
    Runner(database, newer).catch_up()
    assert [each.differing for each in replay.compare(database, newer)] == [0, 0, 0]


def test_the_table_of_before_comes_back_up_to_date(shop: Any, database: Database, batch_id: str) -> None:
    """With what was wrong in it, for that is its own; and once more switched it is away again."""
    with owner(database) as connection:
        connection.execute("update wallet_v2 set discount_minor = 7 where user_id = 'user-3'")
    odd = rows(database, "wallet")
    rebuilt = rebuild(database, Wallet())
    assert rebuilt.difference is not None
    assert (rebuilt.same, rebuilt.difference.differing) == (False, 1)
    assert (rebuilt.difference.first_key or {})["user_id"] == "user-3"
    assert (rebuilt.difference.live_row or {})["discount_minor"] == 7
    assert (rebuilt.difference.folded_row or {})["discount_minor"] == 0
    right = rows(database, "wallet")
    assert tables(database) == {"wallet_v2", "wallet_v2_before"}

    shop.coupon("user-new", batch_id)
    head = Runner(database, MODELS).catch_up()
    back = switch_back(database, Wallet())
    assert (back.position, back.folded) == (head, 1)
    assert len(rows(database, "wallet")) == len(odd) + 1
    assert set(odd) <= set(rows(database, "wallet"))
    assert status(database, "wallet") == (2, head, "RUNNING")

    assert switch_back(database, Wallet()).folded == 0
    assert set(right) <= set(rows(database, "wallet"))
    assert tables(database) == {"wallet_v2", "wallet_v2_before"}
    drop_before(database, Wallet())
    assert tables(database) == {"wallet_v2"}
    for again in (drop_before, switch_back):
        with pytest.raises(NothingBefore):
            again(database, Wallet())
    assert rebuild(database, Wallet()).same is True


def test_an_older_version_is_put_back_by_the_release_that_folds_it(
    shop: Any, database: Database, batch_id: str
) -> None:
    rebuild(database, NextWallet())
    assert tables(database) == {"wallet_v3", "wallet_v2_before"}
    shop.coupon("user-new", batch_id)
    with pytest.raises(OtherRelease, match="folds version 2"):
        switch_back(database, NextWallet())
    head = Runner(database, [NextWallet()]).catch_up()

    assert switch_back(database, Wallet()).folded == 1  # the older release, which somebody went back to
    assert status(database, "wallet") == (2, head, "RUNNING")
    assert tables(database) == {"wallet_v2", "wallet_v3_before"}
    with database.connect() as connection, pytest.raises(psycopg.errors.UndefinedColumn):
        connection.execute("select note from wallet")

    shop.coupon("user-newer", batch_id)
    head = Runner(database, [Wallet()]).catch_up()
    assert switch_back(database, NextWallet()).position == head
    with database.connect() as connection:
        assert connection.execute("select count(note) from wallet").fetchone() == (32,)
    rebuild(database, NextWallet())
    assert tables(database) == {"wallet_v3", "wallet_v3_before"}


@pytest.mark.parametrize("frees", [rebuild, drop_before, switch_back], ids=lambda frees: frees.__name__)
def test_what_a_dead_rebuild_of_another_version_left_is_dropped(
    database: Database, batch_id: str, frees: Callable[..., object]
) -> None:
    rebuild(database, Wallet())
    left = [f"{name}_rebuild" for name in ("wallet_v1", "wallet_v12", "coupon_status_v1", "my_wallet_v1")]
    with checkpoints.connect(database) as projector:
        for name in left:
            projector.execute(sql.SQL("create table {} ()").format(sql.Identifier(name)))
    frees(database, Wallet())
    kept = {"wallet_v2"} if frees is drop_before else {"wallet_v2", "wallet_v2_before"}
    assert tables(database) == kept
    with owner(database) as connection:
        others = connection.execute(
            "select tablename from pg_tables where schemaname = %s and tablename like '%%_rebuild'", (database.schema,)
        )
        assert {name for (name,) in others} == {"coupon_status_v1_rebuild", "my_wallet_v1_rebuild"}


def test_what_a_dead_rebuild_left_is_dropped_without_a_table_of_before(database: Database, batch_id: str) -> None:
    with checkpoints.connect(database) as projector:
        projector.execute("create table wallet_v1_rebuild ()")
    drop_before(database, Wallet())
    assert tables(database) == {"wallet_v2"}
    with pytest.raises(NothingBefore):
        drop_before(database, Wallet())


def test_a_table_that_somebody_dropped_is_folded_again(database: Database, batch_id: str) -> None:
    before = rows(database, "wallet")
    with owner(database) as connection:
        connection.execute("drop table wallet_v2 cascade")
    assert rebuild(database, Wallet()).rows == 30
    assert rows(database, "wallet") == before
    assert tables(database) == {"wallet_v2"}


KILLED = """
import os, signal, sys
from types import SimpleNamespace
from ledger.database import PROJECTOR_ROLE, Database
from projections import analytics, difference, flip, rebuild, refold
from projections.models.wallet import Wallet

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

phase, url, schema = sys.argv[1:]
work = rebuild.switch_back if phase == "switching" else rebuild.rebuild
if phase == "creating":
    analytics.protect = die
elif phase == "filling":
    refold.CHUNK_EVENTS = 5
    fold, chunks = Wallet.fold, []
    def fold_some(self, chunk, *rest):
        chunks.append(chunk)
        if len(chunks) == 3:
            die()
        fold(self, chunk, *rest)
    Wallet.fold = fold_some
elif phase == "comparing":
    rebuild.difference = die
elif phase in ("flipping", "switching"):
    flip.analytics = SimpleNamespace(show=die)  # not that of the installation, which comes before
work(Database(url, schema, PROJECTOR_ROLE), Wallet())
"""


@pytest.mark.parametrize("phase", ["creating", "filling", "comparing", "flipping", "switching"])
def test_killed_in_any_phase_it_changed_nothing(shop: Any, database: Database, batch_id: str, phase: str) -> None:
    if phase == "switching":
        rebuild(database, Wallet())
        shop.coupon("user-new", batch_id)
    head = Runner(database, MODELS).catch_up()
    before = rows(database, "wallet"), status(database, "wallet")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, phase, database.url, database.schema], env=os.environ, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert (rows(database, "wallet"), status(database, "wallet")) == before

    shop.coupon("user-newest", batch_id)
    assert Runner(database, MODELS).catch_up() == head + 1
    assert (switch_back(database, Wallet()).folded if phase == "switching" else 1) == 1
    assert rebuild(database, Wallet()).same is True
    assert len(rows(database, "wallet")) == len(before[0]) + 1
    assert tables(database) == {"wallet_v2", "wallet_v2_before"}


def test_a_long_read_is_waited_for_without_holding_up_others(database: Database, batch_id: str) -> None:
    """Whoever reads meanwhile waits for a moment at most: the flip gives way, and tries again."""
    stop = threading.Event()
    asked = Reader(database, "select count(*) from wallet", lambda before, now: now >= before)
    with owner(database) as long, long.transaction():
        long.execute(sql.SQL("select count(*) from wallet"))
        flip = threading.Thread(target=lambda: (rebuild(database, Wallet()), stop.set()))
        flip.start()
        asked.start()
        assert not stop.wait(3)
        so_far = asked.asked
        assert so_far > 10
    flip.join(20)
    asked.stop.set()
    asked.join(20)
    assert stop.is_set() and asked.wrong == []


def test_a_read_that_does_not_end_is_named(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By its session, while it is waited for and when it was waited for too long; and not those that come and go."""
    monkeypatch.setattr(flip, "LIMIT_SECONDS", 4.0)
    before = rows(database, "wallet"), status(database, "wallet")
    passing = Reader(database, "select count(*) from wallet", lambda before, now: now == before)
    with owner(database) as long, long.transaction():
        long.execute(sql.SQL("select count(*) from wallet"))
        pid = long.info.backend_pid
        passing.start()
        try:
            with pytest.raises(flip.ReadInTheWay, match=f"sessions .{pid}.: nothing was changed") as told:
                rebuild(database, Wallet())
        finally:
            passing.stop.set()
            passing.join(20)
    assert told.value.facts == {"name": "wallet", "sessions": [pid]}
    assert f"wallet waits for the reads of the sessions [{pid}]" in caplog.text
    assert (rows(database, "wallet"), status(database, "wallet")) == before
    assert tables(database) == {"wallet_v2"}
    assert rebuild(database, Wallet()).same is True
