"""What the guards of a commit held at a cut, counted again from the events: stock, shares, budgets and live locks.

The tables of the guards know the present alone. Each of them can be computed from the log, and here it is, for the one
unit that is asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from psycopg.rows import dict_row

from ledger import events, limits
from ledger.batch import Batch
from ledger.calendar import local_day
from ledger.commit import Unit
from ledger.errors import LockLimitReached, Refusal
from ledger.history.batches import key_range, too_many
from ledger.history.coupons import folded, last_of
from ledger.history.moment import Connection
from ledger.history.past import Past
from ledger.work import Work

SHOWN_LIMIT = 20
"""Positions that are named of the events that used a guard up: the last ones."""

LATER = " later"
"""In a batch's place: its coupons since, of the same receipt."""

StreamsOf = Callable[[str], Sequence[str]]
"""The coupons, as streams, that a user ever had or might use."""


@dataclass(slots=True)
class Judged:
    """What the guards would have said."""

    refusal: Refusal | None = None
    positions: list[int] = field(default_factory=list)
    """Of the events that used the guard up, the last of them."""
    unknown: list[str] = field(default_factory=list)
    """What could not be found out."""


@dataclass(frozen=True, slots=True)
class _Taken:
    count: int
    positions: list[int]


_NONE = _Taken(0, [])


def judge(
    connection: Connection,
    past: Past,
    work: Work,
    unit: Unit,
    streams_of: StreamsOf,
    limit: int | None,
) -> Judged:
    """What the guards would have said to the unit, in the order in which a commit asks them: shares, stock, locks.

    A batch whose coupons have more than ``limit`` events is not counted.
    """
    judged, issues_from, now = Judged(), work.issues_from, work.request.at or past.cut.at
    if issues_from is not None and (unit.stock or unit.quota):
        if limit is not None and too_many(connection, issues_from, limit):
            judged.unknown.append(
                f"what was issued of batch {issues_from} was not counted: its coupons have more than {limit} events"
            )
        else:
            _judge_issue(judged, connection, past, unit, now, issues_from)
    if judged.refusal is None and unit.holds:
        _judge_holds(judged, past, unit, work.request.merchant_id, now, streams_of)
    return judged


def _judge_issue(judged: Judged, connection: Connection, past: Past, unit: Unit, now: datetime, batch_id: str) -> None:
    batch = past.batch(batch_id)
    issued = [event for event in unit.events if isinstance(event, events.CouponIssued)]
    taken = _taken(connection, batch, issued, now, past.cut.position)
    for key, (take, most) in unit.quota.items():
        if limits.counts_uses(key[0]):
            continue
        found = taken.get(key, _NONE)
        if found.count + take > most:
            judged.refusal, judged.positions = limits.share_refusal(batch_id, key), found.positions
            return
        if key[0] != batch_id and (LATER, key[1]) not in taken and _used_by_now(connection, key):
            judged.unknown.append("the receipt is used by now, for a coupon of another batch: not known since when")
    for stock_key, take in unit.stock.items():
        found, supply = taken.get((batch_id, ""), _NONE), batch.quantity
        count = found.count
        if stock_key != batch_id:
            terms = past.terms(batch.created.template_id, batch.created.template_version)
            count, supply = count * (terms.benefit.worth_minor or 0), batch.budget_minor or 0
        if count + take > supply:
            judged.refusal, judged.positions = limits.stock_refusal(batch_id, stock_key), found.positions
            return


def _taken(
    connection: Connection, batch: Batch, issued: Sequence[events.CouponIssued], now: datetime, position: int
) -> dict[tuple[str, str], _Taken]:
    """What the batch had issued, by the keys of ``ledger/limits.py``; all of it under an empty owner."""
    day, facts = local_day(now, batch.created.time_zone), issued[0].facts
    asked = {
        **key_range(batch.key),
        "position": position,
        "time_zone": batch.created.time_zone,
        "day": day,
        "users": list({event.user_id for event in issued}),
        "person": facts.get("person"),
        "receipt": facts.get("points_receipt"),
        "shown": SHOWN_LIMIT,
    }
    rows = connection.cursor(row_factory=dict_row).execute(TAKEN, asked)
    return {
        _key(batch, issued[0].merchant_id, row["kind"], row["owner"], day): _Taken(row["count"], row["positions"])
        for row in rows
    }


def _key(batch: Batch, merchant_id: str, kind: str, owner: str, day: date) -> tuple[str, str]:
    match kind:
        case "receipt":
            return limits.points_key(merchant_id), owner
        case "later":  # not yet used then, whatever the guard says now
            return LATER, owner
        case "user_day":
            return batch.key, limits.day_key(day, owner)
        case "day":
            return batch.key, limits.day_key(day)
        case "person":
            return batch.key, limits.person_key(owner)
        case _:  # a user, or nobody for all that was issued
            return batch.key, owner


def _used_by_now(connection: Connection, key: tuple[str, str]) -> bool:
    query = "select from user_quota where batch_id = %s and user_id = %s"
    return connection.execute(query, key).fetchone() is not None


def _judge_holds(
    judged: Judged, past: Past, unit: Unit, merchant_id: str, now: datetime, streams_of: StreamsOf
) -> None:
    """A user may hold so many coupons of a template at once; those that the unit touches count as it leaves them."""
    touched = {*unit.holds, *unit.releases}
    owners: dict[str, list[int]] = {}
    for coupon_id, (owner, _, most) in unit.holds.items():
        if coupon_id not in unit.releases:
            owners.setdefault(owner, []).append(most)
    for owner, mosts in owners.items():
        # A merchant's id may hold a space, and a template's is made of hexadecimal digits (``use_cases.checks.held``).
        template_id, _, holder_id = owner.removeprefix(f"{merchant_id} ").partition(" ")
        held = list(_held(past, streams_of(holder_id), template_id, holder_id, now, touched))
        if len(held) + len(mosts) > min(mosts):
            judged.refusal, judged.positions = LockLimitReached(), sorted(held)[-SHOWN_LIMIT:]
            return


def _held(
    past: Past, streams: Sequence[str], template_id: str, holder_id: str, now: datetime, touched: set[str]
) -> Iterator[int]:
    """The positions of the user's live locks of a template, where the terms that the coupon pinned limit them."""
    past.read(streams)
    for stream in streams:
        history = past.history(stream)
        if not history or stream.removeprefix("coupon-") in touched:
            continue
        coupon = folded(history)
        holds = coupon.state_at(now) == "LOCKED" and coupon.locked is not None and coupon.locked.holder_id == holder_id
        lock = last_of(history, events.CouponLocked)
        if not (holds and lock and coupon.template_id == template_id):
            continue
        if past.terms(template_id, coupon.template_version).live_locks_per_user is not None:
            yield lock.position


# One pass over the coupons of the batch; a payload is parsed once (`offset 0`). All times of issue are instants, so the
# day is that of the merchant's zone, as ledger/calendar.py has it.
TAKEN = """
with issued as materialized (
    select e.notification_id as position, p.payload->>'user_id' as user_id,
           ((p.payload->>'occurred_at')::timestamptz at time zone %(time_zone)s)::date as day,
           p.payload->'facts'->>'person' as person, p.payload->'facts'->>'points_receipt' as receipt
      from events e
     cross join lateral (select convert_from(e.state, 'utf8')::jsonb as payload offset 0) p
     where e.originator_id > %(beginning)s and e.originator_id < %(beginning)s || 'g'  -- after every hexadecimal digit
       and e.originator_version = 1
       and p.payload->>'batch_id' = %(batch_id)s
), known as materialized (
    select * from issued where position <= %(position)s
), owners as (
    select 'all' as kind, '' as owner, position from known
     union all
    select 'day', '', position from known where day = %(day)s
     union all
    select 'user', user_id, position from known where user_id = any(%(users)s)
     union all
    select 'user_day', user_id, position from known where user_id = any(%(users)s) and day = %(day)s
     union all
    select 'person', person, position from known where person = %(person)s
     union all
    select 'receipt', receipt, position from known where receipt = %(receipt)s
     union all
    select 'later', receipt, position from issued where receipt = %(receipt)s and position > %(position)s
)
select kind, owner, count(*) as count,
       (array_agg(position order by position))[greatest(count(*) - %(shown)s + 1, 1):] as positions
  from owners
 group by kind, owner
"""
