"""The tables of redemption codes (migrations/0010): sets, keyed hashes, and the misses of those who guess."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, tuple_row

MISS_WINDOW_SECONDS = 900
USER_MISSES = 10
"""Wrong codes of one user, asked for with one API key, in a window."""
ADDRESS_MISSES = 100
"""Wrong codes from one address in a window: households and offices share theirs."""
EXPORT_WINDOW_SECONDS = 86_400
"""From the first download of a set's codes on, for repeats of one that broke."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class CodeSet:
    """A set of codes as the tables have it."""

    codes_id: str
    merchant_id: str
    batch_id: str
    kind: str
    count: int
    stored: int
    key_id: str
    salt: bytes | None
    first_export_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundCode:
    """A code that is in the tables, and what the log said of its set at that moment."""

    codes_id: str
    batch_id: str
    kind: str
    code_hash: bytes
    topics: list[str]
    """Of the set's stream, in order."""

    @property
    def is_unique(self) -> bool:
        """Whether it is good for one coupon."""
        return self.kind != "generic"


# --- sets -------------------------------------------------------------------------------------------


def begin_set(connection: Connection, new: CodeSet) -> bool:
    """Write the set's row; ``False`` where a request with the same key has begun it before."""
    cursor = connection.execute(
        "insert into code_sets (codes_id, merchant_id, batch_id, kind, count, stored, key_id, salt)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (codes_id) do nothing",
        (new.codes_id, new.merchant_id, new.batch_id, new.kind, new.count, new.stored, new.key_id, new.salt),
    )
    return cursor.rowcount == 1


def find_set(connection: Connection, codes_id: str, *, for_update: bool = False) -> CodeSet | None:
    """A set's row; ``for_update`` keeps others from going on with the same set meanwhile."""
    cursor = connection.cursor(row_factory=class_row(CodeSet))
    statement = "select * from code_sets where codes_id = %s"
    return cursor.execute(statement + " for update" if for_update else statement, (codes_id,)).fetchone()


def add_hashes(connection: Connection, merchant_id: str, codes_id: str, hashes: Iterable[bytes]) -> None:
    """Put codes' hashes into the table. Raises ``UniqueViolation`` where a code is there already."""
    with connection.cursor().copy("copy codes (merchant_id, code_hash, codes_id) from stdin (format binary)") as copy:
        copy.set_types(["text", "bytea", "text"])
        for code_hash in hashes:
            copy.write_row((merchant_id, code_hash, codes_id))


def set_stored(connection: Connection, codes_id: str, stored: int) -> None:
    """Say how many of the set's codes are in the table."""
    connection.execute("update code_sets set stored = %s where codes_id = %s", (stored, codes_id))


_BEGIN_EXPORT = """
update code_sets set first_export_at = coalesce(first_export_at, clock_timestamp())
 where codes_id = %s
returning clock_timestamp() < first_export_at + make_interval(secs => %s)
"""


def begin_export(connection: Connection, codes_id: str) -> bool:
    """Say that the set's codes are read; ``False`` where the time since the first of such is over."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(_BEGIN_EXPORT, (codes_id, EXPORT_WINDOW_SECONDS)).fetchone()
    return row is not None and row[0]


def erase_salt(connection: Connection, codes_id: str) -> None:
    """From now on nobody can make the set's codes again."""
    connection.execute("update code_sets set salt = null where codes_id = %s", (codes_id,))


def begun(connection: Connection, streams: Sequence[str]) -> set[str]:
    """Those of these streams that the log has."""
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute(
        "select q.stream from unnest(%s::text[]) as q (stream) cross join lateral"
        " (select from events e where e.originator_id = q.stream and e.originator_version = 1 limit 1) e",
        (list(streams),),
    )
    return {row[0] for row in rows}


def release(connection: Connection, merchant_id: str, found: Sequence[FoundCode]) -> None:
    """Let go of these codes, where they still are in the revoked set in which they were found (migrations/0018)."""
    connection.execute(
        "select release_codes(%s, %s::bytea[], %s::text[])",
        (merchant_id, [code.code_hash for code in found], [code.codes_id for code in found]),
    )


# --- one code ---------------------------------------------------------------------------------------

# Each look-up is lateral, so that a plan made while the tables were small never reads the whole of them.
_KNOWN = """
select s.codes_id, s.batch_id, s.kind, c.code_hash,
       array(select e.topic from events e where e.originator_id = 'codes-' || s.codes_id
              order by e.originator_version) as topics
  from unnest(%(hashes)s::bytea[]) as q (code_hash)
 cross join lateral (select * from codes c
                      where c.merchant_id = %(merchant_id)s and c.code_hash = q.code_hash limit 1) c
 cross join lateral (select * from code_sets s where s.codes_id = c.codes_id limit 1) s
"""
_LOOK_UP = f"{_KNOWN} limit 1"


def look_up(connection: Connection, merchant_id: str, hashes: Sequence[bytes]) -> FoundCode | None:
    """The code that has one of these hashes. A set whose making was cut off is not there yet."""
    cursor = connection.cursor(row_factory=class_row(FoundCode))
    found = cursor.execute(_LOOK_UP, {"merchant_id": merchant_id, "hashes": list(hashes)}, prepare=True).fetchone()
    return found if found is not None and found.topics else None


def known(connection: Connection, merchant_id: str, hashes: Sequence[bytes]) -> list[FoundCode]:
    """The merchant's codes that have one of these hashes, also of sets whose making was cut off."""
    cursor = connection.cursor(row_factory=class_row(FoundCode))
    return cursor.execute(_KNOWN, {"merchant_id": merchant_id, "hashes": list(hashes)}).fetchall()


# --- misses -----------------------------------------------------------------------------------------


def blocked_until(connection: Connection, limits: Sequence[tuple[bytes, int]]) -> tuple[datetime, datetime] | None:
    """(Now, when the last of them may try again), where one of (who, most misses) has missed that often."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(
        "select clock_timestamp(), max(window_ends_at) from unnest(%s::bytea[], %s::int[]) as q (who, most)"
        " cross join lateral (select * from code_misses m where m.who = q.who and m.misses >= q.most"
        " and m.window_ends_at > clock_timestamp() limit 1) m",
        ([who for who, _ in limits], [most for _, most in limits]),
        prepare=True,
    ).fetchone()
    assert row is not None
    return (row[0], row[1]) if row[1] is not None else None


_COUNT_MISS = """
insert into code_misses as m (who, misses, window_ends_at)
select who, 1, clock_timestamp() + make_interval(secs => %(seconds)s) from unnest(%(whos)s::bytea[]) as q (who)
 order by who  -- so that callers who miss at once never wait for each other in a circle
on conflict (who) do update
   set misses = case when m.window_ends_at > clock_timestamp() then m.misses + 1 else 1 end,
       window_ends_at = case when m.window_ends_at > clock_timestamp() then m.window_ends_at
                             else excluded.window_ends_at end
"""

_SWEEP = """
delete from code_misses
 where who in (select who from code_misses where window_ends_at < clock_timestamp()
                order by window_ends_at limit 4 for update skip locked)
"""


def count_miss(connection: Connection, whos: Sequence[bytes]) -> None:
    """One more miss of each, and a few rows of windows that ended are swept away, so that the table stays small.

    It is not waited for on the disk: after a crash of the server, the last moment's misses are forgotten.
    """
    with connection.transaction():
        connection.execute("set local synchronous_commit = off")
        connection.execute(_COUNT_MISS, {"whos": list(whos), "seconds": MISS_WINDOW_SECONDS}, prepare=True)
        connection.execute(_SWEEP, prepare=True)


# --- coupons by the beginning of their ids -------------------------------------------------------------

_BEGINNING = """
select originator_id from events
 where originator_id >= %(beginning)s and originator_id < %(beginning)s || 'g'  -- after every hexadecimal digit
   and originator_version = 1 and starts_with(originator_id, %(beginning)s)
 limit %(limit)s
"""


def streams_beginning(connection: Connection, beginning: str, limit: int) -> list[str]:
    """The streams whose ids begin so, as the log has them."""
    cursor = connection.cursor(row_factory=tuple_row)
    # Planned for its values each time: only they tell how narrow the range is.
    rows = cursor.execute(_BEGINNING, {"beginning": beginning, "limit": limit}, prepare=False)
    return [row[0] for row in rows]
