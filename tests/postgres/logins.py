"""Logins of analysts for tests: made, opened, and taken away again."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.database import Database
from projections import analysts

Connection = psycopg.Connection[Any]


class Logins:
    """Makes logins, opens their sessions, and takes them away again."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.owner: Connection = psycopg.connect(database.url, autocommit=True)
        self.owner.execute(sql.SQL("set search_path to {}").format(sql.Identifier(database.schema)))
        self.sessions: list[Connection] = []
        self.names: list[str] = []

    def create(self, *merchants: str, login: str | None = None) -> str:
        name = login or f"analyst_{uuid.uuid4().hex[:12]}"
        self.password = analysts.create(self.owner, name, merchants)
        self.names.append(name)
        return name

    def session(self, login: str) -> Connection:
        url = make_conninfo(self.database.url, user=login, password=self.password or "")
        self.sessions.append(psycopg.connect(url, autocommit=True))
        return self.sessions[-1]

    def end(self) -> None:
        for session in self.sessions:
            session.close()
        for name in set(self.names):
            if self.owner.execute("select from pg_roles where rolname = %s", (name,)).rowcount:
                self.owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))
        self.owner.close()
