"""GET /v1/issuance-jobs/{id}/progress: server-sent events."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time

import pytest

from api import issuance_jobs, keys
from api.app import create_app
from coupon_ledger.processes import running, wait_until_ready
from coupon_ledger.settings import Settings
from tests.http.conftest import Caller
from tests.http.jobs import settle, started

EVENT = re.compile(r"event: (\w+)\ndata: (.+)\n\n")


def test_tells_progress_until_the_end(operator, shop, ledger, monkeypatch):
    monkeypatch.setattr(issuance_jobs, "TELL_SECONDS", 0.01)
    job_id = started(operator, shop.batch())
    path = f"/v1/issuance-jobs/{job_id}/progress"
    response = operator.get(path, headers={"Accept": "text/event-stream"}).response
    assert response.content_type == "text/event-stream; charset=utf-8"
    pieces = response.iter_encoded()
    first = EVENT.fullmatch(next(pieces).decode())
    assert (first[1], json.loads(first[2])) == ("progress", operator.get(f"/v1/issuance-jobs/{job_id}").ok())
    settle(ledger)
    rest = EVENT.findall(b"".join(pieces).decode())
    response.close()
    assert [kind for kind, _ in rest][-2:] == ["progress", "end"]
    assert json.loads(rest[-2][1])["state"] == "FINISHED"
    assert EVENT.findall(operator.get(path).response.text)[-1] == ("end", "{}")


def test_ends_after_its_time(operator, shop, monkeypatch):
    monkeypatch.setattr(issuance_jobs, "TELL_SECONDS", 0.01)
    monkeypatch.setattr(issuance_jobs, "STREAM_SECONDS", 0.1)
    job_id = started(operator, shop.batch())
    told = EVENT.findall(operator.get(f"/v1/issuance-jobs/{job_id}/progress").response.text)
    assert {kind for kind, _ in told} == {"progress"}


def test_so_many_watch_at_once(operator, shop, ledger):
    narrow = Caller(create_app(ledger, streams=2), operator.token)
    path = f"/v1/issuance-jobs/{started(operator, shop.batch())}/progress"
    open_ones = [narrow.get(path).response for _ in range(2)]
    refused = narrow.get(path)
    refused.refused(503, "too_many_streams")
    assert refused.headers["Retry-After"] == "1"
    open_ones[0].close()
    narrow.client.head(path, headers={"Authorization": f"Bearer {operator.token}"}).close()
    narrow.get(f"/v1/issuance-jobs/{'0' * 26}/progress").refused(404, "job_not_found")
    again = narrow.get(path)
    assert again.status == 200
    for response in (open_ones[1], again.response):
        response.close()


def test_only_events_are_given(operator, shop):
    path = f"/v1/issuance-jobs/{started(operator, shop.batch())}/progress"
    operator.get(path, headers={"Accept": "text/csv"}).refused(406, "not_acceptable")


@pytest.fixture
def server(database, tmp_path, free_port):
    """A real server of one process, and its port."""
    settings = Settings().model_copy(
        update={
            "database_url": database.url,
            "schema_": database.schema,
            "http_bind": f"127.0.0.1:{free_port}",
            "http_workers": 1,
            "http_threads": 4,
            "state": tmp_path,
        }
    )
    with running(tmp_path / "logs", settings.as_environment()) as processes:
        processes.start("api", "serve")
        wait_until_ready(f"http://127.0.0.1:{free_port}", processes)
        yield processes.children["api"], free_port


def test_a_server_that_is_told_to_stop_ends_its_streams(server, operator, shop):
    child, port = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    path = f"/v1/issuance-jobs/{started(operator, shop.batch())}/progress"
    connection.request("GET", path, headers={"Authorization": f"Bearer {operator.token}"})
    answer = connection.getresponse()
    assert (answer.status, answer.readline()) == (200, b"event: progress\n")
    began = time.monotonic()
    os.kill(child.pid, signal.SIGTERM)
    rest = answer.read()
    connection.close()
    assert child.wait(20) == 0
    assert time.monotonic() - began < issuance_jobs.STREAM_SECONDS / 50
    assert b"event: end" not in rest


def test_a_client_that_goes_away_gives_its_place_back(server, operator, shop, ledger):
    _, port = server
    with ledger.store.connection() as connection:
        token = keys.create(connection, "merchant-1", "auditor", "test")
    path = f"/v1/issuance-jobs/{started(operator, shop.batch())}/progress"
    statuses = []
    for _ in range(3):  # the server has room for one
        for _ in range(100):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            client.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = client.getresponse()
            answer.readline()
            status = answer.status
            client.close()
            answer.close()
            if status == 200:
                break
            time.sleep(0.1)
        statuses.append(status)
    assert statuses == [200, 200, 200]
