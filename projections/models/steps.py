"""Which steps in a chunk are the first of their kind that a coupon takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from psycopg.rows import tuple_row

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponUsed,
    Event,
)
from projections.chunk import Chunk
from projections.models.bulk import joined
from projections.models.past import once_a_chunk
from projections.projection import Connection


class FirstSteps(NamedTuple):
    """Positions of a chunk's events by which a coupon took a step that it never took before."""

    locked: frozenset[int]
    used: frozenset[int]
    """Or was spent in part."""
    returned: frozenset[int]
    """In whole or in part."""
    used_again: frozenset[int]
    """The second uses, after a return or of another part."""


@once_a_chunk
def first_steps(chunk: Chunk, connection: Connection) -> FirstSteps:
    """What the coupons did before the chunk says which steps in it are their first."""
    reached = _reached_before(chunk, connection)
    first: tuple[list[int], list[int], list[int]] = ([], [], [])
    used_again: list[int] = []
    for position, _, event in chunk.events:
        step = _STEPS.get(type(event))
        if step is None or step == ISSUED:
            continue
        times = reached[event.originator_id]
        times[step] += 1
        if times[step] == 1:
            first[step].append(position)
        elif times[step] == 2 and step == USED:
            used_again.append(position)
    locked, used, returned = map(frozenset, first)
    return FirstSteps(locked, used, returned, frozenset(used_again))


LOCKED, USED, RETURNED, ISSUED = range(4)
_STEPS: dict[type[Event], int] = {
    CouponIssued: ISSUED,
    CouponLocked: LOCKED,
    CouponUsed: USED,
    CouponDebited: USED,
    CouponReturned: RETURNED,
    CouponCredited: RETURNED,
}
_EARLIEST = (2, 3, 4)
"""The versions at which a coupon that goes straight ahead takes these steps: nothing before them is to be asked for."""


def _reached_before(chunk: Chunk, connection: Connection) -> Mapping[str, list[int]]:
    """How often each coupon that goes on in the chunk took each step before it; only twice matters."""
    reached: dict[str, list[int]] = {}
    new: set[str] = set()
    asked: list[tuple[str, int]] = []
    for _, _, event in chunk.events:
        step = _STEPS.get(type(event))
        stream = event.originator_id
        if step == ISSUED:
            new.add(stream)
        elif step is not None and stream not in reached:
            # One that goes straight ahead has been locked before it is used, and used before it is returned.
            reached[stream] = [0, 0, 0] if stream in new else [int(step > LOCKED), int(step > USED), 0]
            if stream not in new and event.originator_version > _EARLIEST[step]:
                asked.append((stream, event.originator_version))
    if asked:
        versions = " ".join([str(version) for _, version in asked])
        cursor = connection.cursor(row_factory=tuple_row)
        for stream, *times in cursor.execute(_BEFORE, (joined(stream for stream, _ in asked), versions)):
            reached[stream] = times
    return reached


_BEFORE = """
select q.stream, s.locked, s.used, s.returned
  from unnest(string_to_array(%s, E'\\n'), string_to_array(%s, ' ')::bigint[]) as q (stream, version)
 cross join lateral (
       select count(*) filter (where e.topic = 'coupon.locked') as locked,
              count(*) filter (where e.topic in ('coupon.used', 'coupon.debited')) as used,
              count(*) filter (where e.topic in ('coupon.returned', 'coupon.credited')) as returned
         from events e
        where e.originator_id = q.stream and e.originator_version < q.version) as s
"""
