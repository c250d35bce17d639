"""The guards and the answers against what the log says: every row, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ledger import limits
from projections.verify.batches import Batch, Supply
from projections.verify.plans import Plans
from projections.verify.report import Findings
from projections.verify.snapshot import Connection, Moment, rows, streamed


def check_positions(moment: Moment, found: Findings) -> None:
    """I9: no holes in positions, and no clock that falls."""
    found.looked_at["I9"] += moment.head
    for position, before, recorded_at, recorded_before, stream in streamed(moment.connection, _POSITIONS):
        if position != before + 1:
            found.add("I9", position, stream, f"position {before + 1}", f"position {position}")
        else:
            found.add("I9", position, stream, f"recorded no earlier than {recorded_before}", f"at {recorded_at}")


def check_batches(moment: Moment, plans: Plans, found: Findings) -> None:
    """I1, I2, I17 of budgets, and the rows of stock."""
    expected: dict[str, tuple[int, int]] = {}
    last: dict[str, int] = {}
    for batch in plans.batches.values():
        states = batch.states.total()
        if states != batch.issued:
            issued = f"{batch.issued} coupons as issued"
            found.add("I1", batch.quantity.last, f"batch-{batch.id}", issued, f"{states} by their states")
        _check_supply(moment.connection, batch, batch.quantity, 1, "I2", found)
        expected[batch.id] = (batch.quantity.mosts[-1], batch.quantity.total)
        last[batch.id] = batch.quantity.last
        if batch.budget.since:
            worth = batch.terms.face_minor if batch.terms is not None else None
            _check_supply(moment.connection, batch, batch.budget, worth or 1, "I17", found)
            key = limits.budget_key(batch.id)
            expected[key], last[key] = (batch.budget.mosts[-1], batch.budget.total), batch.budget.last
    stored = {key: (quantity, issued) for key, quantity, issued in rows(moment.connection, _STOCK)}
    found.looked_at["stock"] += len(stored)
    found.looked_at["I18"] += len(stored)
    for key in sorted(expected.keys() | stored.keys()):
        if key not in expected:
            found.add("I18", None, key, "no stock of a batch that is not there", f"{stored[key]}")
        elif stored.get(key) != expected[key]:
            found.add("stock", last[key], key, f"(quantity, taken) {expected[key]}", f"{stored.get(key)}")


def _check_supply(
    connection: Connection, batch: Batch, supply: Supply, worth: int, check: str, found: Findings
) -> None:
    excess = supply.first_excess()
    if excess is None:
        return
    most, until = excess
    asked = {"batch": batch.id, "nth": most // worth, "until": until or None}
    position = next((position for (position,) in rows(connection, _NTH_ISSUE, asked)), None)
    found.add(check, position, f"batch-{batch.id}", f"at most {most} taken", f"{supply.total} in all")


def check_quota(moment: Moment, found: Findings) -> None:
    """I3, and the rows of shares; one that counts what nobody had is I18."""
    connection = moment.connection
    [(shares,)] = rows(connection, "select count(*) from user_quota")
    for check in ("I3", "quota", "I18"):
        found.looked_at[check] += shares
    over = False
    for batch_id, owner, counted, first, most, stored in streamed(connection, _QUOTA):
        name = f"{batch_id} {owner}"
        if counted is None:
            found.add("I18", None, name, "no share of what nobody had", f"{stored} counted")
        elif counted != stored:
            found.add("quota", first, name, f"{counted} counted", f"{stored or 0}")
        over = over or (most is not None and counted > most)
    for batch_id, owner, counted, most, position in streamed(connection, _OVER) if over else ():
        found.add("I3", position, f"{batch_id} {owner}", f"at most {most}", f"{counted}")


def check_redemptions(moment: Moment, found: Findings) -> None:
    """I5 of all coupons together: no redemption is there twice."""
    for position, stream, redemption_id in rows(moment.connection, _REDEEMED_AGAIN):
        found.add("I5", position, stream, f"one redemption {redemption_id}", "another")


def check_holds(moment: Moment, held: Mapping[str, tuple[str, datetime]], found: Findings) -> None:
    """Live holds, both ways; those whose end is over count for nothing and may lie there."""
    stored = {id: (owner, ends_at) for id, owner, ends_at in rows(moment.connection, _HOLDS, (moment.now,))}
    found.looked_at["holds"] += len(stored)
    for id in sorted(stored.keys() | held.keys()):
        if stored.get(id) != held.get(id):
            stream = f"coupon-{id}"
            [(last,)] = rows(moment.connection, _LAST_OF_STREAM, (stream,))
            found.add("holds", last, stream, f"{_hold(held.get(id))}", f"{_hold(stored.get(id))}")


def check_requests(moment: Moment, found: Findings) -> None:
    """I11, I13 and I14: answers and events."""
    [(answers,)] = rows(moment.connection, "select count(*) from requests")
    for check in ("I11", "I13", "I14"):
        found.looked_at[check] += answers
    for merchant_id, request_id, count, first, last, alone, position in streamed(
        moment.connection, _REQUESTS, {"head": moment.head}
    ):
        name = f"request {request_id} of {merchant_id}"
        if count is None:
            found.add("I13", None, name, "a position and objects that are in the log", f"answered at {position}")
        elif position is None and alone:
            found.add("I14", last, name, "one coupon by a message", f"{count} events from {first} to {last}")
        elif position is None:
            found.add("I11", first, name, "an answer to the request of these events", "none")
        elif last - first + 1 != count:
            found.add(
                "I14", _after_gap(moment.connection, merchant_id, request_id), name, "one effect", "another later"
            )
        else:
            found.add("I11", last, name, f"an answer at {last}, its last event", f"at {position}")


def _after_gap(connection: Connection, merchant_id: str, request_id: str) -> int | None:
    return next((position for (position,) in rows(connection, _AFTER_GAP, (merchant_id, request_id))), None)


def _hold(hold: tuple[str, datetime] | None) -> str:
    return "no hold" if hold is None else f"held by {hold[0]} until {hold[1].isoformat()}"


CLOCK_STEP_SECONDS = 1
"""Machines set their clocks back by less than this now and then, and what was recorded cannot be mended."""

_POSITIONS = f"""
select position, before, recorded_at::text, recorded_before::text, stream
  from (select notification_id as position, lag(notification_id, 1, 0::bigint) over w as before, recorded_at,
               lag(recorded_at) over w as recorded_before, originator_id as stream
          from events window w as (order by notification_id)) e
 where position <> before + 1
    or recorded_at < greatest(recorded_before, '1970-01-01Z') - interval '{CLOCK_STEP_SECONDS} s'
 order by position
"""  # noqa: S608

_STOCK = "select batch_id, quantity, issued from batch_stock"

_REDEEMED_AGAIN = """
select e.notification_id, e.originator_id, r.redemption_id
  from (select redemption_id, min(position) as first from redeemed group by redemption_id having count(*) > 1) d
  join redeemed r on r.redemption_id = d.redemption_id and r.position > d.first
  join events e on e.notification_id = r.position
 order by r.position limit 1000
"""

_HOLDS = "select coupon_id, owner, ends_at from user_holds where ends_at > %s"

_LAST_OF_STREAM = "select max(notification_id) from events where originator_id = %s"

_NTH_ISSUE = """
select notification_id from events
 where topic = 'coupon.issued' and convert_from(state, 'utf8')::json->>'batch_id' = %(batch)s
   and (%(until)s::bigint is null or notification_id < %(until)s)
 order by notification_id offset %(nth)s limit 1
"""

_QUOTA = """
select batch_id, owner, o.counted, o.first, o.most, q.issued
  from (select batch_id, owner, count(*) as counted, min(position) as first, min(most) as most
          from owed group by batch_id, owner) o
  full join (select batch_id, user_id as owner, issued from user_quota) q using (batch_id, owner)
 where o.counted is distinct from q.issued or o.counted > o.most
"""

# The first that is one too many of each owner who had too much.
_OVER = """
select batch_id, owner, counted, most, position
  from (select o.batch_id, o.owner, m.counted, m.most, o.position,
               row_number() over (partition by o.batch_id, o.owner order by o.position) as nth
          from (select batch_id, owner, count(*) as counted, min(most) as most
                  from owed group by batch_id, owner having count(*) > min(most)) m
          join owed o using (batch_id, owner)) n
 where nth = most + 1
"""

# An answer without events is that of a request that changed nothing in the log; then what it names must be there.
_REQUESTS = """
select merchant_id, request_id, d.count, d.first, d.last, d.alone > 0, r.position
  from (select merchant_id, request_id, count(*) as count, min(position) as first, max(position) as last,
               min(alone) as alone
          from asked group by merchant_id, request_id) d
  full join requests r using (merchant_id, request_id)
 where case when d.count is null
            then r.position not between 0 and %(head)s
                 or exists (select from (values ('coupon-', 'coupon_id'), ('batch-', 'batch_id'),
                                                ('template-', 'template_id')) as n (prefix, name)
                             where r.answer is json object and r.answer::json->>name is not null
                               and not exists (select from events e
                                                where e.originator_id = prefix || (r.answer::json->>name)))
            when r.position is null then d.alone = 0 or (d.alone = 1 and d.count > 1)
            else r.position <> d.last or d.last - d.first + 1 <> d.count end
"""

_AFTER_GAP = """
select position from (select position, lag(position) over (order by position) as before
                        from asked where merchant_id = %s and request_id = %s) a
 where position > before + 1 order by position limit 1
"""
