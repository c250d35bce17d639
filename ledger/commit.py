"""Units of work, and group commit: many callers, one transaction.

A save that commits by itself costs one flush an event and does not grow with callers. So callers hand in units, and
one committer a process writes all that wait in one statement (migrations/0008_commit_group.sql). It never lingers:
an idle ledger commits a lone unit at once. Each unit gets its own verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
from psycopg.rows import tuple_row

from ledger.errors import ServiceError
from ledger.events import Event
from ledger.grouping import Grouping
from ledger.request import Request
from ledger.store import Store

GROUP_LIMIT = 256
"""Units that one transaction takes from waiting callers."""
GROUP_EVENT_LIMIT = 5_000
"""Events that a group carries, unless one unit alone has more: about a second's work and some ten megabytes."""


@dataclass(slots=True)
class Unit:
    """What one use case wants written, and what must be true for it."""

    events: Sequence[Event] = ()
    request: Request | None = None
    """Stored with its answer, so that a repeat has no second effect; absent where the stream's id is the guard."""
    answer: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    """Streams that the decision read but does not write, at these versions."""
    stock: dict[str, int] = field(default_factory=dict)
    """Batch id to how many coupons are taken from its stock."""
    quota: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(Batch id, user id) to (taken, most that the user may have)."""
    supply: dict[str, int] = field(default_factory=dict)
    """Batch id to its new quantity."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a unit; the words are those of migrations/0008_commit_group.sql."""

    word: str
    position: int
    answer: dict[str, Any] | None


def commit_group(
    store: Store, connection: psycopg.Connection[Any], units: Sequence[Unit], *, refusals_likely: bool = False
) -> list[Verdict]:
    """Write the units that pass, in the connection's transaction, and say of each what became of it.

    Only units that ``independent`` allows may share a group. ``refusals_likely`` spares writing a group that would be
    undone to find out whom to refuse; it changes no verdict.
    """
    numbers, streams, versions, topics, states = [], [], [], [], []
    guards: dict[str, list[dict[str, Any]]] = defaultdict(list)
    reads: dict[tuple[str, int], list[str]] = defaultdict(list)
    ends: list[int] = []
    encode = store.mapper.encode
    for number, unit in enumerate(units, 1):
        for event in unit.events:
            numbers.append(str(number))
            streams.append(event.originator_id)
            versions.append(str(event.originator_version))
            topics.append(event.TOPIC)
            states.append(encode(event))
        ends.append(len(states) if unit.events else 0)
        _add_guards(guards, number, ends[-1], unit)
        for read in (*_written_further(unit.events), *unit.reads.items()):
            reads[read].append(str(number))
    for (stream, version), readers in reads.items():
        guards["reads"].append({"stream": stream, "version": version, "units": " ".join(readers)})
    stream_lines = "\n".join(streams)
    if stream_lines.count("\n") != max(0, len(streams) - 1):
        raise ValueError("a stream id holds a line feed")
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute(
        "select * from commit_group(%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            " ".join(numbers),
            stream_lines,
            " ".join(versions),
            "\n".join(topics),
            b"\n".join(states).decode(),
            len(units),
            orjson.dumps(guards).decode(),
            refusals_likely,
        ),
        prepare=True,
    ).fetchall()
    if rows[0][0] == 0:
        head = rows[0][3]
        return [Verdict("done", head + end, None) for end in ends]
    return [Verdict(word, position, orjson.loads(answer) if answer else None) for _, word, answer, position in rows]


def _written_further(events: Sequence[Event]) -> Iterator[tuple[str, int]]:
    """Streams that these events continue, at the versions before them."""
    begun = set()
    for event in events:
        if event.originator_id not in begun:
            begun.add(event.originator_id)
            if event.originator_version > 1:
                yield event.originator_id, event.originator_version - 1


def _add_guards(guards: dict[str, list[dict[str, Any]]], number: int, end: int, unit: Unit) -> None:
    if unit.request is not None:
        guards["requests"].append(
            {
                "unit": number,
                "ends": end,
                "merchant_id": unit.request.merchant_id,
                "request_id": unit.request.request_id,
                "body_hash": unit.request.body_hash,
                "answer": orjson.dumps(unit.answer).decode(),
            }
        )
    for batch_id, take in unit.stock.items():
        guards["stock"].append({"unit": number, "batch_id": batch_id, "take": take})
    for (batch_id, user_id), (take, most) in unit.quota.items():
        guards["quota"].append({"unit": number, "batch_id": batch_id, "user_id": user_id, "take": take, "most": most})
    for batch_id, quantity in unit.supply.items():
        guards["supply"].append({"unit": number, "batch_id": batch_id, "quantity": quantity})


def commit_all(store: Store, connection: psycopg.Connection[Any], units: Sequence[Unit]) -> list[Verdict]:
    """The verdicts of any units, in as few groups as they allow."""
    verdicts: list[Verdict] = []
    refused = False
    while len(verdicts) < len(units):
        rest = units[len(verdicts) :]
        group = commit_group(store, connection, rest[: independent(rest)], refusals_likely=refused)
        refused = any(verdict.word != "done" for verdict in group)
        verdicts += group
    return verdicts


def independent(units: Sequence[Unit]) -> int:
    """How many units from the front may share a group.

    No stream is written, or request carried, twice. No stream is written by one and only read by another either:
    both would pass on what was there before the group, and the log would show a coupon issued after the batch's stop.
    """
    taken: set[Any] = set()
    read: set[str] = set()
    events = 0
    for count, unit in enumerate(units):
        events += len(unit.events)
        if count and events > GROUP_EVENT_LIMIT:
            return count
        claims: set[Any] = {event.originator_id for event in unit.events}
        if not read.isdisjoint(claims):
            return count
        if unit.request is not None:
            claims.add((unit.request.merchant_id, unit.request.request_id))
        if not (taken.isdisjoint(claims) and taken.isdisjoint(unit.reads)):
            return count
        taken |= claims
        read.update(unit.reads)
    return len(units)


class Committer(Grouping[Unit, Verdict]):
    """Commits what waiting callers hand in, a group at a time.

    ``ask`` raises ``Unavailable`` when nothing was written, and ``OutcomeUnknown`` when the connection was lost while
    committing and no other could be had to find out.
    """

    def __init__(self, store: Store) -> None:
        super().__init__("committer", self._commit, GROUP_LIMIT)
        self._store = store
        self._refused = False

    def _commit(self, units: Sequence[Unit]) -> Sequence[Verdict | Exception]:
        group = units[: independent(units)]
        try:
            # What a lost connection may have written is found under the units' request ids, and not written again.
            verdicts = self._store.retrying(
                lambda connection: commit_group(self._store, connection, group, refusals_likely=self._refused)
            )
        except ServiceError as error:
            return [error] * len(group)
        self._refused = any(verdict.word != "done" for verdict in verdicts)
        return verdicts
