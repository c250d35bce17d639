"""The runner: one leads, rows and checkpoint move together, trouble passes, poison stops only whom it concerns."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.events import EVENTS
from projections import checkpoints, faults, queries
from projections.catalogue import PROJECTIONS
from projections.chunk import Chunk
from projections.models.coupon_status import CouponStatus
from projections.models.wallet import Wallet
from projections.projection import Connection, Projection
from projections.runner import Runner

WAIT_SECONDS = 20.0


class Stumbling(Wallet):
    """A wallet that cannot fold coupons of one user, until it is told that it can or was asked so many times."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.bad_user = "bad"
        self.times = 1_000

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        super().apply(chunk, connection, table)
        if self.error and self.times and any(getattr(r.event, "user_id", "") == self.bad_user for r in chunk.events):
            self.times -= 1
            raise self.error


@contextmanager
def running(*runners: Runner) -> Iterator[list[threading.Event]]:
    """Each runner in a thread of its own, with its stop."""
    stops = [threading.Event() for _ in runners]
    threads = [threading.Thread(target=runner.run, args=(stop,)) for runner, stop in zip(runners, stops, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield stops
    finally:
        for stop in stops:
            stop.set()
        for thread in threads:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()


def until(what: Callable[[], Any]) -> Any:
    """Wait until it is true, and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := what()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return value


def leaders(database: Database) -> list[int]:
    """Process ids of the sessions that hold the lease."""
    with database.connect() as connection:
        rows = connection.execute(
            "select pid from pg_locks where locktype = 'advisory' and granted and objid = 1"
            "   and classid = 'projection_checkpoints'::regclass::oid"
            "   and database = (select oid from pg_database where datname = current_database())"
        )
        return [pid for (pid,) in rows]


def positions(database: Database) -> dict[str, tuple[int, str]]:
    with database.connect() as connection:
        return {row.name: (row.position, row.state) for row in queries.status(connection)}


def wait_for(database: Database, position: int) -> None:
    def there() -> bool:
        found = positions(database).values()
        return bool(found) and all(reached >= position or state == "FAULTED" for reached, state in found)

    until(there)


def count(database: Database, view: str) -> int:
    with database.connect() as connection:
        row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(view))).fetchone()
        assert row is not None
        return int(row[0])


def owner(database: Database) -> psycopg.Connection[Any]:
    """Somebody with all rights on the schema."""
    options = f"-c search_path={database.schema}"
    return psycopg.connect(database.url, autocommit=True, options=options)


def append_raw(database: Database, stream: str, version: int, topic: str, state: str) -> int:
    """A row in the log that no use case wrote, and of which nobody is notified."""
    with owner(database) as connection:
        row = connection.execute(
            "insert into events (originator_id, originator_version, topic, state, notification_id)"
            " select %s, %s, %s, convert_to(%s, 'utf8'), max(notification_id) + 1 from events"
            " returning notification_id",
            (stream, version, topic, state),
        ).fetchone()
        assert row is not None
        return int(row[0])


def test_a_write_shows_in_every_read_model(ledger: Ledger, shop: Any, database: Database) -> None:
    batch_id = shop.batch(per_user_limit=None)
    with running(Runner(database)):
        for number in range(5):
            claimed = ledger.do(use_cases.claim(shop.request(), batch_id, f"user-{number}"))
            wait_for(database, claimed.position)
            with database.connect() as connection:
                now = datetime.now(UTC)
                coupon_id = claimed.answer["coupon_id"]
                assert queries.coupon(connection, "merchant-1", coupon_id, now).position == claimed.position
                [listed] = queries.wallet(connection, "merchant-1", f"user-{number}", now).coupons
                assert listed.coupon_id == coupon_id
                assert queries.balance(connection, "merchant-1", batch_id, now).issued == number + 1


def test_a_lost_notification_delays_nothing_for_long(shop: Any, database: Database) -> None:
    shop.batch()
    with running(Runner(database)):
        wait_for(database, 3)
        position = append_raw(database, "template-x", 1, "template.created", "{}")
        wait_for(database, position)


def test_rows_and_checkpoint_move_together_or_not_at_all(shop: Any, database: Database) -> None:
    """The connection is lost after the first of two projections has written its rows."""
    shop.coupon("user-1")
    stumbling = Stumbling(psycopg.OperationalError("the connection is lost"))
    runner = Runner(database, [CouponStatus(), stumbling])
    runner.catch_up()
    before = positions(database)
    shop.coupon("bad")
    with pytest.raises(psycopg.OperationalError):
        runner.catch_up()
    assert positions(database) == before
    assert (count(database, "coupon_status"), count(database, "wallet")) == (1, 1)
    stumbling.error = None
    runner.catch_up()
    assert (count(database, "coupon_status"), count(database, "wallet")) == (2, 2)
    assert len(set(positions(database).values())) == 1


def test_trouble_with_the_database_is_outlived(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    stumbling = Stumbling(psycopg.OperationalError("no room on the disk"))
    with running(Runner(database, [CouponStatus(), stumbling])):
        shop.coupon("bad")
        head = shop.ledger.store.head()
        until(lambda: stumbling.name in positions(database))
        time.sleep(0.3)
        assert {state for _, state in positions(database).values()} == {"RUNNING"}
        stumbling.error = None
        wait_for(database, head)
    assert count(database, "wallet") == 2


def test_a_killed_session_is_replaced(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    with running(Runner(database)):
        for number in range(3):
            [pid] = until(lambda: leaders(database))
            with owner(database) as connection:
                connection.execute("select pg_terminate_backend(%s)", (pid,))
            shop.coupon(f"user-{number}")
            wait_for(database, shop.ledger.store.head())
            assert until(lambda: leaders(database)) != [pid]
    assert count(database, "coupon_status") == 4


def test_one_leads_and_another_takes_over(shop: Any, database: Database) -> None:
    """Whichever of the two is stopped first, the log is followed without a gap by exactly one."""
    with running(Runner(database), Runner(database)) as stops:
        until(lambda: leaders(database))
        for stop in stops:
            shop.coupon("user-1")
            wait_for(database, shop.ledger.store.head())
            assert len(leaders(database)) == 1
            stop.set()
            if stop is not stops[-1]:
                shop.coupon("user-2")
                wait_for(database, shop.ledger.store.head())
        until(lambda: not leaders(database))
    assert count(database, "coupon_status") == 3


def test_catch_up_waits_for_the_runner_that_leads(shop: Any, database: Database) -> None:
    with running(Runner(database)):
        until(lambda: leaders(database))
        shop.coupon("user-1")
        head = Runner(database).catch_up()
        assert {position for position, _ in positions(database).values()} == {head}


@pytest.mark.parametrize("chunk_events", [1, 7, 5_000])
def test_poison_stops_one_projection_at_the_exact_event(shop: Any, database: Database, chunk_events: int) -> None:
    batch_id = shop.batch(per_user_limit=None)
    for user in ("user-1", "user-2", "user-3"):
        shop.coupon(user, batch_id)
    good = shop.ledger.store.head()
    bad_id = shop.coupon("bad", batch_id)
    for user in ("user-4", "user-5"):
        shop.coupon(user, batch_id)
    stumbling = Stumbling(ValueError("cannot fold this"))
    runner = Runner(database, [CouponStatus(), stumbling, PROJECTIONS[6]], chunk_events=chunk_events)
    head = runner.catch_up()
    assert positions(database) == {
        "coupon_status": (head, "RUNNING"), "wallet": (good, "FAULTED"), "batch_balance": (head, "RUNNING"),
    }  # fmt: skip
    assert (count(database, "coupon_status"), count(database, "wallet")) == (6, 3)
    with database.connect() as connection:
        [fault] = [row for row in queries.status(connection) if row.state == "FAULTED"]
        assert fault.lag_events == 3
        assert fault.lag_seconds > 0
        for word in (f"position {good + 1}", "coupon.issued", bad_id, "ValueError: cannot fold this"):
            assert word in (fault.fault or "")
    wait_for(database, head)  # the others have it

    shop.coupon("user-6", batch_id)
    runner.catch_up()
    assert positions(database)["wallet"] == (good, "FAULTED")

    faults.retry(database, "wallet")
    runner.catch_up()
    assert positions(database)["wallet"] == (good, "FAULTED")

    stumbling.error = None
    faults.retry(database, "wallet")
    head = runner.catch_up()
    assert set(positions(database).values()) == {(head, "RUNNING")}
    assert (count(database, "coupon_status"), count(database, "wallet")) == (7, 7)


def test_a_projection_that_catches_up_does_not_hold_up_the_others(shop: Any, database: Database) -> None:
    """The one that lags goes on in chunks of its own until it meets the others, and then with them."""
    batch_id = shop.batch(per_user_limit=None)
    stumbling = Stumbling(ValueError("cannot fold this"))
    runner = Runner(database, [CouponStatus(), stumbling], chunk_events=4)
    shop.coupon("bad", batch_id)
    for number in range(10):
        shop.coupon(f"user-{number}", batch_id)
    runner.catch_up()
    stumbling.error = None
    faults.retry(database, "wallet")
    shop.coupon("user-10", batch_id)
    with checkpoints.connect(database) as connection:
        assert runner._round(connection) == 5
        assert positions(database)["coupon_status"] == (shop.ledger.store.head(), "RUNNING")
        rounds = 1
        while runner._round(connection):
            rounds += 1
    assert rounds == 3
    assert count(database, "wallet") == 12


def test_an_event_that_cannot_be_read_stops_those_that_fold_it(shop: Any, database: Database) -> None:
    batch_id = shop.batch()
    good = shop.ledger.store.head()
    append_raw(database, f"batch-{batch_id}", 3, "batch.paused", "no json")
    shop.coupon("user-1")
    head = Runner(database).catch_up()
    expected = {projection.name: (head, "RUNNING") for projection in PROJECTIONS}
    assert positions(database) == expected | {"batch_balance": (good, "FAULTED")}


def test_a_value_that_no_index_takes_stops_those_that_index_it(shop: Any, database: Database) -> None:
    """PostgreSQL counts it among errors of operation, and it never passes."""
    shop.coupon("user-1")
    good = shop.ledger.store.head()
    long = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(100))
    with owner(database) as connection:
        row = connection.execute(
            "select (payload || jsonb_build_object('user_id', %s::text))::text from event_log"
            " where topic = 'coupon.issued'",
            (long,),
        ).fetchone()
        assert row is not None
    append_raw(database, "coupon-another", 1, "coupon.issued", row[0])
    shop.coupon("user-2")
    head = Runner(database).catch_up()
    found = positions(database)
    assert found["wallet"] == (good, "FAULTED")
    assert found["batch_balance"] == (head, "RUNNING")
    assert set(found.values()) == {(good, "FAULTED"), (head, "RUNNING")}
    with database.connect() as connection:
        assert "ProgramLimitExceeded" in (faults.inspect(connection, "wallet").fault or "")


def test_an_event_that_takes_too_long_stops_one_projection(shop: Any, database: Database) -> None:
    """But not at the first time, for somebody may have cancelled the statement."""
    batch_id = shop.batch(per_user_limit=None)
    shop.coupon("user-1", batch_id)
    good = shop.ledger.store.head()
    shop.coupon("bad", batch_id)
    stumbling = Stumbling(psycopg.errors.QueryCanceled("statement timeout"))
    stumbling.times = 2
    head = Runner(database, [CouponStatus(), stumbling]).catch_up()
    assert set(positions(database).values()) == {(head, "RUNNING")}
    for user in ("bad", "user-2"):
        shop.coupon(user, batch_id)
    stumbling.times = 1_000
    newer = Runner(database, [CouponStatus(), stumbling]).catch_up()
    assert positions(database) == {"coupon_status": (newer, "RUNNING"), "wallet": (head, "FAULTED")}
    assert head == good + 1


@pytest.mark.parametrize(
    ("error", "of_the_database"),
    [
        (psycopg.OperationalError(), True),
        (psycopg.InterfaceError(), True),
        (psycopg.errors.ConnectionFailure(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.IdleSessionTimeout(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.SerializationFailure(), True),
        (psycopg.errors.LockNotAvailable(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.TransactionTimeout(), True),
        (psycopg.errors.ProgramLimitExceeded(), False),
        (psycopg.errors.StatementTooComplex(), False),
        (psycopg.errors.QueryCanceled(), False),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.DataError(), False),
        (ValueError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_database_is_to_blame_for(error: Exception, of_the_database: bool) -> None:
    assert checkpoints.of_the_database(error) is of_the_database


def test_a_time_that_is_none_stops_those_that_write_it(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    good = shop.ledger.store.head()
    with owner(database) as connection:
        row = connection.execute(
            """select (payload || '{"valid_until": "soon"}')::text from event_log where topic = 'coupon.issued'"""
        ).fetchone()
        assert row is not None
    append_raw(database, "coupon-another", 1, "coupon.issued", row[0])
    Runner(database).catch_up()
    found = positions(database)
    assert found["coupon_status"] == found["wallet"] == (good, "FAULTED")


def test_a_foreign_topic_stops_everybody(shop: Any, database: Database) -> None:
    """An older runner must not pass over an event that it does not know: it may well have been its own."""
    shop.batch()
    good = shop.ledger.store.head()
    append_raw(database, "coupon-1", 2, "coupon.gilded", "{}")
    Runner(database).catch_up()
    assert set(positions(database).values()) == {(good, "FAULTED")}
    with database.connect() as connection:
        assert all("ForeignEvent" in (row.fault or "") for row in queries.status(connection))


def test_a_runner_of_which_all_stopped_lives_on(shop: Any, database: Database) -> None:
    """Whoever lets them go on need not start it again."""
    shop.batch()
    good = shop.ledger.store.head()
    foreign = append_raw(database, "coupon-1", 2, "coupon.gilded", "{}")
    with running(Runner(database)):
        until(lambda: set(positions(database).values()) == {(good, "FAULTED")})
        time.sleep(1)
        for projection in PROJECTIONS:
            faults.skip(database, projection.name, reason="a test", actor="cli:ann")
        until(lambda: set(positions(database).values()) == {(foreign, "RUNNING")})


def test_a_newer_version_of_an_event_stops_those_that_fold_it(shop: Any, database: Database) -> None:
    batch_id = shop.batch()
    good = shop.ledger.store.head()
    newer = append_raw(database, f"batch-{batch_id}", 3, "batch.paused", '{"class_version": 99}')
    Runner(database).catch_up()
    found = positions(database)
    assert found["batch_balance"] == (good, "FAULTED")
    assert found["wallet"] == (newer, "RUNNING")


def test_the_release_that_knows_an_event_goes_on_by_itself(
    shop: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a rolling upgrade, in which the older release led when the first of the new events came.

    The topic is first known to nobody. What stopped a model for another reason is left to an operator.
    """
    coupon_id = shop.coupon("user-1")
    good = shop.ledger.store.head()
    gilded = append_raw(database, f"coupon-{coupon_id}", 2, "coupon.gilded", "{}")
    append_raw(database, "batch-x", 3, "batch.paused", "no json")
    shop.coupon("user-2")
    head = shop.ledger.store.head()
    with running(Runner(database)):
        until(lambda: set(positions(database).values()) == {(good, "FAULTED")})

    monkeypatch.setitem(EVENTS, "coupon.gilded", EVENTS["template.created"])  # which no model folds
    expected = {projection.name: (head, "RUNNING") for projection in PROJECTIONS}
    with running(Runner(database)):
        until(lambda: positions(database) == expected | {"batch_balance": (gilded, "FAULTED")})

    with running(Runner(database)):
        shop.coupon("user-3")
        head = shop.ledger.store.head()
        wait_for(database, head)
    assert positions(database)["batch_balance"] == (gilded, "FAULTED")


def test_a_hole_in_the_log_is_not_passed_over(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    with owner(database) as connection:
        connection.execute("alter table events disable trigger events_append_only")
        connection.execute("delete from events where notification_id = 2")
    Runner(database).catch_up()
    assert set(positions(database).values()) == {(1, "FAULTED")}
    with database.connect() as connection:
        assert all("position 2 is missing" in (row.fault or "") for row in queries.status(connection))


def test_an_event_without_its_row_is_poison(shop: Any, database: Database) -> None:
    """A coupon's row that somebody deleted is not made up for."""
    coupon_id = shop.coupon("user-1")
    Runner(database).catch_up()
    with owner(database) as connection:
        connection.execute("delete from wallet_v2")
    shop.ledger.do(use_cases.void(shop.request(), coupon_id, reason="mistake"))
    Runner(database).catch_up()
    assert [name for name, (_, state) in positions(database).items() if state != "RUNNING"] == ["wallet"]


def test_the_law_is_a_wall_in_the_table(shop: Any, database: Database) -> None:
    batch_id = shop.batch()
    shop.coupon("user-1", batch_id)
    Runner(database).catch_up()
    with owner(database) as connection, pytest.raises(psycopg.errors.CheckViolation, match="conservation_law"):
        connection.execute("update batch_balance_v3 set unused = unused + 1 where batch_id = %s", (batch_id,))


EMPTY = {"shared_coupons", "reminders", "alerts", "order_coupons", "customers"}
"""Read models in which a coupon that was only issued has no row."""


def test_the_app_reads_and_cannot_write(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    Runner(database).catch_up()
    with database.connect() as connection:
        for projection in PROJECTIONS:
            rows = 0 if projection.name in EMPTY else 1
            for name in (projection.name, projection.table):
                assert connection.execute(sql.SQL("select * from {}").format(sql.Identifier(name))).rowcount == rows
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL("delete from {}").format(sql.Identifier(name)))


def test_retry_leaves_alone_what_runs(shop: Any, database: Database) -> None:
    shop.coupon("bad")
    stumbling = Stumbling(ValueError("cannot fold this"))
    Runner(database, [CouponStatus(), stumbling]).catch_up()
    assert faults.retry(database, "wallet") is True
    assert faults.retry(database, "wallet") is False
    assert faults.retry(database, "coupon_status") is False


def test_all_that_stopped_are_let_go_on(shop: Any, database: Database) -> None:
    shop.batch()
    append_raw(database, "coupon-1", 2, "coupon.gilded", "{}")
    Runner(database).catch_up()
    assert faults.retry_all(database) == sorted(projection.name for projection in PROJECTIONS)
    assert {state for _, state in positions(database).values()} == {"RUNNING"}
    assert faults.retry_all(database) == []


def test_retry_of_an_unknown_projection_is_refused(database: Database) -> None:
    with pytest.raises(checkpoints.ProjectionNotFound):
        faults.retry(database, "horoscope")


def test_an_unbuilt_version_is_left_to_rebuild(shop: Any, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A runner of a newer release never folds into the old version's table, nor starts a second one by itself."""

    class Newer(Wallet):
        version = Wallet.version + 1

    shop.coupon("user-1")
    Runner(database).catch_up()
    before = positions(database)
    shop.coupon("user-2")
    newer: list[Projection] = [CouponStatus(), Newer()]
    with running(Runner(database, newer)):
        until(lambda: positions(database)["coupon_status"] != before["coupon_status"])
    assert positions(database)["wallet"] == before["wallet"]
    assert f"rebuild it as {Newer.version}" in caplog.text
