"""What tests on PostgreSQL share: one ledger for a module's many small stories."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from ledger.application import Ledger
from ledger.database import Database
from ledger.migrate import migrate
from ledger.store import Store


@pytest.fixture(scope="module")
def shared_database(database_url: str) -> Iterator[Database]:
    """A migrated ledger that a module's tests share; each keeps to ids of its own."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    migrate(database_url, schema)
    yield Database(database_url, schema)
    with psycopg.connect(database_url, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute(f'drop schema "{schema}" cascade')


@pytest.fixture(scope="module")
def shared_ledger(shared_database: Database) -> Iterator[Ledger]:
    """The shared ledger at work."""
    ledger = Ledger(Store(shared_database))
    yield ledger
    ledger.close()
