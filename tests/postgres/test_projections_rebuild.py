"""Rebuild: the same rows from the log again, beside the live table, while writes and the runner go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.coupon import Redemption
from ledger.database import Database
from projections import checkpoints, chunk, faults, flip, queries
from projections.catalogue import PROJECTIONS
from projections.chunk import Chunk
from projections.models.wallet import Wallet
from projections.projection import Connection, Projection
from projections.rebuild import RebuildRunning, Rebuilt, rebuild, rebuild_each
from projections.runner import Runner

COUPONS = 30


class NextWallet(Wallet):
    """A new version, with one column more."""

    version = Wallet.version + 1
    ddl = Wallet.ddl.replace("issued_at ", "note text not null default 'new', issued_at ")  # type: ignore[assignment]


class Refusing(Wallet):
    """A fold that raises."""

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        raise ValueError("cannot fold this")


@pytest.fixture
def batch_id(shop: Any) -> str:
    """A batch with coupons in several states."""
    batch_id: str = shop.batch(per_user_limit=None, quantity=10_000)
    users = [f"user-{number % 7}" for number in range(COUPONS)]
    issued = shop.ledger.do(use_cases.issue(shop.request(), batch_id, users)).answer["coupons"]
    for number, row in enumerate(issued[:12]):
        id, user, order = row["coupon_id"], row["user_id"], f"order-{number}"
        shop.ledger.do(use_cases.lock(shop.request(), order, user_id=user, coupon_ids=[id]))
        if number > 3:
            redemption = Redemption(coupon_id=id, discount_minor=100 + number)
            shop.ledger.do(use_cases.confirm(shop.request(), order, [redemption]))
        if number > 9:
            work = use_cases.return_coupons(shop.request(), order, coupon_ids=[id], reason="order_cancelled")
            shop.ledger.do(work)
    for row in issued[12:15]:
        shop.ledger.do(use_cases.void(shop.request(), row["coupon_id"], reason="mistake"))
    return batch_id


def rows(database: Database, name: str) -> list[Any]:
    with database.connect() as connection:
        return sorted(map(repr, connection.execute(sql.SQL("select * from {}").format(sql.Identifier(name)))))


def tables(database: Database) -> set[str]:
    with database.connect() as connection:
        found = connection.execute(
            "select relname from pg_class where relnamespace = current_schema()::regnamespace"
            "   and relkind = 'r' and relname ~ '_v[0-9]+(_rebuild)?$'"
        )
        return {name for (name,) in found}


def status(database: Database, name: str) -> tuple[int, int, str]:
    with database.connect() as connection:
        [row] = [row for row in queries.status(connection) if row.name == name]
        return row.version, row.position, row.state


def owner(database: Database) -> psycopg.Connection[Any]:
    return psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}")


@contextmanager
def writing(shop: Any, batch_id: str) -> Iterator[None]:
    """Coupons are issued, one after the other, all the while."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            shop.ledger.do(use_cases.claim(shop.request(), batch_id, "user-1"))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_rebuilt_is_live_row_for_row(database: Database, batch_id: str, projection: Projection) -> None:
    head = Runner(database, chunk_events=7).catch_up()
    before = rows(database, projection.name)
    told: list[tuple[int, int]] = []
    rebuilt = rebuild(database, projection, lambda done, total: told.append((done, total)))
    assert (rebuilt.same, rebuilt.position, rebuilt.rows) == (True, head, len(before))
    assert rows(database, projection.name) == before
    assert status(database, projection.name) == (projection.version, head, "RUNNING")
    assert told[-1] == (head, head)
    assert tables(database) == {projection.table for projection in PROJECTIONS}


def test_a_row_that_somebody_changed_is_told_and_mended(database: Database, batch_id: str) -> None:
    Runner(database).catch_up()
    before = rows(database, "wallet")
    with owner(database) as connection:
        connection.execute(
            "update wallet_v2 set discount_minor = 1 where coupon_id = (select min(coupon_id) from wallet)"
        )
    assert rows(database, "wallet") != before
    assert rebuild(database, PROJECTIONS[1]).same is False
    assert rows(database, "wallet") == before


def test_writes_and_the_runner_go_on(shop: Any, database: Database, batch_id: str) -> None:
    """Rebuilt again and again under load: nothing is lost or counted twice, and the rows are the log's."""
    stop = threading.Event()
    runner = threading.Thread(target=Runner(database).run, args=(stop,))
    runner.start()
    try:
        with writing(shop, batch_id):
            for _ in range(4):
                for projection in PROJECTIONS:
                    assert rebuild(database, projection).same is True
        Runner(database).catch_up()  # waits for the runner that leads
    finally:
        stop.set()
        runner.join(20)
    live = {projection.name: rows(database, projection.name) for projection in PROJECTIONS}
    assert len(live["wallet"]) > COUPONS
    for projection in PROJECTIONS:
        assert rebuild(database, projection).same is True
        assert rows(database, projection.name) == live[projection.name]


def test_a_new_version_takes_the_place_of_the_old(shop: Any, database: Database, batch_id: str) -> None:
    """The old release's runner then leaves it alone, and the new one's goes on with it."""
    old = Runner(database)
    head = old.catch_up()
    rebuilt = rebuild(database, NextWallet())
    assert (rebuilt.same, rebuilt.version, rebuilt.position) == (None, 3, head)
    assert status(database, "wallet") == (3, head, "RUNNING")
    assert tables(database) == {"wallet_v3"} | {
        projection.table for projection in PROJECTIONS if projection.name != "wallet"
    }
    with database.connect() as connection:
        notes = connection.execute("select distinct note from wallet").fetchall()
    assert notes == [("new",)]

    shop.coupon("user-9", batch_id)
    newer = old.catch_up()
    assert status(database, "wallet") == (3, head, "RUNNING")
    assert status(database, "coupon_status") == (2, newer, "RUNNING")
    Runner(database, [PROJECTIONS[0], NextWallet(), PROJECTIONS[6]]).catch_up()
    assert status(database, "wallet") == (3, newer, "RUNNING")
    assert len(rows(database, "wallet")) == COUPONS + 1


def test_a_faulted_projection_is_rebuilt_to_the_head(shop: Any, database: Database, batch_id: str) -> None:
    runner = Runner(database)
    runner.catch_up()
    with owner(database) as connection:
        connection.execute("delete from wallet_v2")
    coupon_id = shop.coupon("user-9", batch_id)
    shop.ledger.do(use_cases.void(shop.request(), coupon_id, reason="mistake"))
    with database.connect() as connection:
        locked = queries.ended_locks(connection, datetime.now(UTC) + timedelta(days=1))[0]
    shop.ledger.do(use_cases.unlock(shop.request(), locked.order_id, coupon_ids=[locked.coupon_id], reason="left"))
    head = runner.catch_up()
    assert status(database, "wallet")[2] == "FAULTED"
    rebuild(database, PROJECTIONS[1])
    assert status(database, "wallet") == (2, head, "RUNNING")
    assert len(rows(database, "wallet")) == COUPONS + 1


def test_a_rebuild_that_fails_leaves_all_as_it_was(database: Database, batch_id: str) -> None:
    Runner(database).catch_up()
    before = rows(database, "wallet"), status(database, "wallet"), tables(database)
    with pytest.raises(faults.Unfoldable, match=r"^wallet cannot fold position 1: .*cannot fold this"):
        rebuild(database, Refusing())
    assert (rows(database, "wallet"), status(database, "wallet"), tables(database)) == before


def test_one_projection_is_rebuilt_once_at_a_time(database: Database, batch_id: str) -> None:
    Runner(database).catch_up()

    def again(_done: int, _total: int) -> None:
        with pytest.raises(RebuildRunning):
            rebuild(database, PROJECTIONS[1])

    assert rebuild(database, PROJECTIONS[1], again).same is True


def test_a_long_read_delays_the_flip_and_costs_nothing(database: Database, batch_id: str) -> None:
    """The reader sees the old table to its end; the flip tries again."""
    Runner(database).catch_up()
    before = rows(database, "wallet")
    done = threading.Event()
    with checkpoints.connect(database) as reader, reader.transaction():
        held = reader.execute("select count(*) from wallet").fetchone()
        thread = threading.Thread(target=lambda: (rebuild(database, PROJECTIONS[1]), done.set()))
        thread.start()
        assert not done.wait(3)
        assert reader.execute("select count(*) from wallet").fetchone() == held
    thread.join(20)
    assert done.is_set()
    assert rows(database, "wallet") == before


def test_several_are_folded_in_one_pass(
    shop: Any, database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one is of another version; one that stopped further back has a pass of its own."""
    runner = Runner(database)
    runner.catch_up()
    with owner(database) as connection:
        connection.execute("update projection_checkpoints set state = 'FAULTED' where name = 'funnel'")
        connection.execute("update projection_checkpoints set version = 1 where name = 'wallet'")
        connection.execute("alter table wallet_v2 rename to wallet_v1")
    shop.coupon("user-9", batch_id)
    head = runner.catch_up()
    before = {projection.name: rows(database, projection.name) for projection in PROJECTIONS}
    read = list[tuple[int, int]]()

    def read_chunk(*arguments: Any, after: int, limit: int) -> Chunk:
        found = original(*arguments, after=after, limit=limit)
        read.append((after, found.last))
        return found

    original = chunk.read_chunk
    monkeypatch.setattr(chunk, "read_chunk", read_chunk)
    told = list[tuple[int, int]]()
    done = list(rebuild_each(database, PROJECTIONS, lambda *each: told.append(each)))
    rebuilt = [each for each in done if isinstance(each, Rebuilt)]
    ran = [projection.name for projection in PROJECTIONS if projection.name != "funnel"]
    assert [each.name for each in rebuilt] == [*ran, "funnel"]
    assert {each.name for each in rebuilt if each.same is not True} == {"wallet"}
    assert {each.position for each in rebuilt} == {head}
    assert [each for each in read if each[0] == 0] == [(0, head), (0, head - 1)]
    assert sum(last - after for after, last in read) < 2 * head + 2 * len(PROJECTIONS)
    assert told[-1] == (head, head)
    for name, found in before.items():
        if name not in ("funnel", "wallet"):
            assert rows(database, name) == found
    assert (len(rows(database, "funnel")), len(rows(database, "wallet"))) == (1, COUPONS + 1)
    assert {status(database, projection.name)[1:] for projection in PROJECTIONS} == {(head, "RUNNING")}


def test_one_that_cannot_be_rebuilt_does_not_stop_the_others(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that cannot be folded, nor one that somebody reads for too long."""
    head = Runner(database).catch_up()
    before = rows(database, "wallet"), status(database, "wallet")
    monkeypatch.setattr(flip, "LIMIT_SECONDS", 0.0)
    first, refusing, read, last = PROJECTIONS[0], Refusing(), PROJECTIONS[6], PROJECTIONS[-1]
    with checkpoints.connect(database) as reader, reader.transaction():
        reader.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(read.name)))
        done = list(rebuild_each(database, [first, refusing, read, last]))
    named = [each.name if isinstance(each, Rebuilt) else (type(each), each.facts["name"]) for each in done]
    assert named == [(faults.Unfoldable, "wallet"), first.name, (flip.ReadInTheWay, read.name), last.name]
    assert (rows(database, "wallet"), status(database, "wallet")) == before
    assert status(database, last.name) == (last.version, head, "RUNNING")
    assert tables(database) == {projection.table for projection in PROJECTIONS}
    assert rebuild(database, read).same is True


def test_none_is_rebuilt_where_somebody_rebuilds_one(database: Database, batch_id: str) -> None:
    Runner(database).catch_up()

    def again(_done: int, _total: int) -> None:
        with pytest.raises(RebuildRunning, match=r"^wallet is being rebuilt") as told:
            list(rebuild_each(database, PROJECTIONS))
        assert told.value.facts == {"name": "wallet"}

    assert rebuild(database, PROJECTIONS[1], again).same is True
    assert all(isinstance(each, Rebuilt) for each in rebuild_each(database, PROJECTIONS))
