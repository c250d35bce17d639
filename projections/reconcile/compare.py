"""The comparison itself: the file in a table of the session's own, beside the uses that the log has.

All of it is one snapshot, and memory grows with neither the file nor the log.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg.rows import namedtuple_row, tuple_row

from ledger.database import Database
from ledger.errors import InvalidPeriod
from ledger.merchants import check_known
from projections.reconcile.orders_file import BadLine, Told, UnreadableOrders

BAD_LINES_SHOWN = 100
BLOCK_LINES = 20_000

Connection = psycopg.Connection[tuple[Any, ...]]
Kind = Literal["missing", "extra", "differing"]

_SESSION = """
set application_name = 'coupon-ledger reconcile';
set statement_timeout = 0;
set transaction_timeout = 0;
set idle_in_transaction_session_timeout = 0;
set plan_cache_mode = auto;
set cursor_tuple_fraction = 1.0;
set work_mem = '128MB';
set jit = off;
create temporary table told (
    line integer, order_id text, coupon_id text, state text, discount_minor bigint, currency text, at timestamptz,
    paid_minor bigint, user_id text, reason text);
create temporary table spent (
    order_id text, coupon_id text, position bigint, used_at timestamptz, discount_minor bigint, currency text,
    paid_minor bigint, user_id text, left_minor bigint, whole boolean, returned_at bigint);
"""


class BadLines(UnreadableOrders):
    """Lines of the file are no good, so nothing was compared; ``facts`` has the first of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One coupon on one order of which the two do not say the same."""

    kind: Kind
    order_id: str
    coupon_id: str
    line: int | None
    """Of the file; ``None`` where it has none."""
    differs: list[str]
    told: dict[str, Any] | None
    """What the order system says."""
    ledger: dict[str, Any]
    """What the ledger says, with the positions that say so."""

    @property
    def state(self) -> str | None:
        """The order's, by the order system."""
        return None if self.told is None else str(self.told["state"])


class Money(NamedTuple):
    """What was taken off in one currency, by each of the two."""

    currency: str
    told_minor: int
    ledger_minor: int


@dataclass(slots=True)
class Summary:
    """The two beside each other."""

    position: int
    since: datetime
    until: datetime
    lines: int = 0
    uses: int = 0
    """Of the ledger, for the file's orders and coupons or within the span, and not given back."""
    equal: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    money: list[Money] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether both say the same."""
        return not (self.missing or self.extra or self.differing)


class Comparison:
    """One file against one merchant's uses, at one moment."""

    def __init__(self, connection: Connection, summary: Summary, merchant_id: str) -> None:
        self.summary = summary
        self._connection = connection
        self._merchant_id = merchant_id

    def findings(self) -> Iterator[Finding]:
        """By order, each order's coupons together. They are counted in the summary as they are read."""
        asked = {"since": self.summary.since, "until": self.summary.until, "merchant": self._merchant_id}
        with self._connection.cursor(name="reconcile", row_factory=namedtuple_row) as cursor:
            cursor.itersize = 5_000
            cursor.execute(_COMPARE, asked)
            for row in cursor:
                finding = _finding(row)
                setattr(self.summary, finding.kind, getattr(self.summary, finding.kind) + 1)
                yield finding
        self.summary.equal = self.summary.lines - self.summary.missing - self.summary.differing


@contextmanager
def comparison(
    database: Database,
    merchant_id: str,
    orders: Iterable[Told | BadLine],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Comparison]:
    """Take the file in, and open the comparison.

    A use that the file lacks is extra only in ``[since, until)``, which is the span of the file's own times where it
    is not told. Raises ``BadLines``, ``UnreadableOrders``, ``UnknownMerchant``, ``InvalidField``, and ``InvalidPeriod``
    where nothing lies in that span, or a file without lines leaves an end of it open: nothing would be compared then.
    """
    with database.connect() as connection:
        connection.execute(_SESSION)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            check_known(connection, merchant_id)
            lines = _take(connection, orders)
            connection.execute(_SPENT, {"merchant": merchant_id})
            connection.execute("analyze told, spent")
            [(head, first, last)] = _rows(connection, _SPAN)
            summary = Summary(head, *_span(since, until, first, last), lines)
            for *money, uses in _rows(connection, _USES, {"since": summary.since, "until": summary.until}):
                summary.money.append(Money(*money))
                summary.uses += uses
            yield Comparison(connection, summary, merchant_id)


def _span(
    since: datetime | None, until: datetime | None, first: datetime | None, last: datetime | None
) -> tuple[datetime, datetime]:
    """Where a use is looked for that the file lacks; what is not told is the span of the file's own times."""
    since = since or first
    until = until or (last and last + timedelta(microseconds=1))
    if since is None or until is None:
        raise InvalidPeriod("the file has no lines: only with both since and until could a use be missing in it")
    if since >= until:
        raise InvalidPeriod(f"the span from {since.isoformat()} to {until.isoformat()} ends before it begins")
    return since, until


def _take(connection: Connection, orders: Iterable[Told | BadLine]) -> int:
    """The file into its table; how many lines it has that count."""
    bad: list[BadLine] = []
    bad_lines = lines = 0
    orders = iter(orders)
    while block := list(islice(orders, BLOCK_LINES)):
        good = [told for told in block if isinstance(told, Told)]
        found = [told for told in block if isinstance(told, BadLine)]
        bad_lines += len(found)
        bad += found[: BAD_LINES_SHOWN - len(bad)]
        lines += len(good)
        text = io.StringIO()
        csv.writer(text).writerows([(*told[:6], told.at.isoformat(), *told[7:]) for told in good])
        with connection.cursor().copy("copy told from stdin (format csv)") as copy:
            copy.write(text.getvalue())
    for line, again in _rows(connection, _TWICE):
        bad_lines += 1
        if len(bad) < BAD_LINES_SHOWN:
            bad.append(BadLine(again, f"is the order and coupon of line {line} again"))
    if bad:
        more = f", and {bad_lines - 1} more" if bad_lines > 1 else ""
        raise BadLines(
            f"nothing was compared: line {bad[0].line} {bad[0].why}{more}", faults=[tuple(line) for line in bad]
        )
    return lines


def _finding(row: Any) -> Finding:
    told = None
    if row.line is not None:
        names = ("state", "discount_minor", "currency", "at", "paid_minor", "user_id", "reason")
        told = {name: value for name in names if (value := getattr(row, f"told_{name}")) is not None}
    return Finding(
        kind=row.kind,
        order_id=row.order_id,
        coupon_id=row.coupon_id,
        line=row.line,
        differs=[name for name in row.differs if name],
        told=told,
        ledger={
            "use": row.use,
            "used_at_position": row.position,
            "returned_at_position": row.returned_at,
            "used_at": row.used_at,
            "discount_minor": row.discount_minor,
            "left_minor": row.left_minor,
            "currency": row.currency,
            "paid_minor": row.paid_minor,
            "user_id": row.user_id,
            "last_event": row.last_topic,
            "last_position": row.last_position,
        },
    )


def _rows(connection: Connection, query: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    return connection.cursor(row_factory=tuple_row).execute(query, parameters).fetchall()


_TWICE = """
select first, line
  from (select line, min(line) over (partition by order_id, coupon_id) as first from told) t
 where line <> first order by line limit 1000
"""

# Each order's last use of each coupon, and what of it was given back: whole by a return without lines, or when its
# lines sum up to it.
_SPENT = """
insert into spent
with said as materialized (
    select e.notification_id as position, substr(e.originator_id, 8) as coupon_id, e.topic, j.*
      from events e
     cross join lateral json_to_record(convert_from(e.state, 'utf8')::json)
           as j (merchant_id text, order_id text, redemption_id text, occurred_at timestamptz, currency text,
                 discount_minor bigint, paid_minor bigint, user_id text, holder_id text, lines json,
                 returned_minor bigint, credited_minor bigint)
     where e.topic in ('coupon.used', 'coupon.debited', 'coupon.returned', 'coupon.credited')
       and j.merchant_id = %(merchant)s
), undone as (
    select coupon_id, redemption_id, max(position) as position, bool_or(json_array_length(lines) = 0) as rest,
           sum((select sum((part->>'discount_minor')::bigint) from json_array_elements(lines) part)) as parts,
           sum(coalesce(returned_minor, credited_minor)) as given
      from said where topic in ('coupon.returned', 'coupon.credited')
     group by coupon_id, redemption_id
)
select distinct on (u.order_id, u.coupon_id)
       u.order_id, u.coupon_id, u.position, u.occurred_at, u.discount_minor, u.currency, u.paid_minor,
       coalesce(u.holder_id, u.user_id), u.discount_minor - coalesce(b.given, 0),
       coalesce(b.rest or b.parts = u.discount_minor, false), b.position
  from said u left join undone b using (coupon_id, redemption_id)
 where u.topic in ('coupon.used', 'coupon.debited')
 order by u.order_id, u.coupon_id, u.position desc
"""

_SPAN = "select (select coalesce(max(notification_id), 0) from events), min(at), max(at) from told"

# The uses that are compared: of the file's orders and coupons, and of its span.
_USES = """
select currency, sum(told)::bigint, sum(ledger)::bigint, sum(uses)::bigint
  from (select currency, discount_minor as told, 0 as ledger, 0 as uses from told where state = 'paid'
        union all
        select s.currency, 0, s.discount_minor, 1 from spent s
         where not whole and (exists (select from told t where t.order_id = s.order_id and t.coupon_id = s.coupon_id)
                              or used_at >= %(since)s and used_at < %(until)s)) m
 group by currency order by currency
"""

# What an order holds is looked up only where the file says that it is over, or that it used the coupon and the ledger
# has no such use. What was given back of a use by its lines may be taken off in the file or not.
_COMPARE = """
select o.*, l.topic as last_topic, l.position as last_position,
       case when o.line is null then 'extra'
            when o.told_state = 'paid' and o.position is null then 'missing'
            else 'differing' end as kind,
       case when o.position is not null then case when o.whole then 'returned' else 'used' end
            when l.holds and l.live then 'held' else 'none' end as use
  from (select t.line, order_id, coupon_id, t.state as told_state, t.discount_minor as told_discount_minor,
               t.currency as told_currency, t.at as told_at, t.paid_minor as told_paid_minor,
               t.user_id as told_user_id, t.reason as told_reason,
               s.position, s.used_at, s.discount_minor, s.currency, s.paid_minor, s.user_id, s.left_minor, s.whole,
               s.returned_at,
               array[case when t.line is not null and (t.state = 'paid') is distinct from (not s.whole)
                          then 'state' end,
                     case when not s.whole and t.state = 'paid' then
                          case when t.discount_minor not in (s.discount_minor, s.left_minor) then 'discount_minor' end
                          end,
                     case when not s.whole and t.state = 'paid' and t.currency <> s.currency then 'currency' end,
                     case when not s.whole and t.state = 'paid' and t.paid_minor <> s.paid_minor then 'paid_minor' end,
                     case when not s.whole and t.state = 'paid' and t.user_id <> s.user_id then 'user_id' end]
               as differs
          from told t full join spent s using (order_id, coupon_id)) o
  left join lateral (
    select e.topic, e.notification_id as position,
           e.topic in ('coupon.locked', 'coupon.lock_extended') and j.order_id = o.order_id as holds,
           j.lock_ends_at > now() as live
      from events e
     cross join lateral json_to_record(convert_from(e.state, 'utf8')::json)
           as j (merchant_id text, order_id text, lock_ends_at timestamptz)
     where e.originator_id = 'coupon-' || o.coupon_id
       and j.merchant_id = %(merchant)s
     order by e.originator_version desc limit 1) l on o.position is null
 where case when o.line is null then not o.whole and o.used_at >= %(since)s and o.used_at < %(until)s
            when o.position is null and o.told_state <> 'paid' then l.holds and l.live
            else array_remove(o.differs, null) <> '{}' end
 order by order_id, coupon_id
"""
