"""What stopped a read model is shown, and it may be let pass over exactly that event, on the record."""

from __future__ import annotations

import json
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from coupon_ledger.cli import run_cli
from ledger import use_cases
from ledger.database import PROJECTOR_ROLE, Database
from projections import faults, queries, replay
from projections.models.batch_balance import BatchBalance
from projections.models.coupon_status import CouponStatus
from projections.models.wallet import Wallet
from projections.readiness import readiness
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.postgres.test_projections_runner import append_raw, count, owner, positions

MODELS = [CouponStatus(), Wallet(), BatchBalance()]
WHY = {"reason": "a test of the shop", "actor": "cli:ann"}


def inspect(database: Database, name: str) -> faults.Inspected:
    with database.connect() as connection:
        return faults.inspect(connection, name)


def skips(database: Database, name: str | None = None) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return [astuple(skip)[:-2] for skip in faults.skips(connection, name)]


@pytest.fixture
def poison(shop: Any, database: Database) -> int:
    """The position of an event that is no JSON, between two coupons; batch balance is stopped by it."""
    batch_id = shop.batch(per_user_limit=None)
    shop.coupon("user-1", batch_id)
    position = append_raw(database, "batch-x", 3, "batch.paused", "no \x7f json")
    shop.coupon("user-2", batch_id)
    Runner(database, MODELS).catch_up()
    return position


def test_what_stopped_it_is_shown_as_it_is_stored(database: Database, poison: int) -> None:
    found = inspect(database, "batch_balance")
    assert (found.state, found.position, found.event_position, found.lag_events) == (
        "FAULTED", poison - 1, poison, 2
    )  # fmt: skip
    assert (found.event_topic, found.event_version) == ("batch.paused", 3)
    assert found.event_payload == b"no \x7f json"
    assert f"position {poison}" in (found.fault or "")
    assert found.event_stream == "batch-x"
    runs = inspect(database, "wallet")
    assert (runs.state, runs.event_position, runs.event_payload, runs.fault) == ("RUNNING", None, None, None)
    with pytest.raises(faults.ProjectionNotFound):
        inspect(database, "horoscope")


def test_exactly_that_event_is_passed_over_and_written_down(shop: Any, database: Database, poison: int) -> None:
    before = positions(database)["wallet"]
    skipped = faults.skip(database, "batch_balance", position=poison, **WHY)
    assert (skipped.position, skipped.topic) == (poison, "batch.paused")
    assert positions(database)["batch_balance"] == (poison, "RUNNING")
    head = Runner(database, MODELS).catch_up()
    assert positions(database)["batch_balance"] == positions(database)["wallet"] == (head, "RUNNING")
    assert before[0] == head
    with database.connect() as connection:
        [(issued, state)] = connection.execute("select issued, state from batch_balance").fetchall()
        told = {row.name: row.skips for row in queries.status(connection)}
    assert (issued, state) == (2, "RUNNING")
    assert {name: number for name, number in told.items() if number} == {"batch_balance": 1}
    row = ("batch_balance", BatchBalance.version, poison, "batch.paused", "a test of the shop", "cli:ann")
    assert skips(database) == skips(database, "batch_balance") == [row]
    assert skips(database, "wallet") == []


def test_readiness_tells_lag_and_skips(shop: Any, database: Database, poison: int) -> None:
    stopped = readiness(shop.ledger.store)["projections"]
    assert stopped["ok"] is False
    shown = {model["name"]: model for model in stopped["models"]}["batch_balance"]
    assert (shown["lag_events"], shown["skips"]) == (2, 0)
    assert shown["lag_seconds"] > 0
    faults.skip(database, "batch_balance", **WHY)
    Runner(database, MODELS).catch_up()
    ready = readiness(shop.ledger.store)["projections"]
    shown = {model["name"]: model for model in ready["models"]}["batch_balance"]
    assert (ready["ok"], shown["lag_events"], shown["lag_seconds"], shown["skips"]) == (True, 0, 0, 1)


def test_readiness_tells_what_is_outdated(shop: Any, database: Database) -> None:
    """As after an upgrade, and after a way back: whatever state it was left in, nobody folds it."""
    shop.coupon("user-1")
    Runner(database).catch_up()
    assert readiness(shop.ledger.store)["projections"]["ok"] is True
    for version, state in ((Wallet.version - 1, "RUNNING"), (Wallet.version + 1, "FAULTED")):
        with owner(database) as connection:
            connection.execute(
                "update projection_checkpoints set version = %s, state = %s where name = 'wallet'", (version, state)
            )
        told = readiness(shop.ledger.store)["projections"]
        shown = {model["name"]: model for model in told["models"]}
        assert told["ok"] is False
        assert {name for name, model in shown.items() if model["state"] != "RUNNING"} == {"wallet"}
        wallet = shown["wallet"]
        assert (wallet["state"], wallet["version"], wallet["release_version"]) == ("OUTDATED", version, Wallet.version)
        found = inspect(database, "wallet")
        assert (found.state, found.version, found.release_version) == ("OUTDATED", version, Wallet.version)
    with pytest.raises(faults.ProjectionOutdated, match="wallet is live in version 3 and this release folds version 2"):
        faults.retry(database, "wallet")
    with pytest.raises(faults.ProjectionOutdated):
        faults.skip(database, "wallet", **WHY)
    assert faults.retry_all(database) == []


def test_a_model_that_this_release_has_not_is_no_trouble_of_it(shop: Any, database: Database) -> None:
    Runner(database).catch_up()
    with owner(database) as connection:
        connection.execute("insert into projection_checkpoints (name, version) values ('horoscope', 1)")
    told = readiness(shop.ledger.store)["projections"]
    [shown] = [model for model in told["models"] if model["name"] == "horoscope"]
    assert (told["ok"], shown["state"], shown["release_version"]) == (True, "RUNNING", None)


def test_only_what_is_stopped_and_only_there(database: Database, poison: int) -> None:
    with pytest.raises(faults.ProjectionNotFaulted):
        faults.skip(database, "wallet", **WHY)
    with pytest.raises(faults.ProjectionElsewhere, match=str(poison)):
        faults.skip(database, "batch_balance", position=poison + 1, **WHY)
    with pytest.raises(faults.ProjectionNotFound):
        faults.skip(database, "horoscope", **WHY)
    with pytest.raises(psycopg.errors.CheckViolation):
        faults.skip(database, "batch_balance", reason="", actor="cli:ann")
    assert positions(database)["batch_balance"] == (poison - 1, "FAULTED")
    assert skips(database) == []


def test_what_was_skipped_stays_on_the_record(database: Database, poison: int) -> None:
    faults.skip(database, "batch_balance", **WHY)
    for statement in ("update projection_skips set reason = 'none'", "delete from projection_skips"):
        with (
            Database(database.url, database.schema, PROJECTOR_ROLE).connect() as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.encode())


def test_a_hole_is_passed_over_too(shop: Any, database: Database) -> None:
    shop.coupon("user-1")
    with owner(database) as connection:
        connection.execute("alter table events disable trigger events_append_only")
        connection.execute("delete from events where notification_id = 1")  # the template
    Runner(database, MODELS).catch_up()
    found = inspect(database, "coupon_status")
    assert (found.event_position, found.event_topic, found.event_payload) == (1, None, None)
    assert faults.skip(database, "coupon_status", **WHY).topic is None
    Runner(database, MODELS).catch_up()
    assert count(database, "coupon_status") == 1
    assert rebuild(database, CouponStatus()).same is True


def test_a_rebuild_and_a_replay_pass_over_it_too(shop: Any, database: Database, poison: int) -> None:
    faults.skip(database, "batch_balance", **WHY)
    shop.coupon("user-3")
    Runner(database, MODELS).catch_up()
    rebuilt = rebuild(database, BatchBalance())
    assert (rebuilt.same, rebuilt.skips, rebuilt.skips_before) == (True, 1, 0)
    compared = replay.compare(database, MODELS)
    assert [(each.differing, each.skips) for each in compared] == [(0, 0), (0, 0), (0, 1)]


def test_the_commands_say_what_was_skipped_and_what_runs(
    database: Database, poison: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("COUPON_LEDGER_SCHEMA", database.schema)
    faults.skip(database, "batch_balance", **WHY)
    Runner(database, MODELS).catch_up()
    assert run_cli(["projections", "retry", "wallet"]) == 0
    assert capsys.readouterr().out == "wallet runs: there is nothing to retry\n"
    assert run_cli(["replay", "--models", "wallet,batch_balance"]) == 0
    wallet, balance = capsys.readouterr().out.splitlines()
    assert wallet.endswith("2 rows, as live")
    assert balance.endswith("1 rows, as live; 1 event skipped")
    assert run_cli(["replay", "--models", "batch_balance", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["skips"] == 1


def test_events_beside_a_skipped_one_are_folded_each_where_they_were(shop: Any, database: Database) -> None:
    """What follows in the same stream is stopped again, and whoever folds it again comes to the same rows."""
    batch_id = shop.batch(per_user_limit=None)
    coupon_id = shop.coupon("user-1", batch_id)
    stream = f"coupon-{coupon_id}"
    first = append_raw(database, stream, 2, "coupon.unlocked", "[]")
    shop.coupon("user-2", batch_id)
    wallet = [Wallet()]
    Runner(database, wallet).catch_up()
    assert positions(database)["wallet"] == (first - 1, "FAULTED")
    faults.skip(database, "wallet", **WHY)
    head = Runner(database, wallet, chunk_events=1).catch_up()
    assert positions(database)["wallet"] == (head, "RUNNING")
    assert rebuild(database, Wallet()).same is True
    assert replay.compare(database, wallet)[0].differing == 0


def test_a_newer_version_folds_it_again_and_says_so(shop: Any, database: Database) -> None:
    class Fussy(Wallet):
        def apply(self, chunk: Any, connection: Any, table: sql.Identifier) -> None:
            if any(getattr(recorded.event, "user_id", "") == "bad" for recorded in chunk.events):
                raise ValueError("cannot fold this")
            super().apply(chunk, connection, table)

    class Patient(Wallet):
        version = Wallet.version + 1

    batch_id = shop.batch(per_user_limit=None)
    for user in ("user-1", "bad", "user-2"):
        shop.coupon(user, batch_id)
    Runner(database, [Fussy()]).catch_up()
    faults.skip(database, "wallet", **WHY)
    Runner(database, [Fussy()]).catch_up()
    assert count(database, "wallet") == 2
    assert rebuild(database, Fussy()).same is True
    rebuilt = rebuild(database, Patient())
    assert (rebuilt.same, rebuilt.rows, rebuilt.skips, rebuilt.skips_before) == (None, 3, 0, 1)
    assert count(database, "wallet") == 3


@pytest.fixture
def lost(shop: Any, database: Database) -> tuple[str, int]:
    """A coupon whose row was lost, and the position of the first of two events that came then; that one is skipped."""
    batch_id = shop.batch(per_user_limit=None)
    coupon_id = shop.coupon("user-1", batch_id)
    lock = use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id])
    shop.ledger.do(lock)
    head = Runner(database, MODELS).catch_up()
    with owner(database) as connection:
        connection.execute("delete from coupon_status_v2 where coupon_id = %s", (coupon_id,))
    later = shop.request(at=datetime.now(UTC) + timedelta(hours=1))  # when the lock has ended
    shop.ledger.do(use_cases.void(later, coupon_id, reason="mistake"))
    Runner(database, MODELS).catch_up()
    assert faults.skip(database, "coupon_status", **WHY).topic == "coupon.unlocked"
    Runner(database, MODELS).catch_up()
    assert positions(database)["coupon_status"] == (head + 1, "FAULTED")
    return coupon_id, head + 1


def test_what_cannot_be_folded_again_is_told_in_a_line(database: Database, lost: tuple[str, int]) -> None:
    """The rebuild passes over what was skipped too, so that the event after it lacks the one before."""
    coupon_id, at = lost
    said = f"^coupon_status cannot fold position {at + 1}: coupon.voided at coupon-{coupon_id} v4: ValueError: .*$"
    with pytest.raises(faults.Unfoldable, match=said) as told:
        rebuild(database, CouponStatus())
    assert told.value.facts == {"name": "coupon_status", "position": at + 1}
    assert positions(database)["coupon_status"] == (at, "FAULTED")
    faults.skip(database, "coupon_status", **WHY)
    head = Runner(database, MODELS).catch_up()
    assert head == at + 1
    # Now both are passed over, so the replay folds; and the live row is still lost.
    assert replay.compare(database, [CouponStatus()])[0].differing == 1


def test_skips_are_taken_back(shop: Any, database: Database, lost: tuple[str, int]) -> None:
    _, at = lost
    rebuilt = rebuild(database, CouponStatus(), fold_skipped_by="cli:bob")
    assert (rebuilt.rows, rebuilt.skips, rebuilt.folded_again) == (1, 0, 1)
    assert Runner(database, MODELS).catch_up() == at + 1
    assert positions(database)["coupon_status"] == (at + 1, "RUNNING")
    with database.connect() as connection:
        assert connection.execute("select state from coupon_status").fetchall() == [("VOIDED",)]
        [skip] = faults.skips(connection)
        kept = connection.execute("select version, position, actor from projection_skips order by id").fetchall()
    assert skip.folded_at is not None and skip.folded_at > skip.skipped_at
    assert kept == [(CouponStatus.version, at, "cli:ann"), (-CouponStatus.version, at, "cli:bob")]
    again = rebuild(database, CouponStatus())
    assert (again.same, again.skips, again.folded_again) == (True, 0, 0)
    [compared] = replay.compare(database, [CouponStatus()])
    assert (compared.differing, compared.skips) == (0, 0)
    assert rebuild(database, CouponStatus(), fold_skipped_by="cli:bob").folded_again == 0


def test_skips_of_what_still_cannot_be_folded_stay(database: Database, poison: int) -> None:
    faults.skip(database, "batch_balance", **WHY)
    Runner(database, MODELS).catch_up()
    with pytest.raises(faults.Unfoldable, match=f"batch_balance cannot fold position {poison}: "):
        rebuild(database, BatchBalance(), fold_skipped_by="cli:bob")
    assert len(skips(database)) == 1
    assert rebuild(database, BatchBalance()).skips == 1


def test_what_was_taken_back_may_be_skipped_again(database: Database, lost: tuple[str, int]) -> None:
    _, at = lost
    rebuild(database, CouponStatus(), fold_skipped_by="cli:bob")
    with owner(database) as connection:
        connection.execute("delete from coupon_status_v2")
        connection.execute("update projection_checkpoints set position = %s where name = 'coupon_status'", (at - 1,))
    Runner(database, MODELS).catch_up()
    faults.skip(database, "coupon_status", **WHY)
    with database.connect() as connection:
        assert [skip.folded_at is None for skip in faults.skips(connection)] == [False, True]
        assert faults.skipped(connection, "coupon_status", CouponStatus.version) == [at]
