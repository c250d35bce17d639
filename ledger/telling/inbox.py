"""A user's inbox: what is in it is found out when the user looks, and a broadcast's row is written when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ledger.telling.messages import joined

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a user has it."""

    message_no: int
    message_id: str
    kind: str
    title: str
    body: str
    sent_at: datetime
    expires_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a user's messages, the newest first."""

    messages: list[Message]
    unread: int
    """Of all the user's messages, not only of these."""


def inbox(
    connection: Connection,
    merchant_id: str,
    user_id: str,
    *,
    joined_at: datetime | None = None,
    unread_only: bool = False,
    before: int | None = None,
    limit: int = 50,
) -> Page:
    """A user's messages with numbers below ``before``, and how many of all are unread.

    ``joined_at`` is remembered, unless an earlier one is known already; one that lies ahead counts as now. Of a user
    whose time nobody told, every broadcast that lives counts.
    """
    if joined_at is not None:
        joined(connection, merchant_id, [(user_id, joined_at)])
    asked = {
        "merchant_id": merchant_id,
        "user_id": user_id,
        "unread_only": unread_only,
        "before": before if before is not None else 2**63 - 1,
        "limit": limit,
    }
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute(_INBOX, asked, prepare=True).fetchall()
    return Page([Message(*row[1:]) for row in rows if row[1] is not None], rows[0][0])


# Each look-up is lateral, so that a plan made while the tables were small never reads the whole of them.
_INBOX = """
with own as materialized (
    select u.message_no, u.read_at
      from (select * from user_messages
             where merchant_id = %(merchant_id)s and user_id = %(user_id)s and message_no < %(before)s
               and (read_at is null or not %(unread_only)s)
             order by message_no desc) u
     cross join lateral (select from messages m
                          where m.message_no = u.message_no and m.withdrawn_at is null
                            and m.expires_at > clock_timestamp() limit 1) m
     order by u.message_no desc limit %(limit)s
), broadcasts as materialized (
    select m.message_no, null::timestamptz as read_at
      from messages m
     where m.merchant_id = %(merchant_id)s and m.to_all and m.withdrawn_at is null
       and m.expires_at > clock_timestamp()
       and m.sent_at >= coalesce((select i.joined_at from inbox_users i
                                   where i.merchant_id = %(merchant_id)s and i.user_id = %(user_id)s), '-infinity')
       and not exists (select from user_messages u
                        where u.merchant_id = %(merchant_id)s and u.user_id = %(user_id)s
                          and u.message_no = m.message_no)
), unread as (
    select (select count(*) from broadcasts)
           + (select count(*)
                from (select message_no from user_messages
                       where merchant_id = %(merchant_id)s and user_id = %(user_id)s and read_at is null) u
               cross join lateral (select from messages m
                                    where m.message_no = u.message_no and m.withdrawn_at is null
                                      and m.expires_at > clock_timestamp() limit 1) m) as count
)
select unread.count, page.*
  from unread
  left join (select m.message_no, m.message_id, m.kind, m.title, m.body, m.sent_at, m.expires_at, p.read_at
               from (select * from own
                      union all
                     select * from broadcasts where message_no < %(before)s
                      order by message_no desc limit %(limit)s) p
              cross join lateral (select * from messages m where m.message_no = p.message_no limit 1) m) page on true
 order by page.message_no desc
"""


def mark_read(connection: Connection, merchant_id: str, user_id: str, message_ids: Sequence[str] | None = None) -> int:
    """Mark messages as read, all that the user has when none is named; how many were unread until now.

    What is no message of the user counts for nothing. That it was read stays as it was first said.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    ids = list(message_ids) if message_ids is not None else None
    asked = {"merchant_id": merchant_id, "user_id": user_id, "ids": ids}
    with connection.transaction():
        own = cursor.execute(_READ_OWN, asked, prepare=True).rowcount
        return own + cursor.execute(_READ_BROADCASTS, asked, prepare=True).rowcount


# Only what is shown is marked: an id of a withdrawn message is as good as an unknown one.
_READ_OWN = """
update user_messages u set read_at = clock_timestamp()
  from (select u.message_no from user_messages u
         cross join lateral (select m.message_id from messages m
                              where m.message_no = u.message_no and m.withdrawn_at is null
                                and m.expires_at > clock_timestamp() limit 1) m
         where u.merchant_id = %(merchant_id)s and u.user_id = %(user_id)s and u.read_at is null
           and (%(ids)s::text[] is null or m.message_id = any(%(ids)s))
         order by u.message_no for update of u) q
 where u.merchant_id = %(merchant_id)s and u.user_id = %(user_id)s and u.message_no = q.message_no
"""

_READ_BROADCASTS = """
insert into user_messages (merchant_id, user_id, message_no, read_at)
select %(merchant_id)s, %(user_id)s, m.message_no, clock_timestamp()
  from messages m
 where m.merchant_id = %(merchant_id)s and m.to_all and m.withdrawn_at is null and m.expires_at > clock_timestamp()
   and m.sent_at >= coalesce((select i.joined_at from inbox_users i
                               where i.merchant_id = %(merchant_id)s and i.user_id = %(user_id)s), '-infinity')
   and (%(ids)s::text[] is null or m.message_id = any(%(ids)s))
   and not exists (select from user_messages u
                    where u.merchant_id = %(merchant_id)s and u.user_id = %(user_id)s and u.message_no = m.message_no)
 order by m.message_no
on conflict do nothing
"""
