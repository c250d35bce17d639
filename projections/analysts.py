"""The logins of analysts: who may ask the database with SQL of their own, and about which merchants.

All of it needs the connection of the ledger's owner, who may make roles. What a login's settings bound, a session may
change for itself (``set statement_timeout``); what it may read and write, it may not.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row, tuple_row

from ledger.errors import InvalidField, NotFound, Refusal
from projections import analytics

PASSWORD_BYTES = 24
RESERVED = ("pg_", "coupon_ledger")
WORDS = frozenset({"current_user", "current_role", "session_user", "user", "public", "none"})
"""Words that mean other roles where SQL asks for one."""
LIMITS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "60s",
    "transaction_timeout": "10min",
    "idle_session_timeout": "30min",
    "timezone": "UTC",
}
"""What a session of an analyst begins with."""

Connection = psycopg.Connection[Any]


class AnalystExists(Refusal):
    """A role of this name exists."""


class AnalystNotFound(NotFound):
    """No analyst of this ledger has this login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyst:
    """A login, and what it may see."""

    login: str
    merchants: list[str]
    sessions: int
    """Open now."""


def create(connection: Connection, login: str, merchants: Sequence[str], *, with_password: bool = True) -> str | None:
    """Make a login that sees these merchants, with at most five sessions at once.

    Returns its password, which is kept nowhere, or ``None`` without one: then the server's own rules (certificate,
    peer, LDAP) decide who may be that login.

    Raises ``AnalystExists`` or ``InvalidField``.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", login) or login.startswith(RESERVED) or login in WORDS:
        raise InvalidField("a login is of a-z, 0-9 and _, and no role of the service or of PostgreSQL", field="login")
    if not merchants or not all(merchant and merchant.isprintable() for merchant in merchants):
        raise InvalidField("an analyst sees one merchant at least", field="merchant")
    password = secrets.token_urlsafe(PASSWORD_BYTES) if with_password else None
    with connection.transaction():
        try:
            connection.execute(_statement(_CREATE, login))
        except psycopg.errors.DuplicateObject:
            raise AnalystExists(login=login) from None
        if password is not None:
            # Hashed here, so that it is in no log of the server.
            digest = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
            connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(login), sql.Literal(digest)))
        settings = {name: sql.Literal(value) for name, value in LIMITS.items()}
        for name, value in {**settings, "search_path": sql.Identifier(analytics.schema_of(connection))}.items():
            database = sql.Identifier(connection.info.dbname)
            connection.execute(_statement(_SET, login, database=database, name=sql.Identifier(name), value=value))
        connection.execute(
            "insert into analysts (login, merchant_id) select quote_ident(%s)::regrole, unnest(%s::text[])",
            (login, sorted(set(merchants))),
        )
    return password


def listed(connection: Connection) -> list[Analyst]:
    """The analysts of this ledger, by login."""
    return connection.cursor(row_factory=class_row(Analyst)).execute(_LIST).fetchall()


def drop(connection: Connection, login: str) -> None:
    """End a login, its sessions, and whatever they left in this database.

    Where PostgreSQL refuses the last step, as when the role owns something in another database, the login is ended all
    the same: it sees nothing any more and nobody can log in as it. What was in the way being gone, call it again.

    Raises ``AnalystNotFound``, and what PostgreSQL says.
    """
    with connection.transaction():
        if not _rows(connection, _FOUND, {"login": login, "path": f"search_path={_search_path(connection)}"}):
            raise AnalystNotFound(login=login)
        connection.execute("delete from analysts where login = to_regrole(quote_ident(%s))", (login,))
        connection.execute(_statement(_END, login))
    with connection.transaction():
        connection.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s", (login,))
        connection.execute(_statement("drop owned by {login}; drop role {login}", login))


def _search_path(connection: Connection) -> str:
    """As PostgreSQL keeps it in the settings of a role."""
    [(path,)] = _rows(connection, "select quote_ident(analytics_schema())")
    return str(path)


def _rows(connection: Connection, query: LiteralString, parameters: Any = None) -> list[tuple[Any, ...]]:
    return connection.cursor(row_factory=tuple_row).execute(query, parameters).fetchall()


def _statement(text: LiteralString, login: str, **names: sql.Composable) -> sql.Composed:
    return sql.SQL(text).format(login=sql.Identifier(login), **names)


_CREATE = "create role {login} login connection limit 5 in role coupon_ledger_analyst"

_SET = "alter role {login} in database {database} set {name} to {value}"

# Who makes a role may give it out, and only who is a member of it may clear away what it owns.
_END = "alter role {login} nologin; grant {login} to current_user"

# A login that a drop has ended and not taken away has no merchants. Its settings tell that it is of this ledger, for
# the logins of all ledgers of a server are members of the one role.
_FOUND = """
select from pg_roles r
 where r.rolname = %(login)s
   and (exists (select from analysts a where a.login = r.oid)
        or exists (select from pg_db_role_setting s
                    where s.setrole = r.oid and %(path)s = any (s.setconfig)
                      and s.setdatabase = (select oid from pg_database where datname = current_database()))
           and exists (select from pg_auth_members m
                        where m.member = r.oid and m.roleid = 'coupon_ledger_analyst'::regrole))
"""

_LIST = """
select r.rolname as login, array_agg(a.merchant_id order by a.merchant_id) as merchants,
       (select count(*) from pg_stat_activity s where s.usesysid = r.oid) as sessions
  from analysts a
  join pg_roles r on r.oid = a.login
 group by r.oid, r.rolname
 order by r.rolname
"""
