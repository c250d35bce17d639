"""Migrations: applied once each, in order, by whoever comes first, and never over a schema that they do not know."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from ledger import migrate as migrate_module
from ledger.application import Ledger
from ledger.database import Database
from ledger.migrate import MigrationChanged, SchemaNewer, ServerTooOld, migrate, migrations, pending_migrations
from ledger.store import Store
from tests.conftest import Shop, drop_ledger
from tests.postgres.tools import picture

NAMES = [name for name, _ in migrations()]


@pytest.fixture
def schema(database_url: str) -> Iterator[str]:
    """The name of a schema that is not there yet."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    drop_ledger(database_url, name)


def applied(database_url: str, schema: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            sql.SQL("select name from {} order by applied_at, name").format(sql.Identifier(schema, "schema_migrations"))
        )
        return [name for (name,) in rows]


def test_files_are_numbered_without_holes() -> None:
    assert [name[:4] for name in NAMES] == [f"{n:04}" for n in range(1, len(NAMES) + 1)]


def test_the_second_time_there_is_nothing_to_do(database_url: str, schema: str) -> None:
    assert migrate(database_url, schema) == NAMES == applied(database_url, schema)
    ledger = Ledger(Store(Database(database_url, schema)))
    Shop(ledger).coupon()
    before = picture(ledger.store.database)
    assert migrate(database_url, schema) == []
    assert picture(ledger.store.database) == before
    ledger.close()


def test_processes_that_migrate_at_once_do_it_once(database_url: str, schema: str) -> None:
    code = "import sys; from ledger.migrate import migrate; sys.stdout.write(' '.join(migrate(*sys.argv[1:])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, database_url, schema], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(said) == ["", "", "", " ".join(NAMES)]
    assert applied(database_url, schema) == NAMES


def test_a_newer_release_applies_only_what_is_new(
    database_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database_url, schema)
    newer = [*migrations(), ("0999_more.sql", "create table more (id int); create table even_more (id int);")]
    monkeypatch.setattr(migrate_module, "migrations", lambda: newer)
    with Database(database_url, schema).connect() as connection:
        assert pending_migrations(connection) == ["0999_more.sql"]
        assert migrate(database_url, schema) == ["0999_more.sql"]
        assert pending_migrations(connection) == []


def test_a_file_that_fails_leaves_nothing_and_may_be_mended(
    database_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database_url, schema)
    before = picture(Database(database_url, schema))
    broken = [*migrations(), ("0999_more.sql", "create table more (id int); select 1/0;")]
    monkeypatch.setattr(migrate_module, "migrations", lambda: broken)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(database_url, schema)
    assert picture(Database(database_url, schema)) == before
    broken[-1] = ("0999_more.sql", "create table more (id int)")
    assert migrate(database_url, schema) == ["0999_more.sql"]


def test_a_file_that_changed_after_it_was_applied_is_refused(
    database_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database_url, schema)
    changed = [(name, text + ("\n-- better\n" if name == NAMES[1] else "")) for name, text in migrations()]
    changed.append(("0999_more.sql", "create table more (id int)"))
    monkeypatch.setattr(migrate_module, "migrations", lambda: changed)
    before = picture(Database(database_url, schema))
    with pytest.raises(MigrationChanged, match=NAMES[1]):
        migrate(database_url, schema)
    with Database(database_url, schema).connect() as connection, pytest.raises(MigrationChanged):
        pending_migrations(connection)
    assert picture(Database(database_url, schema)) == before


def test_a_server_that_is_too_old_is_refused_and_left_as_it_was(
    database_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "OLDEST_SERVER", 99)
    with pytest.raises(ServerTooOld, match="PostgreSQL 99 or newer is needed"):
        migrate(database_url, schema)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select to_regnamespace(%s)", (schema,)).fetchall() == [(None,)]


def test_a_schema_of_a_newer_release_is_refused(
    database_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database_url, schema)
    older = migrations()[:-1]
    monkeypatch.setattr(migrate_module, "migrations", lambda: older)
    with pytest.raises(SchemaNewer, match=NAMES[-1]):
        migrate(database_url, schema)
    with Database(database_url, schema).connect() as connection, pytest.raises(SchemaNewer):
        pending_migrations(connection)


def test_two_ledgers_in_one_database_do_not_meet(database_url: str, database: Database, schema: str) -> None:
    migrate(database_url, schema)
    ledgers = [Ledger(Store(database)), Ledger(Store(Database(database_url, schema)))]
    Shop(ledgers[0]).coupon()
    assert [ledger.store.head() for ledger in ledgers] == [4, 0]
    Shop(ledgers[1]).coupon()
    assert [ledger.store.head() for ledger in ledgers] == [4, 4]
    for ledger in ledgers:
        ledger.close()
