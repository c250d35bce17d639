"""What becomes of messages that are performed together: those of one key in their order, and again after an effect."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import psycopg

from consumers.asked import Asked, Connection, Result, perform
from consumers.dead_letters import BROKEN_INSTALLATION, TRANSIENT
from consumers.waiting import Key
from ledger.application import Ledger
from ledger.errors import IdempotencyKeyReused, InvalidInput, Refusal
from ledger.work import Receipt

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """Of one message."""

    result: Result | Exception
    may_wait: bool = False
    """Whether what was refused may yet have its effect."""


def outcomes(
    ledger: Ledger, connection: Connection, asked: Sequence[tuple[Key, Asked]], *, isolate: bool
) -> list[Outcome]:
    """Perform what messages ask, in the connection's transaction.

    An effect may be what an earlier message of its key waits for, so that is performed again before any later one of
    the key: what becomes of messages does not depend on how many come at once. With ``isolate`` a message that makes
    its group fail is found, and its outcome is the exception.
    """
    found = [Outcome(None)] * len(asked)
    busy = {key for key, times in Counter(key for key, one in asked if one.curable).items() if times > 2}
    queue = list(range(len(asked)))
    while queue:
        waits = {asked[place][0] for place in range(len(asked)) if found[place].may_wait and place not in queue}
        group = [asked[place] for place in queue]
        done, moved = _first(
            ledger, connection, group, waits, cuts=not busy.isdisjoint(key for key, _ in group), isolate=isolate
        )
        for place, outcome in zip(queue, done, strict=False):
            found[place] = outcome
        again = {place for place, (key, _) in enumerate(asked) if key in moved and found[place].may_wait}
        queue = sorted(again.union(queue[len(done) :]))
    return found


def _first(
    ledger: Ledger,
    connection: Connection,
    group: Sequence[tuple[Key, Asked]],
    waits: Collection[Key],
    *,
    cuts: bool,
    isolate: bool,
) -> tuple[list[Outcome], set[Key]]:
    """Outcomes of the first of these messages, and the keys whose effects may be what others of them wait for.

    They are the outcomes of all, unless there is such an effect and a later message of its key: then (``cuts`` says
    that there may be) of all up to that effect.
    """

    def performed(messages: Sequence[tuple[Key, Asked]]) -> list[Outcome]:
        asked = [one for _, one in messages]
        results = _isolated(ledger, connection, asked) if isolate else perform(ledger, connection, asked)
        return _judged(messages, results, waits)

    if not cuts:
        found = performed(group)
        return found, _moved(group, found, waits)[0]
    with connection.transaction() as attempt:
        found = performed(group)
        moved, end = _moved(group, found, waits)
        if end < len(group):
            raise psycopg.Rollback(attempt)
    if end < len(group):
        found = performed(group[:end])
        moved, _ = _moved(group[:end], found, waits)
    return found, moved


def _judged(
    group: Sequence[tuple[Key, Asked]], results: Sequence[Result | Exception], waits: Collection[Key]
) -> list[Outcome]:
    behind = set(waits)
    found = []
    for (key, one), result in zip(group, results, strict=True):
        may_wait = isinstance(result, Exception) and _may_wait(one, result, key in behind)
        if may_wait:
            behind.add(key)
        found.append(Outcome(result, may_wait))
    return found


def _moved(
    group: Sequence[tuple[Key, Asked]], found: Sequence[Outcome], waits: Collection[Key]
) -> tuple[set[Key], int]:
    """Keys with an effect after a message that waits, and the end of the first such effect that is not its key's last.

    Without such a one, that is the group's end.
    """
    last = {key: place for place, (key, _) in enumerate(group)}
    behind, moved = set(waits), set()
    for place, ((key, _), (result, may_wait)) in enumerate(zip(group, found, strict=True)):
        if may_wait:
            behind.add(key)
        elif key in behind and isinstance(result, Receipt) and not result.replayed:
            moved.add(key)
            if place < last[key]:
                return moved, place + 1
    return moved, len(group)


def _may_wait(asked: Asked, error: Exception, behind: bool) -> bool:
    """Whether a refused message may yet have its effect; ``behind`` an earlier one of its key that may.

    Then what the earlier one does is not known yet, so only what no state could accept is certain.
    """
    if isinstance(error, asked.curable):
        return True
    return behind and isinstance(error, Refusal) and not isinstance(error, InvalidInput | IdempotencyKeyReused)


def _isolated(ledger: Ledger, connection: Connection, asked: Sequence[Asked]) -> list[Result | Exception]:
    """Results of messages of which at least one makes its group fail: halves, until it stands alone."""
    try:
        with connection.transaction():
            return list(perform(ledger, connection, asked))
    except TRANSIENT + BROKEN_INSTALLATION:
        raise
    except Exception as error:
        if len(asked) == 1:
            log.exception("a message is dead")
            return [error]
    half = len(asked) // 2
    return _isolated(ledger, connection, asked[:half]) + _isolated(ledger, connection, asked[half:])
