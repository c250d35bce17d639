"""Fixtures of the tests with a real broker: every test has topics and a group of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from ledger.database import Database
from tests.kafka.broker import Broker, KafkaProducer, ensure_topics


@pytest.fixture(scope="session")
def _producer(kafka_bootstrap: str) -> Iterator[Any]:
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all", enable_idempotence=True, linger_ms=2)
    yield producer
    producer.close(timeout=10)


@pytest.fixture
def broker(kafka_bootstrap: str, _producer: Any) -> Broker:
    """Fresh topics."""
    name = f"test{uuid.uuid4().hex[:10]}"
    ensure_topics(kafka_bootstrap, f"{name}.")
    return Broker(kafka_bootstrap, f"{name}.", name, _producer)


@pytest.fixture
def sql(database: Database) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Asks the test's schema with every right."""
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        yield lambda query, *values: connection.execute(query, values).fetchall()
