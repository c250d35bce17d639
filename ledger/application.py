"""The ledger performs work: it loads, lets the use case decide, commits, and decides again on a conflict.

HTTP performs one piece of work and waits for its answer (``Ledger.do``). A Kafka poll performs many in one
transaction with its offsets (``Ledger.do_all``). Both run the use cases of ``use_cases/``, so both keep the same
promises.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg

from ledger.commit import Committer, Unit, Verdict, commit_all
from ledger.errors import (
    IdempotencyKeyReused,
    LedgerError,
    LockLimitReached,
    QueueFull,
    Refusal,
    Unavailable,
)
from ledger.grouping import Grouping, Onward
from ledger.limits import counts_uses, share_refusal, stock_refusal, supply_refusal, uses_key
from ledger.plans import Plans, remember
from ledger.request import Request
from ledger.stock import taken
from ledger.store import AnsweredRequest, Snapshot, Store
from ledger.work import Loaded, Receipt, Work

ATTEMPTS = 12
"""How often work is decided again after somebody else moved the same stream."""
READ_LIMIT = 256
"""Callers whose streams are read in one statement."""
READ_STREAM_LIMIT = 5_000
"""Streams from which on no more callers join it."""

Connection = psycopg.Connection[Any]


class Ledger:
    """Performs work against one store."""

    def __init__(self, store: Store, callers_limit: int = 4_096) -> None:
        """``callers_limit`` callers may have work performed at once; the next one hears ``QueueFull``."""
        self.store = store
        self._callers_limit = callers_limit
        self._callers = 0
        self._counting = threading.Lock()
        self._committer = Committer(store)
        # What it decides goes on to the committer while it reads for the next ones; a caller is woken once.
        self._decider: Grouping[Work, Receipt | Verdict] = Grouping("decider", self._look_and_decide, READ_LIMIT)
        self._plans = Plans(store)
        # Batches whose stock is looked at before a commit, for it was used up when last seen.
        self._sold_out: OrderedDict[str | None, None] = OrderedDict()

    def close(self) -> None:
        """Commit what waits and let go of the database."""
        self._decider.close()
        self._committer.close()
        self.store.close()

    def do(self, work: Work) -> Receipt:
        """Perform one piece of work, in a group with whatever else waits.

        Raises the ``Refusal`` of the rule that says no, or a ``ServiceError`` after which the same request may be
        sent again: at once ``QueueFull`` when too many callers wait for a look, a commit or the database.
        """
        with self._counted():
            return self._attempt(work)

    def ask(self, work: Work) -> Receipt:
        """What the work answers, decided in the caller's own thread, where it holds up nobody; it commits nothing.

        Raises the ``Refusal`` of the rule that says no, or ``QueueFull`` as ``do`` does.
        """
        with self._counted():
            decided = self._decide(work, self._look([work], None), None)
        if isinstance(decided, Refusal):
            raise decided
        if isinstance(decided, Unit):
            raise TypeError("what is only asked has nothing to commit")
        return decided

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count this caller as long as it waits; one too many hears ``QueueFull``."""
        with self._counting:
            if self._callers >= self._callers_limit:
                raise QueueFull()
            self._callers += 1
        try:
            yield
        finally:
            with self._counting:
                self._callers -= 1

    def _attempt(self, work: Work) -> Receipt:
        looks = self._looks_first(work)
        for _ in range(ATTEMPTS):
            answer: Receipt | Refusal | Verdict | None
            if looks:
                answer = self._decider.ask(work)
            else:
                unit = self._decide(work, Snapshot.of_nothing(self.store.now()), None)
                # Refused by what was cached, which may be old, or a repeat of what had its effect: so it looks.
                answer = self._committer.ask(unit) if isinstance(unit, Unit) else None
            result = self._result(work, answer) if isinstance(answer, Verdict) else answer
            if isinstance(result, Refusal):
                raise result
            if result is not None:
                return result
            looks = True
        raise _too_busy()

    def _look_and_decide(self, works: Sequence[Work]) -> Sequence[Receipt | Onward | Refusal]:
        asked: list[Work] = []
        streams = 0
        for work in works:
            asked.append(work)
            streams += len(work.streams)
            if streams > READ_STREAM_LIMIT:
                break
        snapshot = self._look(asked, None)
        decisions = (self._decide(work, snapshot, None) for work in asked)
        return [Onward(self._committer, made) if isinstance(made, Unit) else made for made in decisions]

    def do_all(self, works: Sequence[Work], connection: Connection) -> list[Receipt | Refusal]:
        """Perform many pieces of work in the connection's transaction, each with its own result, in their order.

        Work on the same stream is decided one after the other. Nothing is durable before the caller commits.
        """
        results: list[Receipt | Refusal | None] = [None] * len(works)
        todo, waves_in_vain, looks = list(range(len(works))), 0, False
        while todo:
            wave, rest = _wave(works, todo)
            settled = self._do_wave([works[index] for index in wave], connection, looks)
            for index, result in zip(wave, settled, strict=True):
                results[index] = result
            again = [index for index in wave if results[index] is None]
            waves_in_vain = waves_in_vain + 1 if len(again) == len(wave) else 0
            if waves_in_vain == ATTEMPTS:
                raise _too_busy()
            looks = bool(again)
            todo = sorted(again + rest)
        return [result for result in results if result is not None]

    def _do_wave(self, works: Sequence[Work], connection: Connection, looks: bool) -> list[Receipt | Refusal | None]:
        """Decide and commit works that share no stream or order; ``None`` for one that must be decided again."""
        looked = [looks or self._looks_first(work) for work in works]
        snapshot = self._look([work for work, look in zip(works, looked, strict=True) if look], connection)
        results: list[Receipt | Refusal | None] = [None] * len(works)
        units: dict[int, Unit] = {}
        for index, work in enumerate(works):
            decided = self._decide(work, snapshot, connection)
            if isinstance(decided, Unit):
                units[index] = decided
            elif looked[index]:
                results[index] = decided
        verdicts = commit_all(self.store, connection, list(units.values()))
        for (index, unit), verdict in zip(units.items(), verdicts, strict=True):
            results[index] = self._result(works[index], verdict)
            if verdict.word == "done":
                self._plans.wrote({event.originator_id for event in unit.events})
        return results

    def _decide(self, work: Work, snapshot: Snapshot, connection: Connection | None) -> Unit | Receipt | Refusal:
        if answered := snapshot.answered.get((work.request.merchant_id, work.request.request_id)):
            return _replay(work.request, answered)
        loaded = Loaded(
            work.request.merchant_id,
            work.request.at or snapshot.now,
            snapshot.streams,
            partial(self._plans.batch, connection),
            partial(self._plans.terms, connection),
            snapshot.orders.get(work.order, ()) if work.order else (),
            snapshot.quota.get(uses_key(*work.order), 0) if work.order else 0,
        )
        try:
            decided = work.decide(loaded)
        except Refusal as refusal:
            self._plans.forget(loaded.from_cache)
            return refusal
        if isinstance(decided, Unit):
            for key, (take, most) in decided.quota.items():
                if snapshot.quota.get(key, 0) + take > most:
                    return share_refusal(work.issues_from, key)
            for batch_id, take in decided.stock.items():
                if batch_id in snapshot.stock and snapshot.stock[batch_id][0] < take:
                    return stock_refusal(work.issues_from, batch_id)
        return decided

    def _result(self, work: Work, verdict: Verdict) -> Receipt | Refusal | None:
        """What a verdict means; ``None`` when the work must be decided again."""
        if verdict.word == "done":
            if work.issues_from in self._sold_out:
                self._sold_out.pop(work.issues_from, None)
            return Receipt(verdict.answer, verdict.position)
        if verdict.word == "replayed":
            return Receipt(verdict.answer, verdict.position, replayed=True)
        if verdict.word == "reused":
            return IdempotencyKeyReused(request_id=work.request.request_id)
        if verdict.word == "user_limit" and counts_uses(verdict.answer["batch_id"]):
            return None
        if verdict.word in ("user_limit", "sold_out", "below_issued", "lock_limit"):
            return self._no_room(work, verdict)
        if verdict.word in ("conflict", "exists", "again"):
            if work.issues_from is not None:
                self._plans.forget([work.issues_from])
            return None
        raise LedgerError(f"commit_group answered {verdict.word!r}")

    def _no_room(self, work: Work, verdict: Verdict) -> Refusal:
        """The refusal of the guard that a verdict names."""
        if verdict.word == "lock_limit":
            return LockLimitReached()
        key = verdict.answer["batch_id"]
        if verdict.word == "user_limit":
            return share_refusal(work.issues_from, (key, verdict.answer["owner"]))
        if verdict.word == "below_issued":
            with self.store.connection() as connection:
                return supply_refusal(key, taken(connection, key))
        if key == work.issues_from:
            remember(self._sold_out, key, None)
        return stock_refusal(work.issues_from, key)

    def _looks_first(self, work: Work) -> bool:
        """Whether the work's streams, or the stock it takes from, are read before it is decided."""
        return work.issues_from is None or work.issues_from in self._sold_out

    def _look(self, works: Sequence[Work], connection: Connection | None) -> Snapshot:
        """Read the works' streams, and what they may take; let go of batches that have moved since they were cached."""
        if not works:
            return Snapshot.of_nothing(self.store.now(connection))
        shares = {uses_key(*work.order) for work in works if work.order}
        if connection is None:  # a caller's transaction may itself raise the stock before it takes from it
            shares |= {(work.issues_from, user) for work in works if work.issues_from for user in work.issues_to}
        snapshot = self.store.load(
            [stream for work in works for stream in work.streams],
            [(work.request.merchant_id, work.request.request_id) for work in works],
            connection,
            shares=shares,
        )
        # Most orders use their coupons once, and nothing else of them needs to be read.
        used = {work.order for work in works if work.order and snapshot.quota.get(uses_key(*work.order))}
        if orders := used | {work.order for work in works if work.order and not work.streams}:
            snapshot.add_orders(self.store.load((), (), connection, orders=orders))
        self._plans.forget_moved({batch_id: version for batch_id, (_, version) in snapshot.stock.items()})
        return snapshot


def _too_busy() -> Unavailable:
    return Unavailable("the same objects are written too often to decide on them now")


def _replay(request: Request, answered: AnsweredRequest) -> Receipt | Refusal:
    if answered.body_hash != request.body_hash:
        return IdempotencyKeyReused(request_id=request.request_id)
    return Receipt(answered.answer, answered.position, replayed=True)


def _wave(works: Sequence[Work], todo: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split into works that share no stream, request or order, and those that must wait for one of them."""
    taken: set[Any] = set()
    wave: list[int] = []
    rest: list[int] = []
    for index in todo:
        work = works[index]
        claims = {*work.streams, (work.request.merchant_id, work.request.request_id), ("order", work.order or index)}
        (rest if taken & claims else wave).append(index)
        taken |= claims
    return wave, rest
