"""Replay: what the log says again, beside what readers see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.application import Ledger
from ledger.database import PROJECTOR_ROLE, Database
from ledger.errors import InvalidField
from projections import apart, faults, replay
from projections.catalogue import PROJECTIONS
from projections.models.alerts import Alerts
from projections.models.coupon_status import CouponStatus
from projections.models.wallet import Wallet
from projections.runner import Runner
from tests.postgres.test_projections_fold import History
from tests.postgres.test_projections_rebuild import NextWallet, owner, writing
from tests.postgres.test_projections_runner import Stumbling, positions

MODELS = [CouponStatus(), Wallet()]


@pytest.fixture
def history(ledger: Ledger, shop: Any, database: Database) -> History:
    """A log with all that may happen to a coupon, folded."""
    history = History(ledger, shop, 3)
    for _ in range(150):
        history.step()
    Runner(database, chunk_events=11).catch_up()
    return history


@pytest.fixture
def projector(database: Database) -> Database:
    return Database(database.url, database.schema, PROJECTOR_ROLE)


@pytest.fixture
def schema(database: Database) -> Iterator[str]:
    """The name of a schema to keep a replay in."""
    name = f"{database.schema}_kept"
    yield name
    with psycopg.connect(database.url, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute(f'drop schema if exists "{name}" cascade'.encode())


def test_every_read_model_is_what_the_log_says(history: History, database: Database, projector: Database) -> None:
    head = history.ledger.store.head()
    told: list[tuple[int, int]] = []
    found = replay.compare(projector, PROJECTIONS, lambda done, total: told.append((done, total)))
    assert [(each.name, each.position, each.differing, each.first_key) for each in found] == [
        (projection.name, head, 0, None) for projection in PROJECTIONS
    ]
    assert all(each.live_rows == each.folded_rows for each in found)
    assert found[0].live_rows == len(history.coupons) > 10
    assert told[-1] == (head, head)


def test_it_is_shared_among_processes_where_there_is_much(
    history: History, projector: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replay.compare(projector, PROJECTIONS)
    monkeypatch.setattr(replay, "MANY_EVENTS", 0)
    told: list[tuple[int, int]] = []
    assert replay.compare(projector, PROJECTIONS, lambda done, total: told.append((done, total))) == here
    head = history.ledger.store.head()
    assert told[-1] == (2 * head, 2 * head)


def _fail(_: Any) -> None:
    raise InvalidField("no", field="x")


def _exit(_: Any) -> None:
    raise SystemExit(3)


def test_what_goes_wrong_in_a_process_is_told() -> None:
    with pytest.raises(InvalidField):
        apart.in_processes([_fail], print)
    with pytest.raises(RuntimeError, match="ended before"):
        apart.in_processes([_exit], print)


def test_what_differs_is_told_row_by_row(history: History, database: Database, projector: Database) -> None:
    """A row that was changed, one that was taken away, and one that was put in."""
    with owner(database) as connection:
        changed, gone = connection.execute(
            "select coupon_id from coupon_status order by coupon_id desc limit 2"
        ).fetchall()
        connection.execute("update coupon_status_v2 set discount_minor = 77777 where coupon_id = %s", changed)
        connection.execute("delete from coupon_status_v2 where coupon_id = %s", gone)
        connection.execute(
            "insert into coupon_status_v2 (coupon_id, merchant_id, batch_id, template_id, template_version, user_id,"
            " state, valid_from, valid_until, discount_minor, issued_at, version, position)"
            " select '!', merchant_id, batch_id, template_id, template_version, user_id, 'UNUSED', valid_from,"
            " valid_until, 0, issued_at, 1, 1 from coupon_status_v2 limit 1"
        )
    status, wallet = replay.compare(projector, MODELS)
    assert (status.differing, wallet.differing) == (3, 0)
    assert status.live_rows == status.folded_rows == wallet.live_rows
    assert status.first_key == {"coupon_id": "!"}
    assert status.live_row is not None and status.live_row["position"] == 1
    assert status.folded_row is None
    with owner(database) as connection:
        connection.execute("delete from coupon_status_v2 where coupon_id = '!'")
    status, _ = replay.compare(projector, MODELS)
    assert (status.differing, status.first_key) == (2, {"coupon_id": min(changed + gone)})
    assert (status.live_row, status.folded_row and status.folded_row["coupon_id"]) == (None, gone[0])


def test_writes_and_the_runner_go_on(shop: Any, history: History, database: Database, projector: Database) -> None:
    stop = threading.Event()
    runner = threading.Thread(target=Runner(database).run, args=(stop,))
    runner.start()
    try:
        with writing(shop, shop.batch(per_user_limit=None, quantity=10_000)):
            for _ in range(3):
                found = replay.compare(projector, PROJECTIONS)
                assert [each.differing for each in found] == [0] * len(PROJECTIONS)
    finally:
        stop.set()
        runner.join(20)


def test_one_that_stopped_is_compared_where_it_stopped(shop: Any, database: Database, projector: Database) -> None:
    batch_id = shop.batch(per_user_limit=None)
    for user in ("user-1", "bad", "user-2"):
        shop.coupon(user, batch_id)
    head = Runner(database, [CouponStatus(), Stumbling(ValueError("cannot fold this"))]).catch_up()
    assert positions(database) == {"coupon_status": (head, "RUNNING"), "wallet": (head - 2, "FAULTED")}
    found = replay.compare(projector, MODELS)
    assert [(each.position, each.folded_rows, each.differing) for each in found] == [(head, 3, 0), (head - 2, 1, 0)]


def test_another_version_is_not_compared(history: History, projector: Database) -> None:
    with pytest.raises(replay.NotComparable, match="projections rebuild wallet"):
        replay.compare(projector, [CouponStatus(), NextWallet()])


def test_read_models_as_they_were_are_kept_to_look_at(
    shop: Any, database: Database, projector: Database, schema: str
) -> None:
    batch_id = shop.batch(per_user_limit=None)
    shop.coupon("user-1", batch_id)
    then = shop.ledger.store.head()
    shop.coupon("user-2", batch_id)
    head = Runner(database).catch_up()
    kept = replay.keep(projector, PROJECTIONS, schema, then)
    assert {(each.name, each.rows) for each in kept} >= {("wallet", 1), ("coupon_status", 1), ("alerts", 0)}
    assert {each.position for each in kept} == {then}
    with Database(database.url, schema).connect() as connection:
        assert connection.execute("select user_id from wallet").fetchall() == [("user-1",)]
        indexes = connection.execute(
            "select count(*) from pg_index where indrelid = %s::regclass", (f'"{schema}".coupon_status_v2',)
        ).fetchone()
    with database.connect() as connection:
        live = connection.execute(
            "select count(*) from pg_index where indrelid = %s::regclass", ("coupon_status_v2",)
        ).fetchone()
        for projection in PROJECTIONS:  # each live view is where it was, and as it was
            rows = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(projection.name)))
            assert rows.fetchone() is not None
        assert connection.execute("select count(*) from wallet").fetchone() == (2,)
    assert indexes == live
    assert positions(database)["wallet"] == (head, "RUNNING")
    with pytest.raises(replay.SchemaExists):
        replay.keep(projector, PROJECTIONS, schema)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 1])
def test_live_rows_that_have_not_moved_since_are_compared(
    history: History, projector: Database, schema: str, part: float
) -> None:
    then = int(history.ledger.store.head() * part)
    kept = {each.name: each for each in replay.keep(projector, PROJECTIONS, schema, then)}
    assert {name for name, each in kept.items() if each.not_compared} == {"wallet", "shared_coupons", "reminders"}
    assert {each.differing for each in kept.values()} == {0, None}
    status = kept["coupon_status"]
    assert status.compared is not None
    assert 0 < status.compared <= status.rows
    assert (status.compared == status.rows) == (part == 1)


def test_what_differs_in_a_slice_is_told(shop: Any, database: Database, projector: Database, schema: str) -> None:
    """Of rows that have not moved since: one that was changed, one that was taken away."""
    batch_id = shop.batch(per_user_limit=None)
    changed, gone, moved, _ = (shop.coupon(f"user-{number}", batch_id) for number in range(4))
    then = shop.ledger.store.head()
    shop.ledger.do(use_cases.void(shop.request(), moved, reason="mistake"))
    shop.coupon("user-4", batch_id)
    Runner(database, MODELS).catch_up()
    with owner(database) as connection:
        connection.execute(
            "update coupon_status_v2 set discount_minor = 7 where coupon_id = any(%s)", ([changed, moved],)
        )
        connection.execute("delete from coupon_status_v2 where coupon_id = %s", (gone,))
    status, wallet = replay.keep(projector, MODELS, schema, then)
    assert (status.rows, status.compared, status.differing) == (4, 2, 2)
    assert status.first_key == {"coupon_id": min(changed, gone)}
    assert (wallet.compared, wallet.differing, wallet.not_compared) == (
        None, None, "its rows do not say when they last moved",
    )  # fmt: skip


def test_a_slice_is_not_compared_with_what_is_not_there_yet(
    shop: Any, database: Database, projector: Database, schema: str
) -> None:
    shop.coupon("user-1")
    at = Runner(database, [CouponStatus()]).catch_up()
    shop.coupon("user-2")
    status, wallet = replay.keep(projector, [CouponStatus(), Wallet()], schema)
    assert (status.compared, status.not_compared) == (None, f"live at position {at}")
    assert wallet.not_compared == "live in another version"


def test_what_cannot_be_kept_leaves_nothing(shop: Any, database: Database, projector: Database, schema: str) -> None:
    shop.coupon("bad")
    Runner(database, MODELS).catch_up()
    with pytest.raises(InvalidField, match="from 0 to 4"):
        replay.keep(projector, MODELS, schema, 5)
    with pytest.raises(faults.Unfoldable, match=r"^wallet cannot fold position 4: coupon.issued at .*cannot fold"):
        replay.keep(projector, [Stumbling(ValueError("cannot fold this")), Alerts()], schema)
    with owner(database) as connection:
        assert connection.execute("select to_regnamespace(%s) is null", (schema,)).fetchone() == (True,)
