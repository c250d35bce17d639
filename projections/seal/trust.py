"""What an auditor brings along to a ledger: keys and checkpoints that whoever holds the database has no hand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from coupon_ledger_audit.note import Checkpoint, NoteError, VerifierKey, opened
from coupon_ledger_audit.tree import Frontier, leaf_hash
from projections.seal import checkpoints
from projections.seal.check import Finding
from projections.seal.checkpoints import Signed
from projections.seal.errors import SealBroken
from projections.seal.leaves import READ_EVENTS, whole

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]
"""Is told how many events were looked at, and of how many."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys of the log, and checkpoints of before. Whoever makes it has checked that a key signed each."""

    keys: Sequence[VerifierKey]
    """One, or while keys are changed the old and the new. The name of the first is the name of the log."""
    last: Sequence[Checkpoint] = ()


def check_trust(connection: Connection, trust: Trust, progress: Progress = lambda *_: None) -> Iterator[Finding]:
    """Everything in which the database is not what these keys signed, beside what ``check.check`` finds.

    That one compares the log with the newest checkpoint in the database, and this one asks whose that is. The
    checkpoints that were kept are compared with the log alone.
    """
    newest = checkpoints.newest(connection)
    if newest is None:
        yield Finding(None, "the database has no checkpoint")
    else:
        yield from _of_newest(connection, newest, trust)
    yield from _of_last(connection, newest.size if newest else 0, trust.last, progress)


def _of_newest(connection: Connection, newest: Signed, trust: Trust) -> Iterator[Finding]:
    try:
        found = _opened(connection, newest, trust)
    except NoteError as error:
        covered = max(_covered(connection, key, trust.keys[0].name) for key in trust.keys)
        until = f"; those that are signed so cover {covered}" if covered else ""
        # From there on, nobody whom the auditor believes said anything of the log.
        yield Finding(covered + 1 if covered else None, f"the checkpoint over {newest.size} events: {error}{until}")
        return
    if (found.size, found.root) != (newest.size, newest.root):
        yield Finding(None, f"the note of the checkpoint over {newest.size} events is of another one")


def _opened(connection: Connection, newest: Signed, trust: Trust) -> Checkpoint:
    origin = trust.keys[0].name
    try:
        return opened(newest.note, trust.keys, origin)
    except NoteError:
        # A key that came later may have signed it too, on a line of its own.
        return opened(checkpoints.cosigned(connection, newest), trust.keys, origin)


def _covered(connection: Connection, key: VerifierKey, origin: str) -> int:
    """How many events the newest checkpoint of a key covers; 0 where it has none that is right."""
    signed = checkpoints.newest_of(connection, str(key))
    if signed is None:
        return 0
    try:
        signed.check(origin)
    except SealBroken:
        return 0
    return signed.size


def _of_last(connection: Connection, sealed: int, last: Sequence[Checkpoint], progress: Progress) -> Iterator[Finding]:
    """Whether the log begins with what was kept, by the roots that its events give."""
    kept = sorted(last, key=lambda each: each.size)
    size = kept[-1].size if kept else 0
    if size > sealed:  # each is in the database before anybody else has it, and stays there
        yield Finding(None, f"the checkpoints in the database cover {sealed} events, and one that was kept {size}")
    log, tree, good = whole(connection, size), Frontier(), 0
    for each in kept:
        while tree.size < each.size:
            row = next(log, None)
            if row is None or row.position != tree.size + 1:
                text = f"the log has no event there, and a checkpoint that was kept covers {each.size}"
                yield Finding(tree.size + 1, text)
                return
            try:
                tree.append(leaf_hash(row.entry()))
            except SealBroken as error:
                yield Finding(row.position, error.detail)
                return
            if tree.size % READ_EVENTS == 0 or tree.size == size:
                progress(tree.size, size)
        if tree.root() != each.root:
            events = f"the events of the positions {good + 1} to {each.size}"
            text = f"{events} are not those of the checkpoint that was kept"
            yield Finding(each.size if each.size == good + 1 else None, text)
            return
        good = each.size
