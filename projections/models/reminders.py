"""Reminders: what users are still to be told, by the moment when it is due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson
from eventsourcing.persistence import JSONTranscoder
from psycopg import sql
from psycopg.rows import tuple_row

from ledger.events import (
    BatchCreated,
    CouponCredited,
    CouponEvent,
    CouponExpired,
    CouponExtended,
    CouponIssued,
    CouponReturned,
    CouponTransferred,
    CouponUsed,
    CouponVoided,
    ReminderCancelled,
    ReminderRequested,
)
from ledger.mapper import EventMapper
from ledger.reminders import Reminders as ReminderTerms
from projections.chunk import Chunk
from projections.projection import Connection, Projection

CACHED_BATCHES = 10_000

_mapper = EventMapper(JSONTranscoder())


class Plan(NamedTuple):
    """What the terms of a batch say of reminders."""

    terms: ReminderTerms
    time_zone: str


class Reminders(Projection):
    """One row for each user, batch, day and type of reminder; who has two coupons of a batch is told once a day.

    The rows are the log's, less what is in ``reminders_sent``: the scanner puts a reminder there and takes its row
    away, while it holds this model's checkpoint so that nothing is folded meanwhile. A moment that was over when the
    event was recorded is not scheduled, so an import of history reminds nobody.
    """

    name = "reminders"
    version = 1
    folds = (
        CouponIssued,
        CouponUsed,
        CouponCredited,
        CouponReturned,
        CouponExpired,
        CouponVoided,
        CouponExtended,
        CouponTransferred,
        ReminderRequested,
        ReminderCancelled,
    )
    ddl = """
        create table {table} (
            merchant_id text        not null,
            user_id     text        not null,
            batch_id    text        not null,
            notify_day  date        not null,  -- on the merchant's calendar
            type        text        not null check (type in ('expiry', 'claim_opens')),
            due_at      timestamptz not null,  -- of the first of its coupons
            ends_at     timestamptz not null,  -- of the last of them; of claim_opens, when claims open
            coupons     jsonb       not null,  -- by id, when the owner is to be told of it, and when it ends
            primary key (merchant_id, user_id, batch_id, notify_day, type)
        ) with (fillfactor = 70);
        create index on {table} (due_at);
    """
    # What was sent is forgotten some days after it was over, and was then perhaps folded before it was sent.
    compared = """
        t.ends_at > statement_timestamp()
        and not exists (select from reminders_sent s
                         where s.merchant_id = t.merchant_id and s.user_id = t.user_id and s.batch_id = t.batch_id
                           and s.notify_day = t.notify_day and s.type = t.type)
    """

    def __init__(self) -> None:
        # By session, for the same ids may mean something else in another ledger.
        self._plans: WeakKeyDictionary[Connection, dict[str, Plan]] = WeakKeyDictionary()

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Take every coupon that moved out of its rows, then put those in that are to be told of."""
        kinds = frozenset(self.folds)
        events: list[tuple[datetime, Any]] = [(at, event) for _, at, event in chunk.events if type(event) in kinds]
        if not events:
            return
        plans = self._plans_of(connection, {event.batch_id for _, event in events})
        changes = Changes()
        for recorded_at, event in events:
            plan = plans[event.batch_id]
            if isinstance(event, ReminderRequested):
                changes.open(event, plan, recorded_at)
            elif isinstance(event, ReminderCancelled):
                changes.cancel(event)
            elif plan.terms.days_before:
                changes.move(event, plan, recorded_at, connection)
        changes.write(connection, table)

    def show(self, connection: Connection) -> None:
        """Point the view at this version's table, without what was sent while that was filled."""
        connection.execute(sql.SQL(_LESS_SENT).format(table=sql.Identifier(self.table)))
        super().show(connection)

    def _plans_of(self, connection: Connection, batch_ids: set[str]) -> dict[str, Plan]:
        """What the terms of these batches say. A batch keeps its terms for ever."""
        known = self._plans.setdefault(connection, {})
        if len(known) > CACHED_BATCHES:
            known.clear()
        if unknown := batch_ids - known.keys():
            known.update(_read_plans(connection, unknown))
        return known


_ENDS = (CouponUsed, CouponExpired, CouponVoided)

Wallet = tuple[str, str, str]
"""Merchant, user and batch."""
Key = tuple[str, str, str, str, str]
"""The same, with the day and the type."""


class Changes:
    """What a chunk does to the rows."""

    def __init__(self) -> None:
        self.taken: dict[Wallet, set[str]] = defaultdict(set)
        """Coupons that leave whatever rows they were in before the chunk."""
        self.cancelled: set[Wallet] = set()
        self.put: dict[str, dict[Key, tuple[datetime, str]]] = {}
        """By coupon, its reminders after the chunk: when due, and when the coupon ends."""
        self.opening: dict[Wallet, tuple[Key, datetime] | None] = {}
        self.ends: dict[str, str] = {}
        """Ends of coupons, as texts, where the chunk told them."""

    def move(self, event: CouponEvent, plan: Plan, recorded_at: datetime, connection: Connection) -> None:
        """A coupon ended, or its reminders are others from now on."""
        coupon_id = event.originator_id[7:]
        if isinstance(event, CouponReturned | CouponCredited) and not event.restored:
            if isinstance(event, CouponReturned):
                self.ends[coupon_id] = str(event.valid_until)
            return
        if not isinstance(event, CouponIssued):
            self.taken[event.merchant_id, event.user_id, event.batch_id].add(coupon_id)
        if isinstance(event, _ENDS):
            self.put.pop(coupon_id, None)
            return
        if isinstance(event, CouponIssued | CouponExtended | CouponReturned):
            self.ends[coupon_id] = str(event.valid_until)
        elif coupon_id not in self.ends:
            self.ends[coupon_id] = _end_of(connection, event)
        user_id = event.to_user_id if isinstance(event, CouponTransferred) else event.user_id
        self._schedule(coupon_id, (event.merchant_id, user_id, event.batch_id), plan, recorded_at)

    def _schedule(self, coupon_id: str, wallet: Wallet, plan: Plan, recorded_at: datetime) -> None:
        end = self.ends[coupon_id]
        put: dict[Key, tuple[datetime, str]] = {}
        for day, at in _moments(plan, end):
            key = (*wallet, day, "expiry")
            if recorded_at < at and key not in put:  # of two on one day, the earlier
                put[key] = at, end
        self.put[coupon_id] = put

    def open(self, event: ReminderRequested, plan: Plan, recorded_at: datetime) -> None:
        """A user wants to be told when claims open."""
        day, at = plan.terms.at_opening(datetime.fromisoformat(str(event.claim_from)), plan.time_zone)
        wallet = event.merchant_id, event.user_id, event.batch_id
        self.opening[wallet] = ((*wallet, str(day), "claim_opens"), at) if at > recorded_at else None

    def cancel(self, event: ReminderCancelled) -> None:
        """The user does not want it any more."""
        wallet = event.merchant_id, event.user_id, event.batch_id
        self.opening[wallet] = None
        self.cancelled.add(wallet)

    def write(self, connection: Connection, table: sql.Identifier) -> None:
        """One statement for each kind of change that there is."""
        if self.taken:
            taken = [[*wallet, sorted(coupons)] for wallet, coupons in self.taken.items()]
            connection.execute(sql.SQL(_TAKE).format(table=table), (_json(taken),))
        if self.cancelled:
            connection.execute(sql.SQL(_CANCEL).format(table=table), (_json(self.cancelled),))
        rows: dict[Key, list[Any]] = {}
        for coupon_id, reminders in self.put.items():
            for key, (at, end) in reminders.items():
                row = rows.setdefault(key, [at, end, {}])
                row[0] = min(row[0], at)
                row[1] = max(row[1], end, key=lambda moment: datetime.fromisoformat(str(moment)))
                row[2][coupon_id] = [at, end]
        for opening in self.opening.values():
            if opening is not None:
                rows[opening[0]] = [opening[1], opening[1], {}]
        if rows:
            connection.execute(sql.SQL(_PUT).format(table=table), (_json([*key, *row] for key, row in rows.items()),))


@lru_cache(maxsize=10_000)
def _moments(plan: Plan, end: str) -> list[tuple[str, datetime]]:
    """Days and moments before an end: most coupons of a batch, or of a poll, end at the same one."""
    until = datetime.fromisoformat(end)
    return [(str(day), at) for day, at in plan.terms.before_end(until, plan.time_zone) if at < until]


def _read_plans(connection: Connection, batch_ids: Iterable[str]) -> dict[str, Plan]:
    found = dict.fromkeys(batch_ids, Plan(ReminderTerms(), "UTC"))
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    batches: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in cursor.execute(_FIRST_EVENTS, ([f"batch-{id}" for id in found],)):
        created = _mapper.decode(*row)
        assert isinstance(created, BatchCreated)
        template = f"template-{created.template_id}", created.template_version
        batches[template].append(created.originator_id[6:])
    streams, versions = [stream for stream, _ in batches], [version for _, version in batches]
    for stream, version, topic, state in cursor.execute(_VERSIONS, (streams, versions)):
        event: Any = _mapper.decode(stream, version, topic, state)
        plan = Plan(ReminderTerms.from_payload(event.terms["reminders"]), event.terms["time_zone"])
        found |= dict.fromkeys(batches[stream, version], plan)
    return found


def _end_of(connection: Connection, event: CouponEvent) -> str:
    """When a coupon ends by the events of its stream before this one."""
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    [row] = cursor.execute(_END, (event.originator_id, event.originator_version)).fetchall()
    return str(row[0])


def _json(value: Any) -> str:
    return orjson.dumps(value, default=list, option=orjson.OPT_UTC_Z).decode()


_FIRST_EVENTS = """
select originator_id, originator_version, topic, state from events
 where originator_id = any(%s) and originator_version = 1
"""

_VERSIONS = """
select e.originator_id, e.originator_version, e.topic, e.state
  from unnest(%s::text[], %s::bigint[]) as q (stream, version)
  join events e on e.originator_id = q.stream and e.originator_version = q.version
"""

_END = """
select convert_from(state, 'utf8')::json->>'valid_until' from events
 where originator_id = %s and originator_version < %s
   and topic in ('coupon.issued', 'coupon.extended', 'coupon.returned')
 order by originator_version desc limit 1
"""

# A row that holds no coupon any more goes; the others are due with the first coupon that they still hold.
_TAKE = """
with left_over as (
    select t.merchant_id, t.user_id, t.batch_id, t.notify_day, t.type, t.coupons - q.ids as coupons
      from (select c->>0 as merchant_id, c->>1 as user_id, c->>2 as batch_id,
                   array(select jsonb_array_elements_text(c->3)) as ids
              from jsonb_array_elements(%s::jsonb) c) q
      join {table} t on t.merchant_id = q.merchant_id and t.user_id = q.user_id and t.batch_id = q.batch_id
     where t.coupons ?| q.ids
), gone as (
    delete from {table} t using left_over l
     where t.merchant_id = l.merchant_id and t.user_id = l.user_id and t.batch_id = l.batch_id
       and t.notify_day = l.notify_day and t.type = l.type and l.coupons = '{{}}'
)
update {table} t
   set coupons = l.coupons,
       due_at = (select min((value->>0)::timestamptz) from jsonb_each(l.coupons)),
       ends_at = (select max((value->>1)::timestamptz) from jsonb_each(l.coupons))
  from left_over l
 where t.merchant_id = l.merchant_id and t.user_id = l.user_id and t.batch_id = l.batch_id
   and t.notify_day = l.notify_day and t.type = l.type and l.coupons <> '{{}}'
"""

_CANCEL = """
delete from {table} t
 using jsonb_array_elements(%s::jsonb) c
 where t.merchant_id = c->>0 and t.user_id = c->>1 and t.batch_id = c->>2 and t.type = 'claim_opens'
"""

_PUT = """
insert into {table} as t (merchant_id, user_id, batch_id, notify_day, type, due_at, ends_at, coupons)
select q.*
  from (select c->>0 as merchant_id, c->>1 as user_id, c->>2 as batch_id, (c->>3)::date as notify_day, c->>4 as type,
               (c->>5)::timestamptz, (c->>6)::timestamptz, c->7
          from jsonb_array_elements(%s::jsonb) c) q
 where not exists (select from reminders_sent s
                    where s.merchant_id = q.merchant_id and s.user_id = q.user_id and s.batch_id = q.batch_id
                      and s.notify_day = q.notify_day and s.type = q.type)
on conflict (merchant_id, user_id, batch_id, notify_day, type) do update
   set coupons = t.coupons || excluded.coupons,
       due_at = least(t.due_at, excluded.due_at),
       ends_at = greatest(t.ends_at, excluded.ends_at)
"""

_LESS_SENT = """
delete from {table} t using reminders_sent s
 where t.merchant_id = s.merchant_id and t.user_id = s.user_id and t.batch_id = s.batch_id
   and t.notify_day = s.notify_day and t.type = s.type
"""
