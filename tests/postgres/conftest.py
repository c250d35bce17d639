"""What tests on PostgreSQL share: one ledger for a module's many small stories."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from ledger.application import Ledger
from ledger.database import Database
from ledger.migrate import migrate
from ledger.store import Store
from tests.conftest import drop_ledger


@pytest.fixture(scope="module")
def shared_database(database_url: str) -> Iterator[Database]:
    """A migrated ledger that a module's tests share; each keeps to ids of its own."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    migrate(database_url, schema)
    yield Database(database_url, schema)
    drop_ledger(database_url, schema)


@pytest.fixture(scope="module")
def shared_ledger(shared_database: Database) -> Iterator[Ledger]:
    """The shared ledger at work."""
    ledger = Ledger(Store(shared_database))
    yield ledger
    ledger.close()
