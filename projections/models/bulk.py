"""Writing thousands of rows in one statement.

Joined text costs a fraction of what arrays or a statement a row cost, on both sides of the wire. An empty text is
null: no column that is written this way can hold an empty text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql


def copy_rows(
    connection: psycopg.Connection[Any], table: sql.Identifier, columns: Sequence[str], lines: Sequence[str]
) -> None:
    """Insert new rows, each a line of tab-separated columns.

    Raises ``ValueError`` when a value holds a tab or a line feed, and what PostgreSQL says of a row that is there.
    """
    if not lines:
        return
    text = "\n".join(lines)
    if text.count("\t") != len(lines) * (len(columns) - 1) or text.count("\n") != len(lines) - 1:
        raise ValueError("a value holds a tab or a line feed")
    statement = sql.SQL("copy {} ({}) from stdin (null '')").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(text.replace("\\", "\\\\"))


def joined(values: Iterable[str]) -> str | None:
    """A column for ``string_to_array(column, E'\\n', '')``; ``None`` when it is null in every row.

    Raises ``ValueError`` when a value holds a line feed.
    """
    values = list(values)
    text = "\n".join(values)
    if text.count("\n") != len(values) - 1:
        raise ValueError("a value holds a line feed")
    return text if len(text) >= len(values) else None


def add_rows(
    connection: psycopg.Connection[Any],
    table: sql.Identifier,
    key: Mapping[LiteralString, LiteralString],
    kept: Mapping[LiteralString, LiteralString],
    added: Sequence[LiteralString],
    rows: Mapping[Any, Mapping[str, int]],
) -> None:
    """Add counts to the rows with these keys, or insert those that are new.

    ``key`` and ``kept`` are columns with their types; a row's values of both come first in ``rows``. What is ``kept``
    never changes. ``added`` are columns of bigint; ``position`` is set.
    """
    if not rows:
        return
    names = [*key, *kept, *added, "position"]
    casts = [*key.values(), *kept.values()]
    ordered = sorted(rows)
    texts = [joined(column) for column in zip(*ordered, strict=True)]
    counts = [rows[values] for values in ordered]
    numbers = [" ".join([str(each.get(name, 0)) for each in counts]) for name in (*added, "position")]
    list_of = sql.SQL(", ").join
    statement = sql.SQL(_ADD).format(
        table=table,
        values=list_of(
            [sql.SQL("string_to_array(%s, E'\\n')::{}[]").format(sql.SQL(cast)) for cast in casts]
            + [sql.SQL("string_to_array(%s, ' ')::bigint[]")] * len(numbers)
        ),
        columns=list_of(map(sql.Identifier, names)),
        same=sql.SQL(" and ").join([sql.SQL("t.{0} = m.{0}").format(sql.Identifier(name)) for name in key]),
        sums=list_of([sql.SQL("{0} = t.{0} + m.{0}").format(sql.Identifier(name)) for name in added]),
        new=list_of([sql.SQL("m.{}").format(sql.Identifier(name)) for name in names]),
    )
    connection.execute(statement, (*texts, *numbers))


# Not an upsert, for that holds the amounts to be added to the constraints of whole rows.
_ADD = """
merge into {table} t
using unnest({values}) as m ({columns}) on {same}
 when matched then update set {sums}, position = m.position
 when not matched then insert ({columns}) values ({new})
"""


def expect_rows(cursor: psycopg.Cursor[Any], count: int) -> None:
    """Raise ``ValueError`` unless so many rows were written: an event found no row, or one at another version."""
    if cursor.rowcount != count:
        raise ValueError(f"{count - cursor.rowcount} of {count} rows are missing or at another version")
