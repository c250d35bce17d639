"""The books: what a chunk posts to the accounts of each batch, funder and month, worked out once for all who ask.

What is posted is said in ``liability.py``. Most coupons are issued and expire with the same face value, so those are
counted; the others are followed one by one, and where that needs it the log is asked for what they did before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import tuple_row

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponEvent,
    CouponExpired,
    CouponIssued,
    CouponReturned,
    CouponUsed,
    CouponVoided,
)
from projections.chunk import Chunk
from projections.models.bulk import joined
from projections.models.past import WHOLE, BatchTerms, decode, once_a_chunk, terms_of
from projections.projection import Connection

FUNDERS = ("merchant", "platform")
ACCOUNTS = ("issued", "outstanding", "redeemed", "unspent", "breakage", "withdrawn")

Page = Counter[str]
"""Amounts by column of ``liability``, and the position of the last event."""
Books = Mapping[tuple[str, str, str], Page]
"""By batch, funder and month, as in 2026-03."""
Month = tuple[str, str]
"""Of a batch."""

_COLUMNS = {account: (f"{account}_credit_minor", f"{account}_debit_minor") for account in ACCOUNTS}
_COUNTED: dict[type, tuple[str, str, str]] = {
    CouponIssued: ("coupons_issued", "issued", "outstanding"),
    CouponExpired: ("coupons_expired", "outstanding", "breakage"),
    CouponVoided: ("coupons_voided", "outstanding", "withdrawn"),
}
"""Of events that move the whole face value: the column that counts them, and the accounts debited and credited."""
_POSTED = frozenset({*_COUNTED, CouponUsed, CouponDebited, CouponReturned, CouponCredited})


@once_a_chunk
def books_of(chunk: Chunk, connection: Connection) -> Books:
    """What the chunk posts."""
    terms = terms_of(chunk, connection)
    entries = _entries_of(chunk, terms)
    books: defaultdict[tuple[str, str, str], Page] = defaultdict(Counter)
    for ((batch_id, month), kind), count in entries.bulk.items():
        of = terms[batch_id]
        for funder, part in zip(FUNDERS, _split(of, of.worth_minor or 0), strict=True):
            if _funds(of, funder):
                _count_up(books[batch_id, funder, month], kind, part, count)
    faces = _Faces(connection, terms, entries.new, [event for _, event in entries.followed])
    for (batch_id, month), event in entries.followed:
        for funder, signed, column in faces.follow(event):
            _post(books[batch_id, funder, month], signed, column)
    for (batch_id, _, month), page in books.items():
        page["position"] = entries.last[batch_id, month]
    return books


class _Entries(NamedTuple):
    """The events of a chunk that post anything."""

    bulk: Counter[tuple[Month, type]]
    """How many there are of those that move a whole face value."""
    followed: list[tuple[Month, Any]]
    """The others."""
    new: set[str]
    """Streams of coupons that are issued in the chunk."""
    last: dict[Month, int]
    """Positions of the last ones."""


def _entries_of(chunk: Chunk, terms: Mapping[str, BatchTerms]) -> _Entries:
    found = _Entries(Counter(), [], set(), {})
    events: Sequence[tuple[int, datetime, Any]] = chunk.events
    for position, _, event in events:
        kind = type(event)
        if kind not in _POSTED:
            continue
        of = terms[event.batch_id]
        month = event.batch_id, of.day(event.occurred_at)[:7]
        found.last[month] = position
        if kind is CouponIssued:
            found.new.add(event.originator_id)
            found.bulk[month, kind] += 1
        elif kind in _COUNTED and not of.leaves_balance:
            found.bulk[month, kind] += 1
        else:
            found.followed.append((month, event))
    return found


def _count_up(page: Page, kind: type, part: int, count: int) -> None:
    column, debited, credited = _COUNTED[kind]
    page[column] += count
    page[_COLUMNS[debited][1]] += part * count
    page[_COLUMNS[credited][0]] += part * count


def _post(page: Page, signed: Iterable[tuple[str, int]], column: str) -> None:
    """Credits are more than nothing, debits less; together they are nothing."""
    if column:
        page[column] += 1
    for account, amount in signed:
        if amount > 0:
            page[_COLUMNS[account][0]] += amount
        elif amount:
            page[_COLUMNS[account][1]] -= amount


Parts = tuple[int, int]
"""An amount by funder."""


def _split(terms: BatchTerms, amount: int) -> Parts:
    """The merchant's part rounded down, as ``Terms.merchant_funded_minor`` has it, and the platform's."""
    merchant = amount * terms.merchant_share_permyriad // WHOLE
    return merchant, amount - merchant


def _funds(terms: BatchTerms, funder: str) -> bool:
    """Whether the terms leave a part to the funder."""
    return terms.merchant_share_permyriad != (0 if funder == "merchant" else WHOLE)


@dataclass(slots=True)
class Use:
    """What an order took off with a coupon, and what returns gave back of that."""

    discount: int
    back: int = 0


@dataclass(slots=True)
class Face:
    """What one coupon may still take off, and what its uses gave back."""

    balance: int
    """Its face value while it can be used; of a voucher in use, what it was worth before that."""
    live: bool = True
    expired: bool = False
    uses: dict[str, Use] = field(default_factory=dict)
    """The last use by each order."""

    @property
    def value(self) -> int:
        """What is outstanding."""
        return self.balance if self.live else 0


class Step(NamedTuple):
    """What an event does to a coupon's value, but for what is outstanding."""

    redeemed: Parts
    """Less than nothing where it was given back."""
    column: str
    """That counts the event, if any."""
    rest: str
    """The account that takes what is no longer outstanding and not redeemed."""
    granted: Parts = (0, 0)
    """What is issued by it, on top of the face value."""


class _Faces:
    """The coupons that the chunk follows one by one."""

    def __init__(
        self, connection: Connection, terms: Mapping[str, BatchTerms], new: set[str], events: Iterable[CouponEvent]
    ) -> None:
        self.terms = terms
        self.faces: dict[str, Face] = {}
        first: dict[str, int] = {}
        asked: set[str] = set()
        for event in events:
            stream = event.originator_id
            if stream not in new:
                first.setdefault(stream, event.originator_version)
                if _asks(event, terms[event.batch_id]):
                    asked.add(stream)
        if asked:
            streams = joined(sorted(asked))
            versions = " ".join([str(first[stream]) for stream in sorted(asked)])
            cursor = connection.cursor(row_factory=tuple_row, binary=True)
            for row in cursor.execute(_EARLIER, (streams, versions)):
                earlier: Any = decode(*row)
                _STEPS[type(earlier)](self._face(earlier), earlier, terms[earlier.batch_id])

    def follow(self, event: Any) -> Iterator[tuple[str, Iterable[tuple[str, int]], str]]:
        """What one event posts: funder, accounts with amounts, and the column that counts it."""
        terms, face = self.terms[event.batch_id], self._face(event)
        if type(event) is CouponDebited:
            face.balance = event.balance_minor + event.discount_minor  # no need to ask for what was before
        before = _split(terms, face.value)
        step = _STEPS[type(event)](face, event, terms)
        after = _split(terms, face.value)
        for index, funder in enumerate(FUNDERS):
            redeemed, granted, outstanding = step.redeemed[index], step.granted[index], after[index] - before[index]
            if redeemed or _funds(terms, funder):
                rest = granted - outstanding - redeemed
                signed = ("outstanding", outstanding), ("redeemed", redeemed), ("issued", -granted), (step.rest, rest)
                yield funder, signed, step.column

    def _face(self, event: CouponEvent) -> Face:
        face = self.faces.get(event.originator_id)
        if face is None:
            worth = self.terms[event.batch_id].worth_minor or 0
            self.faces[event.originator_id] = face = Face(worth)
        return face


def _rest(terms: BatchTerms) -> str:
    """What is not valued was issued for what its use says."""
    return "issued" if terms.worth_minor is None else "unspent"


def _used(face: Face, event: CouponUsed, terms: BatchTerms) -> Step:
    face.live = False
    face.uses[event.order_id] = Use(event.discount_minor)
    return Step((event.merchant_funded_minor, event.platform_funded_minor), "coupons_used", _rest(terms))


def _debited(face: Face, event: CouponDebited, terms: BatchTerms) -> Step:
    if not terms.leaves_balance:
        raise ValueError("a part was spent of a coupon that leaves no balance")
    face.balance = event.balance_minor
    face.uses[event.order_id] = Use(event.discount_minor)
    return Step((event.merchant_funded_minor, event.platform_funded_minor), "", _rest(terms))


def _returned(face: Face, event: CouponReturned, terms: BatchTerms) -> Step:
    step = _given_back(face, event, event.returned_minor, terms)
    if not event.restored or terms.worth_minor is None:
        return step
    # What the policy kept of an earlier part stays redeemed, though the coupon is whole again.
    use = face.uses[event.order_id]
    whole, back = _split(terms, use.discount), _split(terms, use.back)
    return step._replace(granted=(whole[0] - back[0], whole[1] - back[1]))


def _credited(face: Face, event: CouponCredited, terms: BatchTerms) -> Step:
    face.balance = event.balance_minor
    step = _given_back(face, event, event.credited_minor, terms)
    return step._replace(rest="breakage") if face.expired else step


def _given_back(face: Face, event: CouponReturned | CouponCredited, given: int, terms: BatchTerms) -> Step:
    face.live = face.live or event.restored
    use = face.uses[event.order_id]
    # Of all that was given back of the use, so that parts of it add up to the funders' parts of the whole.
    before, after = _split(terms, use.back), _split(terms, use.back + given)
    use.back += given
    column = "coupons_restored" if event.restored else ""
    return Step((before[0] - after[0], before[1] - after[1]), column, _rest(terms))


def _expired(face: Face, _: CouponExpired, __: BatchTerms) -> Step:
    face.live, face.expired = False, True
    return Step((0, 0), "coupons_expired", "breakage")


def _voided(face: Face, _: CouponVoided, __: BatchTerms) -> Step:
    face.live = False
    return Step((0, 0), "coupons_voided", "withdrawn")


_STEPS: dict[type, Callable[[Face, Any, BatchTerms], Step]] = {
    CouponUsed: _used,
    CouponDebited: _debited,
    CouponReturned: _returned,
    CouponCredited: _credited,
    CouponExpired: _expired,
    CouponVoided: _voided,
}


def _asks(event: Any, terms: BatchTerms) -> bool:
    """Whether what the event posts depends on what the coupon did before the chunk."""
    if isinstance(event, CouponReturned | CouponCredited):
        return True
    earliest = 3 if isinstance(event, CouponUsed) else 2
    return terms.leaves_balance and not isinstance(event, CouponDebited) and event.originator_version > earliest


_EARLIER = """
select e.originator_id, e.originator_version, e.topic, e.state
  from unnest(string_to_array(%s, E'\\n'), string_to_array(%s, ' ')::bigint[]) as q (stream, version)
  join events e on e.originator_id = q.stream and e.originator_version < q.version
 where e.topic in ('coupon.used', 'coupon.debited', 'coupon.credited', 'coupon.returned', 'coupon.expired')
 order by e.originator_id, e.originator_version
"""
