"""What two tables of one read model hold differently, row by row, by their key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from projections.projection import Projection

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The live table beside one that was folded again to the same position."""

    live_rows: int
    folded_rows: int
    differing: int
    """Rows that only one of the two has, or that differ."""
    first_key: dict[str, Any] | None
    """The smallest key of those; ``None`` where none differ."""
    live_row: dict[str, Any] | None
    """What the live table has at it; ``None`` where it has no such row."""
    folded_row: dict[str, Any] | None
    """What the log says of it; ``None`` where it says nothing."""


def difference(
    connection: Connection,
    projection: Projection,
    live: sql.Composable,
    folded: sql.Composable,
    to: int | None = None,
) -> Difference:
    """Compare all rows, in the caller's transaction, whose planner it frees to read whole tables.

    With ``to``, only those that the live table has not moved since that position, by their column ``position``.
    """
    connection.execute(_WHOLE_TABLES)
    cursor = connection.cursor(row_factory=tuple_row)
    key = [name for (name,) in cursor.execute(_KEY, (live.as_string(connection),))]
    first = sql.Identifier(key[0])
    which = sql.SQL(projection.compared)
    names = {
        "live": sql.SQL("(select * from {} t where {})").format(live, which),
        "folded": sql.SQL("(select * from {} t where {})").format(folded, which),
        "moved": sql.SQL("false") if to is None else sql.SQL("coalesce(l.position > {}, false)").format(to),
        "same_key": sql.SQL(" and ").join(sql.SQL("l.{0} = f.{0}").format(sql.Identifier(name)) for name in key),
        "key": sql.SQL(", ").join(sql.SQL("coalesce(l.{0}, f.{0})").format(sql.Identifier(name)) for name in key),
        "differs": sql.SQL("(l.{0} is null or f.{0} is null or l *<> f)").format(first),
        "first": first,
    }
    [(live_rows, folded_rows, differing)] = cursor.execute(sql.SQL(_COUNT).format(**names)).fetchall()
    row: tuple[Any, Any] = (None, None)
    if differing:
        [row] = cursor.execute(sql.SQL(_FIRST).format(**names)).fetchall()
    found = row[0] or row[1]
    return Difference(
        live_rows=live_rows,
        folded_rows=folded_rows,
        differing=differing,
        first_key={name: found[name] for name in key} if found else None,
        live_row=row[0],
        folded_row=row[1],
    )


_WHOLE_TABLES = """
set local enable_seqscan = on;
set local enable_hashjoin = on;
set local enable_mergejoin = on;
set local work_mem = '256MB';
set local statement_timeout = 0;
"""

_KEY = """
select a.attname from pg_index i
 cross join unnest(i.indkey) with ordinality as k (attnum, n)
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
 where i.indrelid = %s::regclass and i.indisprimary
 order by k.n
"""

# As they are stored, so that nothing which only counts as equal passes for the same.
_COUNT = """
select count(l.{first}), count(f.{first}), count(*) filter (where {differs})
  from {live} l full join {folded} f on {same_key}
 where not {moved}
"""

_FIRST = """
select case when l.{first} is not null then to_jsonb(l) end, case when f.{first} is not null then to_jsonb(f) end
  from {live} l full join {folded} f on {same_key}
 where {differs} and not {moved} order by {key} limit 1
"""
