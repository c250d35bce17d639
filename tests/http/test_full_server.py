"""gunicorn with more connections than callers who may wait: the others hear 503 at once, and the probes answer."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api import keys
from coupon_ledger.processes import running, wait_until_ready
from coupon_ledger.settings import Settings
from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from tests.conftest import Shop
from tests.postgres.tools import wait_for_writers, writers_blocked

THREADS, CONNECTIONS = 8, 40


@pytest.fixture
def port(database: Database, tmp_path: Path, free_port: int) -> Iterator[int]:
    """The port of a server of one process with few threads."""
    settings = Settings().model_copy(
        update={
            "database_url": database.url,
            "schema_": database.schema,
            "http_bind": f"127.0.0.1:{free_port}",
            "http_workers": 1,
            "http_threads": THREADS,
            "state": tmp_path,
        }
    )
    with running(tmp_path / "logs", settings.as_environment()) as processes:
        processes.start("api", "serve")
        wait_until_ready(f"http://127.0.0.1:{free_port}", processes)
        yield free_port


def ask(port: int, method: str, path: str, token: str = "", key: str = "") -> tuple[int, str]:
    """(Status, code of the problem)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, "Content-Type": "application/json"}
    connection.request(method, path, json.dumps({"user_id": f"user-{key}"}) if key else None, headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body.get("code", "")


def test_who_finds_the_queue_full_is_told_while_the_others_wait(
    port: int, database: Database, ledger: Ledger, shop: Shop
) -> None:
    batch_id = shop.batch(quantity=1_000)
    ledger.do(use_cases.claim(shop.request(), batch_id, "warm"))
    with ledger.store.connection() as connection:
        token = keys.create(connection, shop.request().merchant_id, "shopper-app", "test")
    path = f"/v1/batches/{batch_id}/claims"
    assert ask(port, "POST", path, token, "first") == (201, "")
    told: Counter[tuple[int, str]] = Counter()
    with ThreadPoolExecutor(CONNECTIONS) as callers:
        with writers_blocked(database):
            calls = [callers.submit(ask, port, "POST", path, token, f"k{n}") for n in range(CONNECTIONS)]
            wait_for_writers(database)
            for _ in range(1_000):
                told = Counter(call.result() for call in calls if call.done())
                if told[503, "queue_full"] >= CONNECTIONS // 2:
                    break
                threading.Event().wait(0.01)
            assert told[503, "queue_full"] >= CONNECTIONS // 2
            assert ask(port, "GET", "/livez")[0] == 200
        answers = Counter(call.result() for call in calls)
    assert answers[503, "queue_full"] + answers[503, "unavailable"] + answers[201, ""] == CONNECTIONS
