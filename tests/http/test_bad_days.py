"""Bad days as a caller sees them: 503, when to come again, and the truth under the same key afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from api import keys
from api.app import create_app
from ledger import store as store_module
from ledger.application import Ledger
from ledger.commit import Committer, Unit, Verdict
from ledger.database import SESSION_LIMITS, Database
from ledger.migrate import migrate
from ledger.store import Store
from tests.conftest import MERCHANT, Shop
from tests.http.conftest import Answer, Caller
from tests.postgres.own_server import OwnServer, small_disk, wait_until
from tests.postgres.tools import (
    Wire,
    assert_guards_equal_events,
    picture,
    wait_for_writers,
    whole_log,
    writers_blocked,
)


@dataclass
class Service:
    """The API on one ledger, and a shopper app that claims from one batch."""

    ledger: Ledger
    app: Caller
    batch_id: str

    def claim(self, key: str, user_id: str = "user-1") -> Answer:
        return self.app.post(f"/v1/batches/{self.batch_id}/claims", {"user_id": user_id}, key=key)


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Serves a database, with a batch that is ready."""
    with ExitStack() as open_ledgers:

        def make(database: Database, callers_limit: int = 1_000) -> Service:
            ledger = Ledger(Store(database), callers_limit)
            open_ledgers.callback(ledger.close)
            with ledger.store.connection() as connection:
                token = keys.create(connection, MERCHANT, "shopper-app", "test")
            batch_id = Shop(ledger).batch(quantity=1_000_000, per_user_limit=None)
            return Service(ledger, Caller(create_app(ledger), token), batch_id)

        yield make


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    """A server that the test may treat badly."""
    with OwnServer(tmp_path / "state") as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the writers' lock waits as long as the test takes to gather callers behind it."""
    monkeypatch.setitem(SESSION_LIMITS, "lock_timeout", "60s")


def own_ledger(server: OwnServer) -> Database:
    migrate(server.url, "bad_days")
    return Database(server.url, "bad_days")


def come_again(answer: Answer, code: str) -> None:
    """The refusal of a service that could not, and not of a rule."""
    answer.refused(503, code)
    assert answer.headers["Retry-After"] == "1"


def once_back(ask: Callable[[], Answer]) -> Answer:
    """The first answer that is not 503."""
    answers: list[Answer] = []

    def answered() -> bool:
        answers.append(ask())
        return answers[-1].status != 503

    wait_until(answered)
    return answers[-1]


@pytest.mark.usefixtures("patient")
def test_a_full_queue_is_told_before_anybody_who_waits_is_answered(
    database: Database,
    serve: Callable[..., Service],
    callers: ThreadPoolExecutor,
) -> None:
    service = serve(database, callers_limit=5)
    with writers_blocked(database):
        first = callers.submit(service.claim, "first")
        wait_for_writers(database)
        rest = {callers.submit(service.claim, f"claim-{n}"): f"claim-{n}" for n in range(16)}
        # Besides the first, four may wait.
        wait_until(lambda: sum(future.done() for future in rest) == 16 - 4)
        refused = {future: key for future, key in rest.items() if future.done()}
        for future in refused:
            come_again(future.result(), "queue_full")
        assert not first.done()
    assert all(future.result(30).status == 201 for future in [first, *(rest.keys() - refused.keys())])
    issued = {entry.event.request_id for entry in whole_log(service.ledger.store)}
    assert issued.isdisjoint(refused.values())
    assert [service.claim(key).status for key in refused.values()] == [201] * len(refused)
    assert_guards_equal_events(database)


def test_a_lock_that_does_not_come_writes_nothing(database: Database, serve: Callable[[Database], Service]) -> None:
    service = serve(database)
    service.claim("warm").ok(201)
    before = picture(database)
    with writers_blocked(database):
        come_again(service.claim("blocked"), "unavailable")
    assert picture(database) == before
    assert "Idempotent-Replayed" not in service.claim("blocked").headers


def test_a_server_that_stops_and_starts_again(
    own: OwnServer, serve: Callable[[Database], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POOL_WAIT_SECONDS", 0.3)
    database = own_ledger(own)
    service = serve(database)
    before = service.claim("before").ok(201)
    own.stop()
    for n in range(3):
        answer = service.claim(f"away-{n}")
        come_again(answer, answer.json["code"])
    come_again(service.app.get(f"/v1/coupons/{before['coupon_id']}"), "unavailable")
    come_again(service.app.get("/readyz"), "not_ready")
    service.app.get("/livez").ok()
    own.start()
    repeat = once_back(lambda: service.claim("before"))
    assert (repeat.ok(201), repeat.headers["Idempotent-Replayed"]) == (before, "true")
    assert [once_back(lambda n=n: service.claim(f"away-{n}")).status for n in range(3)] == [201] * 3  # type: ignore[misc]
    issued = [entry for entry in whole_log(service.ledger.store) if entry.event.TOPIC == "coupon.issued"]
    assert len(issued) == 4
    assert_guards_equal_events(database)


def test_a_full_disk_stops_writing_and_nothing_else(
    own: OwnServer, serve: Callable[[Database], Service], callers: ThreadPoolExecutor
) -> None:
    with small_disk(32) as disk:
        tables = disk.path / "tables"
        tables.mkdir()
        os.chown(tables, own.user, -1)
        own.execute(
            f"create tablespace small location '{tables}'", "alter database postgres set default_tablespace = small"
        )
        database = own_ledger(own)
        service = serve(database)
        acknowledged = {f"before-{n}": service.claim(f"before-{n}").ok(201) for n in range(5)}
        disk.fill()
        refused = None
        for n in range(20_000):  # there is room on the pages that the tables have
            answer = service.claim(f"full-{n}")
            if answer.status != 201:
                refused = f"full-{n}"
                come_again(answer, "unavailable")
                break
            acknowledged[f"full-{n}"] = answer.json
        assert refused is not None
        assert "No space left on device" in own.log
        before = picture(database)
        for future in [callers.submit(service.claim, f"crowd-{n}") for n in range(20)]:
            come_again(future.result(30), "unavailable")
        assert picture(database) == before
        coupon_id = acknowledged["before-0"]["coupon_id"]
        assert service.app.get(f"/v1/coupons/{coupon_id}").ok()["state"] == "UNUSED"
        disk.free()
        assert service.claim(refused).ok(201)
        for key, answer in acknowledged.items():
            repeat = service.claim(key)
            assert (repeat.ok(201), repeat.headers["Idempotent-Replayed"]) == (answer, "true")
        assert_guards_equal_events(database)
        service.ledger.close()
        own.stop()


@pytest.mark.usefixtures("patient")
def test_an_answer_lost_after_the_commit_is_given_under_the_same_key(
    database: Database, serve: Callable[[Database], Service], callers: ThreadPoolExecutor
) -> None:
    with Wire(database.url) as wire:
        service = serve(replace(database, url=wire.url))
        service.claim("warm").ok(201)
        with writers_blocked(database):
            lost: Future[Answer] = callers.submit(service.claim, "lost")
            wait_for_writers(database)
            wire.lose_reply()
        come_again(lost.result(30), "outcome_unknown")
        wire.mend()
        first = once_back(lambda: service.claim("lost"))
        assert first.headers["Idempotent-Replayed"] == "true"
        assert service.claim("lost").ok(201) == first.ok(201)
        log = whole_log(service.ledger.store)
        assert [entry.event.request_id for entry in log if entry.event.TOPIC == "coupon.issued"] == ["warm", "lost"]
        service.ledger.close()


@pytest.mark.usefixtures("patient")
def test_a_statement_that_the_server_refuses_is_one_callers_trouble(
    database: Database,
    serve: Callable[[Database], Service],
    callers: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trigger stands for whatever makes a server refuse one row: here, that of one user."""
    service = serve(database)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f'set search_path to "{database.schema}"')
        connection.execute(
            "create function refuse_one() returns trigger language plpgsql as $$ begin"
            " if position('poison' in convert_from(new.state, 'utf8')) > 0 then raise 'poison'; end if;"
            " return new; end $$;"
            "create trigger poison before insert on events for each row execute function refuse_one()"
        )
    handed_in: list[Unit] = []
    ask = Committer.ask

    def listed(committer: Committer, unit: Unit) -> Verdict:
        handed_in.append(unit)
        return ask(committer, unit)

    monkeypatch.setattr(Committer, "ask", listed)
    with writers_blocked(database):
        first = callers.submit(service.claim, "first")
        wait_for_writers(database)
        good = [callers.submit(service.claim, f"good-{n}", f"user-{n}") for n in range(20)]
        bad = callers.submit(service.claim, "bad", "poison")
        wait_until(lambda: len(handed_in) == 22)
    assert [future.result(30).status for future in [first, *good]] == [201] * 21
    bad.result(30).refused(500, "internal_error")
    assert_guards_equal_events(database)
