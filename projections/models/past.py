"""What the log says of a chunk's batches, coupons and orders from before the chunk.

A fold may ask the log for what its rows do not hold, as long as it asks for what was there before the chunk: then the
answer is the same at every replay, and for chunks of every size. What several models ask is asked once a chunk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

from eventsourcing.persistence import JSONTranscoder
from psycopg.rows import tuple_row

from ledger.calendar import local_day
from ledger.events import (
    BatchCreated,
    CouponCredited,
    CouponDebited,
    CouponExpired,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponUnlocked,
    CouponUsed,
    CouponVoided,
)
from ledger.mapper import EventMapper
from ledger.terms import Terms
from projections.chunk import Chunk, times_as_text
from projections.models.bulk import joined
from projections.projection import Connection

T = TypeVar("T")

CACHED_BATCHES = 10_000
WHOLE = 10_000
"""Permyriad of everything."""

SPENT = frozenset({CouponUsed, CouponDebited})
COUNTED = frozenset({CouponLocked, CouponUnlocked, *SPENT, CouponReturned, CouponCredited, CouponExpired, CouponVoided})
"""What is asked of later steps of a coupon depends on how it was issued."""
COUPON_TYPES = COUNTED | {CouponIssued}
"""By type, for that is quicker than to ask what every event of a log is an instance of."""

decode = times_as_text(EventMapper(JSONTranscoder()).decode)


class BatchTerms(NamedTuple):
    """What the statistics of a batch need to know of its terms, which it keeps for ever."""

    merchant_id: str
    time_zone: str
    currency: str
    worth_minor: int | None
    """The face value of a coupon: the most that it can take off; ``None`` where the basket alone bounds it."""
    leaves_balance: bool
    merchant_share_permyriad: int

    def day(self, moment: str) -> str:
        """The day on the batch's calendar, of an instant as events store it."""
        if self.time_zone == "UTC" and moment[-1:] == "Z":
            return moment[:10]
        return _local_day(moment, self.time_zone)


@lru_cache(maxsize=20_000)
def _local_day(moment: str, time_zone: str) -> str:
    return str(local_day(datetime.fromisoformat(moment), time_zone))


class FirstUses(NamedTuple):
    """Positions of those uses in a chunk that are the first of their order."""

    in_batch: frozenset[int]
    """The first with a coupon of that batch."""
    of_user: frozenset[int]
    """The first by that user; an order of two users is rare, and counts for both."""


def once_a_chunk(work: Callable[[Chunk, Connection], T]) -> Callable[[Chunk, Connection], T]:
    """Remember the result for as long as the chunk lives. It must not refer to the chunk."""
    done: WeakKeyDictionary[Chunk, T] = WeakKeyDictionary()

    @wraps(work)
    def remembered(chunk: Chunk, connection: Connection) -> T:
        if chunk not in done:
            done[chunk] = work(chunk, connection)
        return done[chunk]

    return remembered


# By session, for the same ids may mean something else in another ledger.
_terms: WeakKeyDictionary[Connection, dict[str, BatchTerms]] = WeakKeyDictionary()


def batch_terms(connection: Connection, batch_ids: Iterable[str]) -> Mapping[str, BatchTerms]:
    """The terms of at least these batches. One that is not in the log is missing."""
    known = _terms.setdefault(connection, {})
    if len(known) > CACHED_BATCHES:
        known.clear()
    if unknown := set(batch_ids) - known.keys():
        known.update(_read_terms(connection, unknown))
    return known


@once_a_chunk
def terms_of(chunk: Chunk, connection: Connection) -> Mapping[str, BatchTerms]:
    """The terms of every batch of which the chunk has coupons."""
    batches = {event.batch_id for _, _, event in chunk.events if type(event) in COUPON_TYPES}  # type: ignore[attr-defined]
    return dict(batch_terms(connection, batches)) if batches else {}


@once_a_chunk
def origins(chunk: Chunk, connection: Connection) -> Mapping[str, CouponIssued]:
    """How each coupon that the chunk counts a step of was issued, by stream."""
    found: dict[str, CouponIssued] = {}
    asked: set[str] = set()
    for _, _, event in chunk.events:
        kind = type(event)
        if kind is CouponIssued:
            found[event.originator_id] = cast("CouponIssued", event)
        elif kind in COUNTED and event.originator_id not in found:
            asked.add(event.originator_id)
    if asked:
        cursor = connection.cursor(row_factory=tuple_row, binary=True)
        for row in cursor.execute(_ORIGINS, (joined(sorted(asked)),)):
            issued: Any = decode(*row)
            found[issued.originator_id] = issued
    return found


@once_a_chunk
def first_uses(chunk: Chunk, connection: Connection) -> FirstUses:
    """Which of the chunk's uses are the first of their order, in a batch and by a user."""
    uses: list[tuple[int, Any]] = [(position, event) for position, _, event in chunk.events if type(event) in SPENT]
    if not uses:
        return FirstUses(frozenset(), frozenset())
    in_batch, of_user = _earlier_uses(connection, {(use.merchant_id, use.order_id) for _, use in uses}, chunk.after)
    first_in_batch, first_of_user = [], []
    for position, use in uses:
        if (order := (use.merchant_id, use.order_id, use.batch_id)) not in in_batch:
            in_batch.add(order)
            first_in_batch.append(position)
        if (order := (use.merchant_id, use.order_id, use.holder_id)) not in of_user:
            of_user.add(order)
            first_of_user.append(position)
    return FirstUses(frozenset(first_in_batch), frozenset(first_of_user))


Order = tuple[str, str, str]
"""Merchant, order, and the batch or user."""


def _earlier_uses(connection: Connection, orders: set[tuple[str, str]], position: int) -> tuple[set[Order], set[Order]]:
    """Batches of which, and users for whom, these orders used coupons up to that position."""
    in_batch: set[Order] = set()
    of_user: set[Order] = set()
    if position:
        merchants, ids = (joined(column) for column in zip(*sorted(orders), strict=True))
        cursor = connection.cursor(row_factory=tuple_row, binary=True)
        for row in cursor.execute(_USES_OF_ORDERS, (merchants, ids, position, position)):
            use: Any = decode(*row)
            if (use.merchant_id, use.order_id) in orders:
                in_batch.add((use.merchant_id, use.order_id, use.batch_id))
                of_user.add((use.merchant_id, use.order_id, use.holder_id))
    return in_batch, of_user


def _read_terms(connection: Connection, batch_ids: Iterable[str]) -> dict[str, BatchTerms]:
    found: dict[str, BatchTerms] = {}
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    batches: dict[tuple[str, int], list[BatchCreated]] = defaultdict(list)
    for row in cursor.execute(_FIRST_EVENTS, ([f"batch-{id}" for id in batch_ids],)):
        created: Any = decode(*row)
        batches[f"template-{created.template_id}", created.template_version].append(created)
    streams, versions = [stream for stream, _ in batches], [version for _, version in batches]
    for row in cursor.execute(_VERSIONS, (streams, versions)):
        event: Any = decode(*row)
        terms = Terms.from_payload(event.terms)
        for created in batches[event.originator_id, event.originator_version]:
            found[created.originator_id[6:]] = BatchTerms(
                merchant_id=created.merchant_id,
                time_zone=created.time_zone,
                currency=terms.currency,
                worth_minor=terms.benefit.worth_minor,
                leaves_balance=terms.benefit.leaves_balance,
                merchant_share_permyriad=terms.merchant_share_permyriad,
            )
    return found


_FIRST_EVENTS = """
select originator_id, originator_version, topic, state from events
 where originator_id = any(%s) and originator_version = 1
"""

_VERSIONS = """
select e.originator_id, e.originator_version, e.topic, e.state
  from unnest(%s::text[], %s::bigint[]) as q (stream, version)
  join events e on e.originator_id = q.stream and e.originator_version = q.version
"""

_ORIGINS = """
select originator_id, originator_version, topic, state from events
 where originator_id = any(string_to_array(%s, E'\\n')) and originator_version = 1
"""

# Every use follows a lock by the same order, so the index of the locks finds the coupons that it may have used.
_USES_OF_ORDERS = """
select e.originator_id, e.originator_version, e.topic, e.state
  from (select distinct l.originator_id
          from unnest(string_to_array(%s, E'\\n'), string_to_array(%s, E'\\n')) as q (merchant_id, order_id)
          join events l on l.topic = 'coupon.locked' and order_of_lock(l.state) = q.merchant_id || E'\\n' || q.order_id
         where l.notification_id <= %s) as s
  join events e on e.originator_id = s.originator_id
 where e.topic in ('coupon.used', 'coupon.debited') and e.notification_id <= %s
"""
