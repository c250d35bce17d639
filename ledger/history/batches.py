"""A batch at a moment: its own state, and where its coupons were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.rows import dict_row

from ledger import events
from ledger.aggregate import coupons_begin, text_of
from ledger.batch import Batch
from ledger.events import Recorded
from ledger.history.coupons import last_of
from ledger.history.moment import Connection, Cut, Moment
from ledger.work import fold

EVENT_LIMIT = 100_000
"""Events of a batch's coupons that are read for one answer over HTTP, which takes about a second; the command line
reads as many as there are."""

_STATE_STEPS = (
    events.BatchCreated,
    events.BatchSubmitted,
    events.BatchApproved,
    events.BatchRejected,
    events.BatchStarted,
    events.BatchPaused,
    events.BatchResumed,
    events.BatchStopped,
)


def batch_moment(
    connection: Connection, history: Sequence[Recorded], moment: Moment, limit: int | None = EVENT_LIMIT
) -> dict[str, Any]:
    """The batch as the log knew it and as it was; the lists of positions are of its own stream, as for a coupon.

    ``balance`` is ``None`` where the batch's coupons have more than ``limit`` events.
    """
    known, true = moment.known.of(history), moment.true.of(history)
    return {
        "known": batch_state(connection, known, moment.known, limit),
        "true": batch_state(connection, true, moment.true, limit),
        "true_only": [recorded.position for recorded in true[len(known) :]],
        "known_only": [recorded.position for recorded in known[len(true) :]],
        "left_out": [recorded.position for recorded in history[len(true) :] if recorded.event.occurred_at <= moment.at],
    }


def batch_state(
    connection: Connection, history: Sequence[Recorded], cut: Cut, limit: int | None = EVENT_LIMIT
) -> dict[str, Any] | None:
    """The batch after these events of its own, at the cut's instant; ``None`` where it was not planned yet."""
    if not history:
        return None
    batch = folded_batch(history)
    state, step = batch.state_at(cut.at), last_of(history, *_STATE_STEPS)
    assert step is not None
    decided_by = [_reason(step.event.TOPIC, step.position, step.event.occurred_at)]
    if state == "ENDED":
        decided_by.append(_reason("claims_over", None, batch.created.claim_until))
    return {
        "state": state,
        "stored_state": batch.stored_state,
        "decided_by": decided_by,
        "template_id": batch.created.template_id,
        "template_version": batch.created.template_version,
        "quantity": batch.quantity,
        "budget_minor": batch.budget_minor,
        "version": batch.version,
        "position": history[-1].position,
        "balance": balance(connection, batch.key, cut, limit),
    }


def folded_batch(history: Sequence[Recorded]) -> Batch:
    """The batch after these events, which are at least its plan."""
    return fold(Batch(history[0].event.originator_id), [recorded.event for recorded in history])


def balance(connection: Connection, batch_id: str, cut: Cut, limit: int | None = EVENT_LIMIT) -> dict[str, int] | None:
    """Where the batch's coupons were: ``issued = pending + unused + locked + used + expired + voided``, and the money.

    Read from the events of the batch's coupons, which lie together in the log's primary key: some microseconds an
    event, in the database. ``None`` where there are more than ``limit``.
    """
    if limit is not None and too_many(connection, batch_id, limit):
        return None
    asked = {**key_range(batch_id), "at": cut.at, "position": cut.position, "occurred_by": cut.occurred_by}
    row = connection.cursor(row_factory=dict_row).execute(BALANCE, asked).fetchone()
    assert row is not None
    return {name: int(value) for name, value in row.items()}


def too_many(connection: Connection, batch_id: str, limit: int) -> bool:
    """Whether the batch's coupons have more than so many events."""
    asked = {**key_range(batch_id), "limit": limit + 1}
    row = connection.cursor(row_factory=dict_row).execute(COUNT, asked).fetchone()
    assert row is not None
    return bool(row["events"] > limit)


def key_range(batch_id: str) -> dict[str, str]:
    """Where the batch's coupons lie in the primary key; those of another may lie there too (``coupons_begin``)."""
    return {"batch_id": batch_id, "beginning": f"coupon-{coupons_begin(batch_id)}"}


def _reason(what: str, position: int | None, moment: Any) -> dict[str, Any]:
    return {"what": what, "position": position, "moment": text_of(moment)}


COUNT = """
select count(*) as events
  from (select from events
         where originator_id > %(beginning)s and originator_id < %(beginning)s || 'g' limit %(limit)s) e
"""

# One pass over the coupons' events in the order of the primary key. A payload is parsed once, and not where the topic
# alone says the step; `offset 0` keeps the planner from parsing it again for each of its members.
# What counts of a stream is its beginning: up to the position, and up to the first event that had not occurred.
BALANCE = """
with steps as (
    select e.originator_id, e.originator_version, e.topic, p.payload,
           bool_and(e.notification_id <= %(position)s
                    and (%(occurred_by)s::timestamptz is null
                         or (p.payload->>'occurred_at')::timestamptz <= %(occurred_by)s))
               over (partition by e.originator_id order by e.originator_version) as counts
      from (select originator_id, originator_version, topic, state, notification_id
              from events
             where originator_id > %(beginning)s and originator_id < %(beginning)s || 'g'  -- after every hex digit
             order by originator_id, originator_version) e
     cross join lateral (
           select case when %(occurred_by)s::timestamptz is not null
                         or e.topic in ('coupon.issued', 'coupon.locked', 'coupon.lock_extended', 'coupon.used',
                                        'coupon.debited', 'coupon.returned', 'coupon.credited', 'coupon.extended')
                       then convert_from(e.state, 'utf8')::jsonb end as payload
           offset 0) p
), coupons as (
    select array_agg(case
               when topic = 'coupon.locked' then 'LOCKED'
               when topic = 'coupon.used' then 'USED'
               when topic = 'coupon.expired' then 'EXPIRED'
               when topic = 'coupon.voided' then 'VOIDED'
               else 'UNUSED'
               end order by originator_version)
               filter (where topic in ('coupon.issued', 'coupon.unlocked', 'coupon.debited', 'coupon.locked',
                                       'coupon.used', 'coupon.expired', 'coupon.voided')
                          or (payload->>'restored')::boolean) as states,
           array_agg((payload->>'valid_until')::timestamptz order by originator_version)
               filter (where topic in ('coupon.issued', 'coupon.extended', 'coupon.returned')) as ends,
           array_agg((payload->>'lock_ends_at')::timestamptz order by originator_version)
               filter (where topic in ('coupon.locked', 'coupon.lock_extended')) as lock_ends,
           min((payload->>'valid_from')::timestamptz) filter (where topic = 'coupon.issued') as valid_from,
           count(*) filter (where topic in ('coupon.returned', 'coupon.credited')) as returned,
           sum((payload->>'discount_minor')::bigint)
               filter (where topic in ('coupon.used', 'coupon.debited')) as discount_minor,
           sum(coalesce(payload->>'returned_minor', payload->>'credited_minor')::bigint)
               filter (where topic in ('coupon.returned', 'coupon.credited')) as returned_minor
      from steps
     where counts
     group by originator_id
    having bool_or(topic = 'coupon.issued' and payload->>'batch_id' = %(batch_id)s)
), standing as (
    select returned, discount_minor, returned_minor,
           effective_state(states[array_upper(states, 1)], valid_from, ends[array_upper(ends, 1)],
                           lock_ends[array_upper(lock_ends, 1)], %(at)s) as state
      from coupons
)
select count(*) as issued,
       count(*) filter (where state = 'PENDING') as pending,
       count(*) filter (where state = 'UNUSED') as unused,
       count(*) filter (where state = 'LOCKED') as locked,
       count(*) filter (where state = 'USED') as used,
       count(*) filter (where state = 'EXPIRED') as expired,
       count(*) filter (where state = 'VOIDED') as voided,
       coalesce(sum(returned), 0) as returned,
       coalesce(sum(discount_minor), 0) as discount_minor,
       coalesce(sum(returned_minor), 0) as returned_minor
  from standing
"""
