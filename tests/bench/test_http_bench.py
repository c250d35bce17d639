"""The HTTP bench really runs through gunicorn, and its generator notices what is not as it should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import http, results, servers
from benchmarks.http_load import HttpLoad, Step, UnexpectedAnswer, drive
from benchmarks.load import Measured
from benchmarks.options import Options

CLAIM = Step("/claims/{n}", "token", '{"user_id":"{user}"}', 201)


def test_the_api_and_the_bare_view_are_measured_exactly(database_url: str) -> None:
    options = Options(url=database_url, redis=servers.redis_server, seconds=0.4, processes=(1,), connections=(1, 8))
    rows = list(http.measure(options))
    assert [(row.case, row.callers, row.contender) for row in rows] == [
        (case, connections, contender)
        for connections in (1, 8)
        for case in ("http_claims", "http_lock_confirm")
        for contender in ("ledger", "bare_flask")
    ]
    assert [row for row in rows if not row.exact or row.rate_per_s <= 0 or not row.p50_ms] == []
    assert results.ratios(rows).keys() == {
        f"{case}.{connections}.ledger/bare_flask"
        for case in ("http_claims", "http_lock_confirm")
        for connections in (1, 8)
    }


def test_a_claim_too_many_is_not_exact() -> None:
    before, after = {"stock": 5, "coupon.issued": 5}, {"stock": 8, "coupon.issued": 8}
    assert http.exact("http_claims", "ledger", before, after, Measured(1.0, acknowledged=3))
    assert not http.exact("http_claims", "ledger", before, after, Measured(1.0, acknowledged=2))
    assert not http.exact("http_claims", "ledger", before, after | {"stock": 7}, Measured(1.0, acknowledged=3))


@contextmanager
def serving(*answers: bytes) -> Iterator[int]:
    """The port of a server that gives these answers on one connection, in pieces, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(65_536)
                    for piece in (answer[:20], answer[20:]):
                        connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def load(port: int, *steps: Step) -> HttpLoad:
    return HttpLoad("127.0.0.1", port, connections=1, seconds=0.0, steps=steps, users=10)


def answer(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{{}}".encode()


def test_an_operation_ends_with_its_last_answer() -> None:
    with serving(*[answer("201 Created"), answer("200 OK")] * 2) as port:
        measured = drive(load(port, CLAIM, Step("/use/{n}", "token", "{}", 200)))
    assert measured.acknowledged == 2  # one to warm the connection, one that began as the time ended
    assert len(measured.latencies) == 1


@pytest.mark.parametrize("wrong", [answer("503 Service Unavailable"), b"", b"HTTP/1.1 201 Created\r\n\r\n"])
def test_an_answer_that_is_not_expected_ends_the_run(wrong: bytes) -> None:
    with serving(wrong) as port, pytest.raises(UnexpectedAnswer):
        drive(load(port, CLAIM))
