"""Migrations: plain SQL files, applied once each, in order, by the owner of the schema."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ledger.errors import LedgerError


class MigrationChanged(LedgerError):
    """A migration that was already applied has another text now."""


class ServerTooOld(LedgerError):
    """The PostgreSQL server is of a release that the ledger cannot use."""


class SchemaNewer(LedgerError):
    """The database was migrated by a newer release."""


OLDEST_SERVER = 17
"""The first major release of PostgreSQL with ``transaction_timeout``, which bounds every session of the service."""


def migrations() -> list[tuple[str, str]]:
    """(Name, SQL) of every migration of this release, in order."""
    files = resources.files("ledger").joinpath("migrations").iterdir()
    return sorted((file.name, file.read_text("utf-8")) for file in files if file.name.endswith(".sql"))


def migrate(url: str, schema: str) -> list[str]:
    """Bring the schema up to this release and return the names of what was applied. Raises ``ServerTooOld``,
    ``SchemaNewer`` or ``MigrationChanged`` before anything is done.

    Several processes may call it at once: one works, the others wait. Each file is one transaction.
    """
    applied: list[str] = []
    with psycopg.connect(url, autocommit=True, options="-c client_min_messages=warning") as connection:
        if connection.info.server_version < OLDEST_SERVER * 10_000:
            raise ServerTooOld(f"PostgreSQL {OLDEST_SERVER} or newer is needed: {connection.info.server_version}")
        connection.execute("select pg_advisory_lock(hashtext('coupon-ledger migrate'))")
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        # Functions keep this path. Without pg_temp at its end, a caller's temporary table would come first in them.
        connection.execute(sql.SQL("set search_path to {}, pg_temp").format(sql.Identifier(schema)))
        connection.execute(
            "create table if not exists schema_migrations ("
            " name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        for name, text in _pending(_known(connection)):
            with connection.transaction():
                connection.execute(text)
                connection.execute(
                    "insert into schema_migrations (name, sha256) values (%s, %s)", (name, _digest(text))
                )
            applied.append(name)
        connection.execute("grant select on schema_migrations to public")
    return applied


def pending_migrations(connection: psycopg.Connection[Any]) -> list[str]:
    """Names of migrations that the connected ledger lacks; readiness needs none."""
    return [name for name, _ in _pending(_known(connection))]


def _known(connection: psycopg.Connection[Any]) -> dict[str, str]:
    cursor = connection.cursor(row_factory=tuple_row)
    return dict(cursor.execute("select name, sha256 from schema_migrations").fetchall())


def _pending(known: dict[str, str]) -> list[tuple[str, str]]:
    ours = migrations()
    if foreign := sorted(set(known) - {name for name, _ in ours}):
        raise SchemaNewer(f"this release does not know migration {foreign[0]}")
    for name, text in ours:
        if name in known and known[name] != _digest(text):
            raise MigrationChanged(f"{name} was changed after it was applied")
    return [(name, text) for name, text in ours if name not in known]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
