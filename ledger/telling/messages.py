"""Messages to users: what they say is kept once, and a user has a row of a broadcast only after reading it.

A broadcast to ten million users is one row. Which broadcasts a user sees is found out when the user looks: those that
live and were sent after the user joined. They are kept beside the log, and purged some time after their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, tuple_row

from ledger.aggregate import derived_id, text_of
from ledger.application import Ledger
from ledger.beside import once
from ledger.errors import InvalidField, InvalidPeriod, NotFound, Refusal
from ledger.request import Request
from ledger.work import Receipt

BODY_LIMIT = 10_000
NAMED_LIMIT = 1_000
"""Users that one call may name."""
BROADCAST_LIMIT = 500
"""Broadcasts of a merchant that live at once: each user who looks is compared with all of them."""
LIFE_DAYS = 365
"""Of a message whose end nobody named."""
KEPT_DAYS = 30
"""After its end a message is shown to nobody; so long later it is erased."""
PURGE_LIMIT = 5_000
"""Rows of users that one statement erases."""

Connection = psycopg.Connection[Any]


class MessageNotFound(NotFound):
    """No such message."""


class BroadcastLimitReached(Refusal):
    """The merchant has as many messages to all users as may live at once."""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message as an operator sees it."""

    message_no: int
    message_id: str
    kind: str
    to_all: bool
    title: str
    body: str
    sent_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None


# --- writing ----------------------------------------------------------------------------------------


def tell_user(
    connection: Connection,
    merchant_id: str,
    user_ids: Sequence[str],
    *,
    message_key: str,
    title: str,
    body: str,
    kind: str,
    expires_at: datetime | None = None,
) -> int:
    """Give these users a message, in the caller's transaction; how many of them did not have it before.

    What it says is kept once for its key: under a key that is there already, the first content stays. Callers who tell
    several messages in one transaction do so in the order of their keys, for two who bring the same new key wait for
    each other.
    """
    number = _content(connection, merchant_id, message_key, kind, title, body, expires_at, to_all=False)
    cursor = connection.execute(
        "insert into user_messages (merchant_id, user_id, message_no)"
        " select %s, user_id, %s from unnest(%s::text[]) as q (user_id) order by user_id on conflict do nothing",
        (merchant_id, number, list(user_ids)),
        prepare=True,
    )
    return cursor.rowcount


def send(
    ledger: Ledger,
    request: Request,
    *,
    title: str,
    body: str,
    user_ids: Sequence[str] | None,
    expires_at: datetime | None = None,
) -> Receipt:
    """Tell named users, or all of the merchant's when none is named, those who look later too.

    Answers which message it is, without its words: the answer stays when they are erased.
    Raises ``InvalidField``, ``InvalidPeriod``, ``BroadcastLimitReached``.
    """
    if user_ids is not None and not 1 <= len(user_ids) <= NAMED_LIMIT:
        raise InvalidField(f"1 to {NAMED_LIMIT} users are named, or none for all", field="user_ids")
    key = f"sent {request.request_id}"
    answer = {
        "message_id": _message_id(request.merchant_id, key),
        "to_all": user_ids is None,
        "expires_at": text_of(expires_at),
    }

    def write(connection: Connection, _: int) -> None:
        if expires_at is not None and expires_at <= ledger.store.now(connection):
            raise InvalidPeriod("the end is in the past", field="expires_at")
        if user_ids is not None:
            tell_user(
                connection,
                request.merchant_id,
                user_ids,
                message_key=key,
                title=title,
                body=body,
                kind="message",
                expires_at=expires_at,
            )
            return
        # Writers of the log take turns, so nobody sends another one meanwhile.
        live = connection.cursor(row_factory=tuple_row).execute(_COUNT_LIVE, (request.merchant_id,)).fetchall()[0][0]
        if live >= BROADCAST_LIMIT:
            raise BroadcastLimitReached(limit=BROADCAST_LIMIT)
        _content(connection, request.merchant_id, key, "message", title, body, expires_at, to_all=True)

    return once(ledger, request, answer, write)


_COUNT_LIVE = """
select count(*) from messages
 where merchant_id = %s and to_all and withdrawn_at is null and expires_at > clock_timestamp()
"""


def withdraw(ledger: Ledger, request: Request, message_id: str) -> Receipt:
    """Show a message to nobody any more. Raises ``MessageNotFound``."""

    def write(connection: Connection, _: int) -> None:
        found = connection.execute(
            "update messages set withdrawn_at = coalesce(withdrawn_at, clock_timestamp())"
            " where merchant_id = %s and message_id = %s",
            (request.merchant_id, message_id),
        )
        if found.rowcount != 1:
            raise MessageNotFound(id=message_id)

    return once(ledger, request, {"message_id": message_id}, write)


def joined(connection: Connection, merchant_id: str, users: Sequence[tuple[str, datetime]]) -> None:
    """Remember since when users are there: (user id, when). The earliest that was ever said counts, and at most now.

    The clock of whoever says it may go ahead; what is sent from now on is for the user all the same.
    """
    told = {"merchant_id": merchant_id, "users": [user_id for user_id, _ in users], "times": [at for _, at in users]}
    connection.execute(_JOINED, told, prepare=True)


# Nothing is written, and no row locked, where it says nothing new: applications say it with every list.
_JOINED = """
insert into inbox_users as known (merchant_id, user_id, joined_at)
select %(merchant_id)s, user_id, least(min(joined_at), clock_timestamp())
  from unnest(%(users)s::text[], %(times)s::timestamptz[]) as q (user_id, joined_at)
 where not exists (select from inbox_users i
                    where i.merchant_id = %(merchant_id)s and i.user_id = q.user_id and i.joined_at <= q.joined_at)
 group by user_id
 order by user_id
on conflict (merchant_id, user_id) do update set joined_at = least(known.joined_at, excluded.joined_at)
"""


def _content(
    connection: Connection,
    merchant_id: str,
    key: str,
    kind: str,
    title: str,
    body: str,
    expires_at: datetime | None,
    *,
    to_all: bool,
) -> int:
    """The number of the message with this key, which is written if it is not there."""
    message = {
        "merchant_id": merchant_id,
        "key": key,
        "id": _message_id(merchant_id, key),
        "kind": kind,
        "to_all": to_all,
        "title": title,
        "body": body,
        "expires_at": expires_at,
        "life_days": LIFE_DAYS,
    }
    cursor = connection.cursor(row_factory=tuple_row)
    for statement in (_FIND, _WRITE, _FIND):  # somebody else may write it between the first two
        row = cursor.execute(statement, message, prepare=True).fetchone()
        if row is not None:
            return int(row[0])
    raise AssertionError("a message that is there cannot be found")


_FIND = "select message_no from messages where merchant_id = %(merchant_id)s and message_key = %(key)s"

_WRITE = """
insert into messages (merchant_id, message_key, message_id, kind, to_all, title, body, expires_at)
values (%(merchant_id)s, %(key)s, %(id)s, %(kind)s, %(to_all)s, %(title)s, %(body)s,
        coalesce(%(expires_at)s::timestamptz, clock_timestamp() + make_interval(days => %(life_days)s)))
on conflict (merchant_id, message_key) do nothing
returning message_no
"""


def _message_id(merchant_id: str, key: str) -> str:
    return derived_id("message", merchant_id, key)


# --- what operators see, and the end -----------------------------------------------------------------


def sent(connection: Connection, merchant_id: str, *, before: int | None = None, limit: int = 50) -> list[SentMessage]:
    """What operators sent, the newest first, with numbers below ``before``."""
    cursor = connection.cursor(row_factory=class_row(SentMessage))
    return cursor.execute(
        "select message_no, message_id, kind, to_all, title, body, sent_at, expires_at, withdrawn_at from messages"
        " where merchant_id = %s and kind = 'message' and message_no < %s order by message_no desc limit %s",
        (merchant_id, before if before is not None else 2**63 - 1, limit),
        prepare=True,
    ).fetchall()


def purge(connection: Connection) -> int:
    """Erase messages that ended ``KEPT_DAYS`` ago, some at a time; how many rows went. Call it until none does."""
    with connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        ended = [row[0] for row in cursor.execute(_ENDED, (KEPT_DAYS,)).fetchall()]
        rows = cursor.execute(_PURGE_ROWS, {"ended": ended, "limit": PURGE_LIMIT}).rowcount
        if rows < PURGE_LIMIT:
            rows += cursor.execute("delete from messages where message_no = any(%s)", (ended,)).rowcount
    return rows


_ENDED = """
select message_no from messages where expires_at < clock_timestamp() - make_interval(days => %s)
 order by expires_at limit 100 for update skip locked
"""

_PURGE_ROWS = """
delete from user_messages
 where ctid = any(array(select u.ctid from unnest(%(ended)s::bigint[]) as q (message_no)
                         cross join lateral (select u.ctid from user_messages u
                                              where u.message_no = q.message_no limit %(limit)s) u
                         limit %(limit)s))
"""
