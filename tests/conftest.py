"""Real servers for the tests: one PostgreSQL and one Kafka a session, a schema of its own for every test."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.database import Database
from ledger.migrate import migrate
from ledger.request import Request
from ledger.store import Store
from ledger.terms import Terms

MERCHANT = "merchant-1"


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server: the one that DATABASE_URL names, else an embedded one."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    from coupon_ledger.embedded import EmbeddedPostgres

    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server.address


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka broker: the one that KAFKA_BOOTSTRAP names, else an embedded one."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP"):
        yield bootstrap
        return
    from coupon_ledger.embedded import EmbeddedKafka

    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server.address


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty, migrated ledger in a schema of its own."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    migrate(database_url, schema)
    yield Database(database_url, schema)
    drop_ledger(database_url, schema)


def drop_ledger(url: str, schema: str) -> None:
    """Take a ledger away, with its analysts' views."""
    with psycopg.connect(url, autocommit=True, options="-c client_min_messages=warning") as connection:
        for name in (schema, f"{schema}_analytics"):
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """A ledger on an empty schema."""
    ledger = Ledger(Store(database))
    yield ledger
    ledger.close()


class Shop:
    """Short words for tests: makes requests with fresh keys, and batches that are ready to issue."""

    def __init__(self, ledger: Ledger, merchant_id: str = MERCHANT) -> None:
        self.ledger = ledger
        self.merchant_id = merchant_id
        self._numbers = count(1)

    def request(self, request_id: str | None = None, *, body_hash: str = "", at: datetime | None = None) -> Request:
        """A request with a key of its own unless one is named."""
        key = request_id or f"request-{next(self._numbers)}"
        return Request(self.merchant_id, "test", key, body_hash, at)

    def batch(self, *, terms: Terms | None = None, start: bool = True, **plan: Any) -> str:
        """The id of a new batch, RUNNING unless told otherwise; windows may be of the past."""
        benefit = Benefit(kind="amount_off", value_minor=500)
        terms = terms or Terms(benefit=benefit, currency="EUR", stacking_mode="stackable")
        template = self.ledger.do(use_cases.create_template(self.request(), name="Five off", terms=terms))
        plan = {"name": "Batch", "quantity": 100, "valid_for_seconds": 86_400, **plan}
        work = use_cases.create_batch(
            self.request(), BatchPlan(**plan), template_id=template.answer["template_id"], accept_risk=True
        )
        batch_id: str = self.ledger.do(work).answer["batch_id"]
        if start:
            self.ledger.do(use_cases.start_batch(self.request(), batch_id))
        return batch_id

    def coupon(self, user_id: str = "user-1", batch_id: str | None = None) -> str:
        """The id of a coupon that the user just got."""
        batch_id = batch_id or self.batch(per_user_limit=None)
        coupon_id: str = self.ledger.do(use_cases.claim(self.request(), batch_id, user_id)).answer["coupon_id"]
        return coupon_id


@pytest.fixture
def shop(ledger: Ledger) -> Shop:
    """A merchant on an empty ledger."""
    return Shop(ledger)


@pytest.fixture
def long_ago() -> datetime:
    """A moment of imported history."""
    return datetime(2017, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
