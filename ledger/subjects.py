"""Notes on users, kept so that they can be erased from a log that forgets nothing (docs/adr/0024-personal-data.md).

A note is encrypted with a data key of the user's own. The row of that key is locked before the log is written, by who
notes and by who erases, so that no note is acknowledged under a key that is already destroyed.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import psycopg
from cryptography.exceptions import InvalidTag
from psycopg.rows import tuple_row

from ledger.aggregate import Aggregate, derived_id, text_of
from ledger.application import Ledger
from ledger.commit import Unit
from ledger.errors import InvalidField, Refusal, Unavailable
from ledger.events import SubjectErased, SubjectNoted
from ledger.personal_keys import PersonalKeys, new_data_key, seal, unseal
from ledger.request import Request
from ledger.use_cases.checks import check_id, unit_of
from ledger.work import Loaded, Receipt, Work, fold

NOTE_LIMIT = 1_000
"""Characters of a note."""
NOTES_LIMIT = 1_000
"""Notes on one user, for all of them are read at once."""
KEY_ATTEMPTS = 3
"""How often a key is made that an erasure destroys before it is locked."""
REWRAP_LIMIT = 1_000
"""Data keys that one transaction wraps anew."""

Connection = psycopg.Connection[Any]


class NotesLimitReached(Refusal):
    """There are as many notes on the user as may be."""


class Subject(Aggregate):
    """One user's notes, as the log has them."""

    category = "subject"
    erased: SubjectErased | None = None

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.notes: list[SubjectNoted] = []

    def is_erased(self, note: SubjectNoted) -> bool:
        """Whether the key of this note was destroyed."""
        return self.erased is not None and note.originator_version < self.erased.originator_version


class Note(NamedTuple):
    """A note as a reader sees it."""

    note_id: str
    noted_at: datetime
    actor: str
    state: Literal["readable", "sealed", "erased"]
    """``sealed`` for who may not read it."""
    text: str | None
    ciphertext: str


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did."""

    receipt: Receipt
    counts: dict[str, int]
    """Rows that were erased, by what they were."""


def subject_stream(merchant_id: str, user_id: str) -> str:
    """The stream of one user's notes."""
    return f"subject-{derived_id('subject', merchant_id, user_id)}"


def note(ledger: Ledger, keys: PersonalKeys, request: Request, user_id: str, text: str) -> Receipt:
    """Keep a note on a user. Answers ``note_id`` and ``user_id``, and never the text.

    Raises ``InvalidField``, ``NotesLimitReached``, and ``Unavailable`` where a server key is missing or wrong.
    """
    check_id("user_id", user_id)
    if not 1 <= len(text) <= NOTE_LIMIT:
        raise InvalidField(f"text has 1 to {NOTE_LIMIT} characters", field="text")
    merchant_id, stream = request.merchant_id, subject_stream(request.merchant_id, user_id)
    note_id = derived_id("note", merchant_id, request.request_id)

    def attempt(connection: Connection) -> Receipt:
        with connection.transaction():
            data_key = _data_key(connection, keys, merchant_id, user_id)
            # The text can be guessed from a plain digest of the request, which stays when the key has gone.
            digest = hmac.digest(data_key, request.body_hash.encode(), "sha256").hex()
            asked = replace(request, body_hash=digest)

            def decide(loaded: Loaded) -> Unit:
                subject = _subject(loaded, stream)
                if sum(not subject.is_erased(each) for each in subject.notes) >= NOTES_LIMIT:
                    raise NotesLimitReached(limit=NOTES_LIMIT)
                sealed = seal(data_key, text.encode(), _about(stream, subject.version + 1))
                ciphertext = base64.b64encode(sealed).decode()
                subject.trigger(
                    SubjectNoted, asked, loaded.now, user_id=user_id, note_id=note_id, ciphertext=ciphertext
                )
                return unit_of(asked, {"note_id": note_id, "user_id": user_id}, subject)

            (result,) = ledger.do_all([Work(asked, (stream,), decide)], connection)
            if isinstance(result, Refusal):
                raise result
        return result

    return ledger.store.retrying(attempt)


def notes(ledger: Ledger, keys: PersonalKeys | None, merchant_id: str, user_id: str) -> Sequence[Note]:
    """The notes on a user, the oldest first; without keys, for who may not read them.

    Raises ``Unavailable`` where a server key is missing or wrong, or a note is not as it was kept.
    """
    stream = subject_stream(merchant_id, user_id)
    # Events before the key: an erasure between the two leaves notes without a key, and never the other way round.
    subject = fold(Subject(stream), ledger.store.load([stream]).streams[stream])
    with ledger.store.connection() as connection:
        row = _stored_key(connection, merchant_id, user_id)
    data_key = keys.unwrap(row[0], row[1], stream) if keys is not None and row is not None else None
    return [_shown(subject, each, data_key, there=row is not None) for each in subject.notes]


def erase(ledger: Ledger, merchant_id: str, actor: str, user_id: str, request_id: str) -> Erased:
    """Destroy the user's data key, address, messages and what waits to be sent to the user, and record that.

    All of it in one transaction. Where nothing is left to erase it changes nothing. Answers ``user_id`` and
    ``erased_at``. ``request_id`` is new for each call. Raises ``InvalidField``.
    """
    check_id("merchant_id", merchant_id)
    check_id("user_id", user_id)
    stream = subject_stream(merchant_id, user_id)
    request = Request(merchant_id, actor, request_id)
    whose = {"merchant_id": merchant_id, "user_id": user_id}

    def attempt(connection: Connection) -> Erased:
        with connection.transaction():
            counts = {"keys": connection.execute(_DESTROY_KEY, whose).rowcount}
            there = any(row[0] for row in connection.cursor(row_factory=tuple_row).execute(_ANYTHING, whose))

            def decide(loaded: Loaded) -> Unit | Receipt:
                subject = _subject(loaded, stream)
                last = subject.erased
                # What is noted after an erasure has a key of its own, which is then among what is there.
                if last is None or counts["keys"] or there:
                    subject.trigger(SubjectErased, request, loaded.now, user_id=user_id)
                    return unit_of(request, _erased(user_id, loaded.now), subject)
                return Receipt(_erased(user_id, last.occurred_at), 0, replayed=True)

            (result,) = ledger.do_all([Work(request, (stream,), decide)], connection)
            if isinstance(result, Refusal):
                raise result
            # Writers of the log take turns, so no message is told to the user meanwhile.
            for name, statement in _ERASURES.items():
                counts[name] = connection.execute(statement, whose).rowcount
        return Erased(result, counts)

    return ledger.store.retrying(attempt)


def rewrap(ledger: Ledger, keys: PersonalKeys) -> int:
    """Wrap every data key with the newest server key, so that the others may go; how many were wrapped anew.

    Raises ``Unavailable`` where a server key is missing or wrong.
    """
    done = 0
    while True:
        with ledger.store.connection() as connection, connection.transaction():
            rows = (
                connection.cursor(row_factory=tuple_row).execute(_OLD_KEYS, (keys.newest_id, REWRAP_LIMIT)).fetchall()
            )
            for merchant_id, user_id, key_id, wrapped in rows:
                owner = subject_stream(merchant_id, user_id)
                anew = keys.wrap(keys.unwrap(key_id, bytes(wrapped), owner), owner)
                connection.execute(_REWRAP, (keys.newest_id, anew, merchant_id, user_id))
        if not rows:
            return done
        done += len(rows)


# --- inside -----------------------------------------------------------------------------------------


def _subject(loaded: Loaded, stream: str) -> Subject:
    return fold(Subject(stream), loaded.streams.get(stream, ()))


def _about(stream: str, version: int) -> str:
    """What a note's ciphertext is bound to, so that none can stand in another's place."""
    return f"{stream}\n{version}"


def _erased(user_id: str, erased_at: datetime) -> dict[str, Any]:
    return {"user_id": user_id, "erased_at": text_of(erased_at)}


def _data_key(connection: Connection, keys: PersonalKeys, merchant_id: str, user_id: str) -> bytes:
    """The user's data key, made at the first time, which nobody destroys before the transaction ends."""
    owner = subject_stream(merchant_id, user_id)
    new = (merchant_id, user_id, keys.newest_id, keys.wrap(new_data_key(), owner))
    for _ in range(KEY_ATTEMPTS):
        connection.execute(_MAKE_KEY, new)
        row = _stored_key(connection, merchant_id, user_id, lock=True)
        if row is not None:
            return keys.unwrap(row[0], row[1], owner)
    raise Unavailable("the user's personal data is being erased")


def _stored_key(
    connection: Connection, merchant_id: str, user_id: str, *, lock: bool = False
) -> tuple[str, bytes] | None:
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(_FIND_KEY_LOCKED if lock else _FIND_KEY, (merchant_id, user_id)).fetchone()
    return None if row is None else (row[0], bytes(row[1]))


def _shown(subject: Subject, event: SubjectNoted, data_key: bytes | None, *, there: bool) -> Note:
    state: Literal["readable", "sealed", "erased"] = "sealed" if data_key is None else "readable"
    text = None
    if subject.is_erased(event) or not there:
        state = "erased"
    elif data_key is not None:
        about = _about(subject.id, event.originator_version)
        try:
            text = unseal(data_key, base64.b64decode(event.ciphertext), about).decode()
        except InvalidTag:
            raise Unavailable("a note is not what was kept under the user's key") from None
    return Note(event.note_id, event.occurred_at, event.actor, state, text, event.ciphertext)


_MAKE_KEY = """
insert into subject_keys (merchant_id, user_id, key_id, wrapped) values (%s, %s, %s, %s) on conflict do nothing
"""
_FIND_KEY = "select key_id, wrapped from subject_keys where merchant_id = %s and user_id = %s"
_FIND_KEY_LOCKED = "select key_id, wrapped from subject_keys where merchant_id = %s and user_id = %s for share"
_DESTROY_KEY = "delete from subject_keys where merchant_id = %(merchant_id)s and user_id = %(user_id)s"
_OLD_KEYS = """
select merchant_id, user_id, key_id, wrapped from subject_keys
 where key_id <> %s order by merchant_id, user_id limit %s for update
"""
_REWRAP = "update subject_keys set key_id = %s, wrapped = %s where merchant_id = %s and user_id = %s"

_ANYTHING = """
select exists (select from contacts where merchant_id = %(merchant_id)s and user_id = %(user_id)s)
    or exists (select from user_messages where merchant_id = %(merchant_id)s and user_id = %(user_id)s)
    or exists (select from inbox_users where merchant_id = %(merchant_id)s and user_id = %(user_id)s)
    or exists (select from deliveries where merchant_id = %(merchant_id)s and user_id = %(user_id)s)
"""

# A message to this user alone loses its words; its key stays, so that the request which sent it does so once. What was
# told to others too is about all of them. A delivery that is on its way is not held up: at most one more is sent.
_ERASURES = {
    "messages": """
        update messages m set title = '-', body = '', withdrawn_at = coalesce(m.withdrawn_at, clock_timestamp())
         where not m.to_all and m.message_no in (select u.message_no from user_messages u
                                                  where u.merchant_id = %(merchant_id)s and u.user_id = %(user_id)s)
           and not exists (select from user_messages o
                            where o.message_no = m.message_no
                              and (o.merchant_id, o.user_id) <> (%(merchant_id)s, %(user_id)s))
    """,
    "inbox": "delete from user_messages where merchant_id = %(merchant_id)s and user_id = %(user_id)s",
    "joined": "delete from inbox_users where merchant_id = %(merchant_id)s and user_id = %(user_id)s",
    "contacts": "delete from contacts where merchant_id = %(merchant_id)s and user_id = %(user_id)s",
    "deliveries": """
        update deliveries
           set body = null, error = null, user_id = null,
               state = case when state = 'sent' then state else 'dropped' end,
               settled_at = coalesce(settled_at, clock_timestamp())
         where merchant_id = %(merchant_id)s and user_id = %(user_id)s
    """,
}
