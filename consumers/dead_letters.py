"""Dead letters: messages that could have no effect, kept exactly as they came until an operator settles them.

The rows are the truth: one is written in the transaction that moves the consumer past its message. What lies on
``<topic>.dlq`` are copies of them (dead_letter_copies.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from consumers.asked import perform
from consumers.inputs import BusinessTime, actor_of, input_of
from consumers.kept import Record, columns_of, headers_of, kept_detail
from consumers.messages import Undecodable
from ledger.application import Ledger
from ledger.errors import InvalidField, LedgerError, NotFound, Refusal, ServiceError

PAGE_LIMIT = 1_000
MANY_LIMIT = 100_000
"""Letters that one command settles."""
NOTE_LIMIT = 200

TRANSIENT = (ServiceError, psycopg.OperationalError, psycopg.InterfaceError)
"""Errors that pass by themselves: whoever meets one tries the same again, and nothing is dead."""
BROKEN_INSTALLATION = (psycopg.ProgrammingError,)
"""A missing table, function or privilege: no message's fault, and no reason to bury one after the other."""

Connection = psycopg.Connection[Any]


class DeadLetterNotFound(NotFound):
    """No such dead letter."""


class DeadLetterSettled(Refusal):
    """The dead letter was already retried with success or discarded."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message that could have no effect, and what became of it since."""

    id: int
    consumer_group: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    message_time: datetime | None
    """When the producer sent it, by the record's own time."""
    business_time: BusinessTime
    reason: str
    detail: str
    dead_at: datetime
    published_at: datetime | None
    settled_at: datetime | None
    settlement: str | None
    """``retried``, ``discarded``, or ``None`` while it is open."""
    settled_by: str | None
    settlement_note: str | None
    attempts: int


def reason_of(error: Exception) -> tuple[str, str]:
    """Why a message is dead: a stable word, and a sentence."""
    if isinstance(error, Undecodable):
        return error.reason, error.detail
    if isinstance(error, LedgerError):
        return error.code(), error.detail
    first_line = (str(error).strip() or "no message").splitlines()[0]
    return "unexpected_error", f"{type(error).__name__}: {first_line}"


def bury(
    connection: Connection, group: str, business_time: BusinessTime, dead: Iterable[tuple[Record, Exception]]
) -> None:
    """Keep messages with the reason why each is dead, in the connection's transaction."""
    rows = []
    for record, error in dead:
        reason, detail = reason_of(error)
        told = {"group": group, "business_time": business_time, "reason": reason, "detail": kept_detail(detail)}
        rows.append(columns_of(record) | told)
    if rows:
        connection.cursor().executemany(_BURY, rows)


def list_letters(
    connection: Connection,
    *,
    open_only: bool = True,
    topic: str | None = None,
    reason: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[DeadLetter]:
    """Dead letters in the order of their burial, from the id after ``after``; ``limit`` is at most 1,000."""
    rows = connection.execute(
        f"select {_COLUMNS} from dead_letters where id > %(after)s and (settled_at is null or not %(open)s)"  # noqa: S608
        " and (%(topic)s::text is null or topic = %(topic)s) and (%(reason)s::text is null or reason = %(reason)s)"
        " order by id limit %(limit)s",
        {
            "after": after,
            "open": open_only,
            "topic": topic,
            "reason": reason,
            "limit": max(1, min(limit, PAGE_LIMIT)),
        },
    )
    return [_letter(row) for row in rows]


def open_ids(
    connection: Connection, *, topic: str | None = None, reason: str | None = None, limit: int = MANY_LIMIT
) -> tuple[list[int], int]:
    """Ids of open letters in the order of their burial, and how many there are beyond the ``limit`` too."""
    told = {"topic": topic, "reason": reason, "limit": max(1, min(limit, MANY_LIMIT))}
    rows = connection.execute(_OPEN_IDS, told).fetchall()
    return [row["id"] for row in rows], rows[0]["count"] if rows else 0


def show(connection: Connection, id: int) -> DeadLetter:
    """One dead letter. Raises ``DeadLetterNotFound``."""
    return _find(connection, id, "")


def retry(ledger: Ledger, id: int, *, actor: str) -> DeadLetter:
    """Perform the message again, as its consumer would; the letter is settled in the transaction of the effect.

    Where the message still can have no effect, the letter stays open with the newest reason and one more attempt.
    Raises ``DeadLetterNotFound``, ``DeadLetterSettled`` or a ``ServiceError``.
    """
    with ledger.store.connection() as connection, connection.transaction():
        letter = _open(connection, id)
        try:
            with connection.transaction():
                _perform(ledger, connection, letter)
        except TRANSIENT + BROKEN_INSTALLATION:
            raise
        except Exception as error:  # whatever else happens is why the letter stays dead
            reason, detail = reason_of(error)
            connection.execute(_STILL_DEAD, {"id": id, "reason": reason, "detail": kept_detail(detail)})
        else:
            connection.execute(_SETTLE, {"id": id, "how": "retried", "actor": actor, "note": None, "attempts": 1})
        return show(connection, id)


def discard(ledger: Ledger, id: int, *, actor: str, note: str) -> DeadLetter:
    """Settle a letter without any effect; the note says why (1 to 200 characters).

    Raises ``DeadLetterNotFound``, ``DeadLetterSettled`` or ``InvalidField``.
    """
    if not 1 <= len(note) <= NOTE_LIMIT or not note.isprintable():
        raise InvalidField(f"a note is 1 to {NOTE_LIMIT} printable characters", field="note")
    with ledger.store.connection() as connection, connection.transaction():
        _open(connection, id)
        connection.execute(_SETTLE, {"id": id, "how": "discarded", "actor": actor, "note": note, "attempts": 0})
        return show(connection, id)


def unpublished(connection: Connection, group: str, topic: str, limit: int) -> list[DeadLetter]:
    """Letters of a group and topic without a copy, which stay locked until the connection's transaction ends."""
    rows = connection.execute(
        f"select {_COLUMNS} from dead_letters where consumer_group = %s and topic = %s and published_at is null"  # noqa: S608
        " order by id limit %s for update skip locked",
        (group, topic, limit),
    )
    return [_letter(row) for row in rows]


def mark_published(connection: Connection, ids: Sequence[int]) -> None:
    """Note that the copies of these letters are acknowledged."""
    connection.execute("update dead_letters set published_at = clock_timestamp() where id = any(%s)", (list(ids),))


def _perform(ledger: Ledger, connection: Connection, letter: DeadLetter) -> None:
    asked = input_of(letter.topic).asked(
        letter, actor_of(letter.consumer_group), letter.business_time, ledger.store.now(connection)
    )
    result = perform(ledger, connection, [asked])[0]
    if isinstance(result, Refusal):
        raise result


def _open(connection: Connection, id: int) -> DeadLetter:
    letter = _find(connection, id, "for update")
    if letter.settled_at is not None:
        raise DeadLetterSettled(f"dead letter {id} was {letter.settlement} by {letter.settled_by}", id=id)
    return letter


def _find(connection: Connection, id: int, lock: str) -> DeadLetter:
    row = connection.execute(
        f"select {_COLUMNS} from dead_letters where id = %s {lock}",  # noqa: S608
        (id,),
    ).fetchone()
    if row is None:
        raise DeadLetterNotFound(f"no dead letter has the id {id}", id=id)
    return _letter(row)


def _letter(row: dict[str, Any]) -> DeadLetter:
    return DeadLetter(**row | {"headers": headers_of(row["headers"])})


_COLUMNS = (
    'id, consumer_group, topic, partition, "offset", key, value, headers, message_time, business_time, reason, detail,'
    " dead_at, published_at, settled_at, settlement, settled_by, settlement_note, attempts"
)

_OPEN_IDS = """
select id, count(*) over ()::int as count
  from dead_letters
 where settled_at is null
   and (%(topic)s::text is null or topic = %(topic)s) and (%(reason)s::text is null or reason = %(reason)s)
 order by id limit %(limit)s
"""

_BURY = """
insert into dead_letters (consumer_group, topic, partition, "offset", key, value, headers, message_time,
                          business_time, reason, detail)
values (%(group)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(value)s, %(headers)s, %(message_time)s,
        %(business_time)s, %(reason)s, %(detail)s)
on conflict do nothing
"""

_SETTLE = """
update dead_letters
   set settled_at = clock_timestamp(), settlement = %(how)s, settled_by = %(actor)s, settlement_note = %(note)s,
       attempts = attempts + %(attempts)s
 where id = %(id)s
"""

_STILL_DEAD = """
update dead_letters set reason = %(reason)s, detail = %(detail)s, attempts = attempts + 1 where id = %(id)s
"""
