"""The committer when things go wrong: every caller gets a true answer, and nothing needs a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from ledger import grouping, store, use_cases
from ledger.application import Ledger
from ledger.commit import Committer, Unit
from ledger.database import Database
from ledger.errors import BatchNotOpen, LedgerError, OutcomeUnknown, QueueFull, Unavailable
from ledger.store import Store
from ledger.work import Receipt, Work
from tests.conftest import Shop
from tests.postgres.tools import (
    Wire,
    assert_guards_equal_events,
    picture,
    terminate,
    wait_for_writers,
    whole_log,
    writers_blocked,
)
from tests.unit.specs import issued

T = TypeVar("T")


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(300) as pool:
        yield pool


def outcome(future: Future[T]) -> T | LedgerError:
    """What a caller got: an answer or the ledger's own error, and nothing else."""
    error = future.exception(30)
    if error is None:
        return future.result()
    assert isinstance(error, LedgerError), error
    return error


def enqueued(ledger: Ledger, count: int) -> None:
    """Wait until so many units wait behind the group in hand."""
    pause = threading.Event()
    for _ in range(1_000):
        if ledger._committer._waiting.qsize() >= count:
            return
        pause.wait(0.01)
    raise AssertionError("the callers did not come")


@contextmanager
def blocked_behind_one(
    ledger: Ledger, shop: Shop, callers: ThreadPoolExecutor
) -> Iterator[tuple[list[int], Future[Receipt]]]:
    """The committer waits for the writers' lock with one unit in hand; yields its backend and that unit's future."""
    batch_id = shop.batch()
    with writers_blocked(ledger.store.database):
        future = callers.submit(ledger.do, use_cases.claim(shop.request(), batch_id, "first"))
        yield wait_for_writers(ledger.store.database), future


def test_a_lock_held_too_long_writes_nothing_and_says_so(
    ledger: Ledger, shop: Shop, callers: ThreadPoolExecutor
) -> None:
    batch_id = shop.batch()
    claim = use_cases.claim(shop.request("claim"), batch_id, "user-1")
    before = picture(ledger.store.database)
    with writers_blocked(ledger.store.database), pytest.raises(Unavailable, match="lock timeout"):
        ledger.do(claim)
    assert picture(ledger.store.database) == before
    assert ledger.do(claim).replayed is False


def test_a_connection_lost_while_committing_leaves_the_outcome_to_the_same_key(
    ledger: Ledger, shop: Shop, callers: ThreadPoolExecutor
) -> None:
    claim = use_cases.claim(shop.request("claim"), shop.batch(), "user-1")
    with writers_blocked(ledger.store.database):
        future = callers.submit(ledger.do, claim)
        terminate(ledger.store.database, wait_for_writers(ledger.store.database))
        assert isinstance(outcome(future), OutcomeUnknown)
    assert ledger.do(claim).replayed is False
    assert ledger.do(claim).replayed is True


def test_a_reply_lost_after_the_commit_is_found_under_the_same_key(
    database: Database, callers: ThreadPoolExecutor
) -> None:
    with Wire(database.url) as wire:
        ledger = Ledger(Store(replace(database, url=wire.url)))
        shop = Shop(ledger)
        claim = use_cases.claim(shop.request("claim"), shop.batch(), "user-1")
        with writers_blocked(database):
            future = callers.submit(ledger.do, claim)
            wait_for_writers(database)
            wire.lose_reply()
        assert isinstance(outcome(future), OutcomeUnknown)
        wire.mend()
        receipt = until_answered(lambda: ledger.do(claim))
        assert receipt.replayed is True
        assert len(ledger.store.history(f"coupon-{receipt.answer['coupon_id']}")) == 1
        ledger.close()


def test_a_reply_lost_after_the_commit_is_asked_for_again(database: Database, callers: ThreadPoolExecutor) -> None:
    direct = Store(database)
    with Wire(database.url) as wire:
        ledger = Ledger(Store(replace(database, url=wire.url)))
        shop = Shop(ledger)
        claim = use_cases.claim(shop.request("claim"), shop.batch(), "user-1")
        with writers_blocked(database):
            future = callers.submit(ledger.do, claim)
            wait_for_writers(database)
            wire.lose_reply()
        while len(whole_log(direct)) < 4:
            threading.Event().wait(0.01)
        wire.mend()
        receipt = outcome(future)
        direct.close()
        assert isinstance(receipt, Receipt)
        assert len(ledger.store.history(f"coupon-{receipt.answer['coupon_id']}")) == 1
        assert_guards_equal_events(database)
        ledger.close()


def test_a_reply_that_never_comes_is_not_waited_for_longer_than_a_caller_may_wait(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "ANSWER_WAIT_SECONDS", 0.3)
    with Wire(database.url) as wire:
        ledger = Ledger(Store(replace(database, url=wire.url)))
        shop = Shop(ledger)
        batch_id = shop.batch()
        ledger.do(use_cases.claim(shop.request(), batch_id, "user-0"))
        claim = use_cases.claim(shop.request("claim"), batch_id, "user-1")
        wire.mute()
        with pytest.raises(OutcomeUnknown):
            ledger.do(claim)
        wire.cut()
        wire.mend()
        assert until_answered(lambda: ledger.do(claim)).answer["user_id"] == "user-1"
        assert len(whole_log(ledger.store)) == 5
        ledger.close()


def until_answered(ask: Callable[[], T]) -> T:
    """The answer once the service is back, within a few seconds."""
    for _ in range(40):
        try:
            return ask()
        except (Unavailable, OutcomeUnknown):
            threading.Event().wait(0.1)
    return ask()


def test_a_database_that_goes_away_and_comes_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "POOL_WAIT_SECONDS", 0.5)
    with Wire(database.url) as wire:
        ledger = Ledger(Store(replace(database, url=wire.url)))
        shop = Shop(ledger)
        batch_id = shop.batch(per_user_limit=None)
        done = ledger.do(use_cases.claim(shop.request("before"), batch_id, "user-1"))
        wire.cut()
        for n in range(4):
            with pytest.raises((Unavailable, OutcomeUnknown)):
                ledger.do(use_cases.claim(shop.request(f"away-{n}"), batch_id, "user-1"))
        with pytest.raises(Unavailable):
            ledger.do(use_cases.pause_batch(shop.request(), batch_id, reason="away"))
        wire.mend()
        again = until_answered(lambda: ledger.do(use_cases.claim(shop.request("before"), batch_id, "user-1")))
        assert (again.answer, again.replayed) == (done.answer, True)
        assert until_answered(lambda: ledger.do(use_cases.claim(shop.request(), batch_id, "user-1"))).replayed is False
        assert len(whole_log(ledger.store)) == 5
        ledger.close()


def test_every_backend_is_ended_and_the_next_requests_are_answered(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    pool = ledger.store.recorder.datastore.pool
    for n in range(3):
        terminate(ledger.store.database, [connection.info.backend_pid for connection in list(pool._pool)])
        ledger.do(use_cases.claim(shop.request(f"after-{n}"), batch_id, "user-1"))
    terminate(ledger.store.database, [connection.info.backend_pid for connection in list(pool._pool)])
    ledger.do(use_cases.pause_batch(shop.request("pause"), batch_id, reason="r"))
    assert_guards_equal_events(ledger.store.database)


def test_a_full_queue_says_so_at_once(database: Database, callers: ThreadPoolExecutor) -> None:
    ledger = Ledger(Store(database), callers_limit=4)
    shop = Shop(ledger)
    with blocked_behind_one(ledger, shop, callers) as (_, first):
        batch_id = next(iter(ledger._plans._batches))
        waiting = [callers.submit(ledger.do, use_cases.claim(shop.request(), batch_id, f"user-{n}")) for n in range(3)]
        enqueued(ledger, 3)
        with pytest.raises(QueueFull):
            ledger.do(use_cases.claim(shop.request(), batch_id, "late"))
    assert all(isinstance(outcome(future), Receipt) for future in [first, *waiting])
    assert {entry.event.request_id for entry in whole_log(ledger.store)}.isdisjoint({"late"})
    ledger.close()


def test_closing_settles_what_waits_and_refuses_what_comes_after(
    ledger: Ledger, shop: Shop, callers: ThreadPoolExecutor
) -> None:
    batch_id = shop.batch(quantity=1_000)
    with blocked_behind_one(ledger, shop, callers) as (_, first):
        waiting = [
            callers.submit(ledger.do, use_cases.claim(shop.request(), batch_id, f"user-{n}")) for n in range(280)
        ]
        enqueued(ledger, 280)
        closing = threading.Thread(target=ledger.close)
        closing.start()
        while not ledger._committer._closed:
            threading.Event().wait(0.01)
        with pytest.raises(Unavailable, match="closed"):
            ledger._committer.ask(Unit())
    closing.join(10)
    assert not closing.is_alive()
    assert [type(outcome(future)) for future in [first, *waiting]] == [Receipt] * 281
    with pytest.raises(Unavailable):
        ledger.do(use_cases.claim(shop.request(), batch_id, "late"))


def test_a_committer_that_never_ran_is_closed_too(ledger: Ledger) -> None:
    committer = Committer(ledger.store)
    committer.close()
    committer.close()
    with pytest.raises(Unavailable, match="closed"):
        committer.ask(Unit())


def test_a_unit_that_cannot_be_written_does_not_fail_its_neighbours(
    ledger: Ledger, shop: Shop, callers: ThreadPoolExecutor
) -> None:
    committer = ledger._committer
    poison = {
        "surrogate": Unit([issued(coupon="p1", channel="\ud800").event(1)]),
        "nul": Unit([], replace(shop.request(), request_id="a\x00b")),
        "line feed": Unit([issued(coupon="p2\n").event(1)]),
        "no number": Unit([], shop.request(), stock={"b": 1.5}),  # type: ignore[dict-item]
        "no json": Unit([], shop.request(), {"answer": object()}),
    }
    with blocked_behind_one(ledger, shop, callers) as (_, first):
        bad = [callers.submit(committer.ask, unit) for unit in poison.values()]
        batch_id = next(iter(ledger._plans._batches))
        good = [callers.submit(ledger.do, use_cases.claim(shop.request(), batch_id, f"user-{n}")) for n in range(20)]
        enqueued(ledger, 25)
    assert all(isinstance(outcome(future), Receipt) for future in [first, *good])
    assert [future.exception(30) is not None for future in bad] == [True] * len(bad)
    assert ledger.do(use_cases.claim(shop.request(), batch_id, "after")).replayed is False
    assert_guards_equal_events(ledger.store.database)


def test_claims_that_wait_behind_a_stop_are_refused_in_the_log_too(
    ledger: Ledger, shop: Shop, callers: ThreadPoolExecutor
) -> None:
    def in_turn(*works: Work) -> list[Future[Any]]:
        futures = []
        for count, work in enumerate(works, 1):
            futures.append(callers.submit(ledger.do, work))
            enqueued(ledger, count)
        return futures

    batch_id = shop.batch(per_user_limit=None)
    ledger.do(use_cases.claim(shop.request(), batch_id, "warm"))
    with writers_blocked(ledger.store.database):
        first = callers.submit(ledger.do, use_cases.claim(shop.request(), batch_id, "first"))
        wait_for_writers(ledger.store.database)
        claim, stop, late = in_turn(
            use_cases.claim(shop.request(), batch_id, "second"),
            use_cases.stop_batch(shop.request(), batch_id, reason="over"),
            use_cases.claim(shop.request(), batch_id, "late"),
        )
    assert [type(outcome(future)) for future in (first, claim, stop)] == [Receipt] * 3
    assert isinstance(outcome(late), BatchNotOpen)
    assert whole_log(ledger.store)[-1].event.TOPIC == "batch.stopped"


def test_a_committer_never_lingers(database: Database) -> None:
    own = Store(database)
    committer = Committer(own)
    assert committer.ask(Unit([issued(coupon="c").event(1)])).word == "done"
    committer.close()
    own.close()
