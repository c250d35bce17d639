"""Units of work, and group commit: many callers, one transaction.

A save that commits by itself costs one flush an event and does not grow with callers. So callers hand in units, and
one committer a process writes all that wait in one statement (migrations/0009_limits.sql). It never lingers:
an idle ledger commits a lone unit at once. Each unit gets its own verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg.rows import tuple_row

from ledger.errors import ServiceError
from ledger.events import Event
from ledger.grouping import Grouping, alike
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
    """Batch id to how many coupons are taken from its stock; other keys are those of ``ledger/limits.py``."""
    quota: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(Batch id, user id) to (taken, most that the user may have). Of several without room the first is refused."""
    supply: dict[str, int] = field(default_factory=dict)
    """Batch id to its new quantity."""
    holds: dict[str, tuple[str, datetime, int]] = field(default_factory=dict)
    """Coupon id to (owner, end of the hold, most coupons that the owner may hold at once)."""
    releases: Sequence[str] = ()
    """Ids of coupons that are held no more; one that is in ``holds`` too was only held within this unit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a unit; the words are those of migrations/0009_limits.sql."""

    word: str
    position: int
    answer: dict[str, Any]
    """The unit's own when it is done, what was answered first when it is replayed, the guard (``batch_id``, ``owner``)
    that had no room when one refused it, otherwise empty."""


def commit_group(
    store: Store, connection: psycopg.Connection[Any], units: Sequence[Unit], *, refusals_likely: bool = False
) -> list[Verdict]:
    """Write the units that pass, in the connection's transaction, and say of each what became of it.

    Only units that ``independent`` allows may share a group. ``refusals_likely`` spares writing a group that would be
    undone to find out whom to refuse; it changes no verdict.
    """
    events = [event for unit in units for event in unit.events]
    streams = "\n".join([event.originator_id for event in events])
    if streams.count("\n") != max(0, len(events) - 1):
        raise ValueError("a stream id holds a line feed")
    encode = store.mapper.encode
    columns = (
        streams,
        " ".join([str(event.originator_version) for event in events]),
        "\n".join([event.TOPIC for event in events]),
        b"\n".join([encode(event) for event in events]).decode(),
    )
    cursor = connection.cursor(row_factory=tuple_row)
    if not refusals_likely:
        quota, guards, ends = _whole(units)
        head = cursor.execute(
            "select commit_whole_group(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (*columns, *quota, orjson.dumps(guards).decode()),
            prepare=True,
        ).fetchall()[0][0]
        if head is not None:
            return [Verdict("done", head + end, unit.answer) for unit, end in zip(units, ends, strict=True)]
    numbers = " ".join([str(number) for number, unit in enumerate(units, 1) for _ in unit.events])
    rows = cursor.execute(
        "select * from commit_unit_by_unit(%s, %s, %s, %s, %s, %s, %s)",
        (numbers, *columns, len(units), orjson.dumps(_by_unit(units)).decode()),
        prepare=True,
    ).fetchall()
    return [
        Verdict(word, position, unit.answer if word == "done" else orjson.loads(answer or "{}"))
        for unit, (_, word, answer, position) in zip(units, rows, strict=True)
    ]


def _whole(units: Sequence[Unit]) -> tuple[tuple[str, str, str, str, bool], dict[str, Any], list[int]]:
    """What the group as one asks of quotas and of the other guards, and where in it each unit's events end."""
    stock: dict[str, int] = defaultdict(int)
    shares: dict[tuple[str, str], tuple[int, int]] = {}
    reads: set[tuple[str, int]] = set()
    guards: dict[str, Any] = defaultdict(list)
    ends: list[int] = []
    count = 0
    for unit in units:
        count += len(unit.events)
        ends.append(count if unit.events else 0)
        reads.update(_written_further(unit.events), unit.reads.items())
        if unit.request is not None:
            guards["requests"].append(_answered(unit.request, unit.answer) | {"ends": ends[-1]})
        for batch_id, take in unit.stock.items():
            stock[batch_id] += take
        for owner, (take, most) in unit.quota.items():
            others, least = shares.get(owner, (0, most))
            shares[owner] = (others + take, min(most, least))
        for batch_id, quantity in unit.supply.items():
            guards["supply"].append({"batch_id": batch_id, "quantity": quantity})
        if unit.holds or unit.releases:
            guards["holds"].append(_held(unit))
    if reads:
        guards["reads"] = [{"stream": stream, "version": version} for stream, version in reads]
    if stock:
        guards["stock"] = stock
    quota = (
        "\n".join([batch_id for batch_id, _ in shares]),
        "\n".join([user_id for _, user_id in shares]),
        " ".join([str(take) for take, _ in shares.values()]),
        " ".join([str(most) for _, most in shares.values()]),
        all(most == 1 for _, most in shares.values()),
    )
    return quota, guards, ends


def _by_unit(units: Sequence[Unit]) -> dict[str, list[dict[str, Any]]]:
    """What each unit asks of the guards."""
    guards: dict[str, list[dict[str, Any]]] = defaultdict(list)
    reads: dict[tuple[str, int], list[str]] = defaultdict(list)
    for number, unit in enumerate(units, 1):
        if unit.request is not None:
            guards["requests"].append(_answered(unit.request, unit.answer) | {"unit": number})
        for batch_id, take in unit.stock.items():
            guards["stock"].append({"unit": number, "batch_id": batch_id, "take": take})
        for (batch_id, user_id), (take, most) in unit.quota.items():
            share = {"batch_id": batch_id, "user_id": user_id, "take": take, "most": most}
            guards["quota"].append(share | {"unit": number})
        for batch_id, quantity in unit.supply.items():
            guards["supply"].append({"unit": number, "batch_id": batch_id, "quantity": quantity})
        if unit.holds or unit.releases:
            guards["holds"].append(_held(unit) | {"unit": number})
        for read in (*_written_further(unit.events), *unit.reads.items()):
            reads[read].append(str(number))
    for (stream, version), readers in reads.items():
        guards["reads"].append({"stream": stream, "version": version, "units": " ".join(readers)})
    return guards


def _held(unit: Unit) -> dict[str, Any]:
    """What a unit still holds at its end, and every coupon whose hold it changes."""
    locks = [
        {"coupon_id": coupon_id, "owner": owner, "ends_at": ends_at.isoformat(), "most": most}
        for coupon_id, (owner, ends_at, most) in unit.holds.items()
        if coupon_id not in unit.releases
    ]
    return {"locks": locks, "touched": [*unit.holds, *unit.releases]}


def _answered(request: Request, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "merchant_id": request.merchant_id,
        "request_id": request.request_id,
        "body_hash": request.body_hash,
        "answer": orjson.dumps(answer).decode(),
    }


def _written_further(events: Sequence[Event]) -> Iterator[tuple[str, int]]:
    """Streams that these events continue, at the versions before them."""
    begun = set()
    for event in events:
        if event.originator_id not in begun:
            begun.add(event.originator_id)
            if event.originator_version > 1:
                yield event.originator_id, event.originator_version - 1


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

    ``ask`` raises ``Unavailable`` when nothing was written, and ``OutcomeUnknown`` when no answer came in time, or the
    connection was lost while committing and no other could be had to find out.
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
            return alike(error, len(group))
        self._refused = any(verdict.word != "done" for verdict in verdicts)
        return verdicts
