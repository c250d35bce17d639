"""What analysts see: stable views over the read models, in a schema of their own, and of their merchants alone.

The views are the contract: their columns keep names, order and meaning whatever version a model has, and new columns
come at the end. They read with the rights of whoever asks (``security_invoker``), so it is the policies of the tables
that decide about rows, and no view can forget to.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from projections.queries import named_statements

Connection = psycopg.Connection[Any]


VIEWS = named_statements("analytics.sql")
"""The statements that make each view."""


def schema_of(connection: Connection) -> str:
    """The schema of the views of the ledger that the connection is to."""
    [(name,)] = _rows(connection, "select analytics_schema()")
    return str(name)


def protect(connection: Connection, table: str) -> None:
    """Let analysts see the rows of their merchants only, whichever way they come to the table. Safe to repeat.

    Its owner reads past row-level security, and through the owner's views so does the service: their plans are the
    same as without. A table that names no merchant shows analysts nothing.
    """
    names = {"table": sql.Identifier(table)}
    connection.execute(sql.SQL(_PROTECT).format(**names))
    if _rows(connection, _NAMES_MERCHANT, (table,)):
        connection.execute(sql.SQL(_MERCHANTS).format(**names))


def show(connection: Connection) -> None:
    """Make the views over the tables that are live now, in the caller's transaction, as the projector. Safe to repeat.

    A view keeps its identity, so readers miss nothing, and one that is as it should be is not touched. One whose read
    model is not there yet, or is of another release until it is rebuilt, is left as it is: ``analytics.freshness``
    tells how far each model is.
    """
    analytics = schema_of(connection)
    live: dict[str, tuple[str, int]] = {}
    for name, table, oid, protected in _rows(connection, _LIVE):
        live[name] = table, oid
        if not protected:  # a release of before made it
            protect(connection, table)
    made = dict(_rows(connection, _MADE, (analytics,)))
    for view, statements in VIEWS.items():
        models = sorted(set(re.findall(r"{(\w+)}", statements)) - {"analytics"})
        if not live.keys() >= set(models):
            continue
        digest = hashlib.sha256(repr((statements, [live[model] for model in models])).encode()).hexdigest()
        if made.get(view) != digest:
            names = {"analytics": analytics} | {model: live[model][0] for model in models}
            _make(connection, view, statements, names, digest)


def _make(connection: Connection, view: str, statements: LiteralString, names: dict[str, str], digest: str) -> None:
    try:
        with connection.transaction():
            for model in names.keys() - {"analytics"}:
                connection.execute(sql.SQL(_GRANT).format(sql.Identifier(names[model])))
            connection.execute(
                sql.SQL(statements).format(**{name: sql.Identifier(value) for name, value in names.items()})
            )
            connection.execute(sql.SQL(_GRANT).format(sql.Identifier(names["analytics"], view)))
            connection.execute(_MAKE, (view, digest))
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable):
        pass  # the table is of another release


def _rows(connection: Connection, query: LiteralString, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    return connection.cursor(row_factory=tuple_row).execute(query, parameters).fetchall()


_PROTECT = """
alter table {table} enable row level security;
drop policy if exists service on {table};
create policy service on {table} for select to coupon_ledger_app using (true);
"""

_NAMES_MERCHANT = "select from pg_attribute where attrelid = to_regclass(quote_ident(%s)) and attname = 'merchant_id'"

# The function is asked once for a query, and not for each row.
_MERCHANTS = """
drop policy if exists analysts on {table};
create policy analysts on {table} for select to coupon_ledger_analyst
    using (merchant_id = any ((select analyst_merchants())::text[]));
"""

_LIVE = """
select m.name, c.relname, c.oid, c.relrowsecurity
  from projection_checkpoints m
  join pg_class c on c.oid = to_regclass(quote_ident(m.name || '_v' || m.version))
"""

# What somebody dropped is to be made again.
_MADE = """
select v.name, v.digest from analytics_views v
  join pg_class c on c.relname = v.name and c.relnamespace = (select oid from pg_namespace where nspname = %s)
"""

_GRANT = "grant select on {} to coupon_ledger_analyst"

_MAKE = """
insert into analytics_views (name, digest) values (%s, %s)
on conflict (name) do update set digest = excluded.digest
"""
