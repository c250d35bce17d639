"""Telling users of what is due: each reminder once, and only what still holds when it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from ledger.aggregate import derived_id, text_of
from ledger.application import Ledger
from ledger.batch import Batch
from ledger.calendar import day_close, local_day
from ledger.coupon import Coupon
from ledger.events import Event
from ledger.telling.channels import wanting
from ledger.telling.deliveries import Delivery, enqueue
from ledger.telling.messages import tell_user
from ledger.template import Template
from ledger.use_cases.checks import coupon_streams
from ledger.use_cases.claim_reminders import ClaimReminder, claim_reminder_stream
from ledger.work import Receipt, fold

NEWS_DAYS = 7
"""For so long it is news that claims have opened. Nobody is told later, however late the message comes."""
NAME_LIMIT = 150
INSTANT = timedelta(microseconds=1)

Connection = psycopg.Connection[Any]
ReminderType = Literal["expiry", "claim_opens"]
Streams = Mapping[str, Sequence[Event]]


class Due(NamedTuple):
    """A reminder whose time has come."""

    merchant_id: str
    user_id: str
    batch_id: str
    day: date
    type: ReminderType
    ends_at: datetime
    """When the last of its coupons ends; of ``claim_opens``, when it was due."""
    coupon_ids: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The same for every message of it: a user is told once of a batch, day and type."""
        return derived_id("reminder", self.merchant_id, self.user_id, self.batch_id, str(self.day), self.type)

    @property
    def streams(self) -> tuple[str, ...]:
        """What must be looked at again."""
        if self.type == "expiry":
            return (f"batch-{self.batch_id}", *coupon_streams(self.coupon_ids))
        return f"batch-{self.batch_id}", claim_reminder_stream(self.merchant_id, self.batch_id, self.user_id)


class News(NamedTuple):
    """What many users are told in the same words, in the order in which it is kept."""

    merchant_id: str
    key: str
    """Of the message, unique within the merchant."""
    title: str
    text: str
    over_at: datetime


def tell(ledger: Ledger, connection: Connection, due: Sequence[Due]) -> list[Receipt | None]:
    """Tell users in the connection's transaction: in their inbox, and on the merchant's channels that want reminders.

    ``None`` where what it was about is over, a replayed receipt where the user was told before.
    """
    now = ledger.store.now(connection)
    streams = ledger.store.load([stream for each in due for stream in each.streams], (), connection).streams
    templates = {_template_stream(_batch(each, streams)) for each in due if streams[f"batch-{each.batch_id}"]}
    streams = {**streams, **ledger.store.load(sorted(templates), (), connection).streams}
    news = {each: found for each in due if (found := _news(each, streams, now)) is not None}
    new = _first_time(connection, list(news))
    told: dict[News, list[Due]] = defaultdict(list)
    for each in new:
        told[news[each]].append(each)
    for what in sorted(told):
        users = [each.user_id for each in told[what]]
        tell_user(
            connection,
            what.merchant_id,
            users,
            message_key=what.key,
            title=what.title,
            body=what.text,
            kind="reminder",
            expires_at=what.over_at,
        )
    _enqueue(connection, told)
    receipts: list[Receipt | None] = []
    for each in due:
        receipts.append(Receipt({}, 0, replayed=each not in new) if each in news else None)
        new.discard(each)  # the same one again in this poll is a repeat
    return receipts


def _news(due: Due, streams: Streams, now: datetime) -> News | None:
    batch = _batch(due, streams)
    if not batch.version or batch.merchant_id != due.merchant_id:
        return None
    return _expiry(due, batch, streams, now) if due.type == "expiry" else _opening(due, batch, streams, now)


def _batch(due: Due, streams: Streams) -> Batch:
    stream = f"batch-{due.batch_id}"
    return fold(Batch(stream), streams[stream])


def _template_stream(batch: Batch) -> str:
    return f"template-{batch.created.template_id}"


def _time_zone(batch: Batch, streams: Streams) -> str:
    """Of the terms that the batch pinned. Their clock decided when the reminder is due, so it names the day too."""
    stream = _template_stream(batch)
    time_zone: str = fold(Template(stream), streams[stream][: batch.created.template_version]).terms["time_zone"]
    return time_zone


def _expiry(due: Due, batch: Batch, streams: Streams, now: datetime) -> News | None:
    """The first of its coupons to end. A coupon that an order holds may yet come back, so it counts."""
    ends = []
    for stream in coupon_streams(due.coupon_ids):
        coupon = fold(Coupon(stream), streams[stream])
        mine = coupon.version and (coupon.merchant_id, coupon.user_id) == (due.merchant_id, due.user_id)
        # One that ends later than the message knew was extended since, and will be told of by another.
        if mine and now < coupon.valid_until <= due.ends_at and not _is_over(coupon, now):
            ends.append(coupon.valid_until)
    if not ends:
        return None
    name, time_zone = _short(batch.created.name), _time_zone(batch, streams)
    last_day = local_day(min(ends) - INSTANT, time_zone)
    key = f"reminder expiry {due.batch_id} {due.day} {last_day}"
    text = f"You have a coupon of “{name}” that you have not used yet. {last_day} is the last day to use it."
    return News(due.merchant_id, key, f"“{name}” ends on {last_day}", text, day_close(min(ends), time_zone))


def _short(name: str) -> str:
    """As much of a batch's name as fits into a title."""
    return name if len(name) <= NAME_LIMIT else f"{name[: NAME_LIMIT - 1]}…"


def _is_over(coupon: Coupon, now: datetime) -> bool:
    return coupon.state_at(now) not in ("PENDING", "UNUSED", "LOCKED")


def _opening(due: Due, batch: Batch, streams: Streams, now: datetime) -> News | None:
    """That claims are open, if they are, and the user still wants to hear of it."""
    claim_from = batch.created.claim_from
    wish = claim_reminder_stream(due.merchant_id, due.batch_id, due.user_id)
    wanted = fold(ClaimReminder(wish), streams[wish]).wanted
    if claim_from is None or not claim_from <= now < due.ends_at + timedelta(days=NEWS_DAYS):
        return None
    if not wanted or batch.state_at(now) != "RUNNING":
        return None
    name, until = _short(batch.created.name), batch.created.claim_until
    key = f"reminder claim_opens {due.batch_id} {due.day}"
    over_at = until or claim_from + timedelta(days=NEWS_DAYS + 1)
    return News(due.merchant_id, key, f"“{name}” is open", f"You can claim a coupon of “{name}” now.", over_at)


def _first_time(connection: Connection, due: Sequence[Due]) -> set[Due]:
    """Those of which nobody was told before; from this transaction on, they were."""
    by_id = {each.id: each for each in due}
    cursor = connection.cursor(row_factory=tuple_row)
    ids = sorted(by_id)
    rows = cursor.execute(_FIRST_TIME, (ids, [by_id[id].ends_at for id in ids]), prepare=True)
    return {by_id[id] for (id,) in rows}


def _enqueue(connection: Connection, told: Mapping[News, Sequence[Due]]) -> None:
    channels = {each: wanting(connection, each, "reminder") for each in {what.merchant_id for what in told}}
    deliveries = [
        Delivery(
            key=f"reminder {each.id} {channel.channel_id}",
            channel_id=channel.channel_id,
            merchant_id=each.merchant_id,
            type="reminder",
            body={
                "title": what.title,
                "text": what.text,
                "reminder": each.type,
                "user_id": each.user_id,
                "batch_id": each.batch_id,
                "notify_day": str(each.day),
                "ends_at": text_of(each.ends_at),
                "coupon_ids": list(each.coupon_ids),
            },
            user_id=each.user_id,
        )
        for what, dues in told.items()
        for each in dues
        for channel in channels[each.merchant_id]
    ]
    enqueue(connection, deliveries)


_FIRST_TIME = """
insert into reminders_told (reminder_id, ends_at)
select * from unnest(%s::text[], %s::timestamptz[]) as q (reminder_id, ends_at) order by reminder_id
on conflict do nothing returning reminder_id
"""
