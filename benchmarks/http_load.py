"""A load generator for HTTP/1.1: many keep-alive connections on one thread, in a process of its own.

A general client costs more CPU a request than the server that it asks. This one sends bytes that are nearly ready,
reads nothing of an answer but its status and its length, and stops at the first status that is not the expected one.
"""

from __future__ import annotations

import re
import select
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.load import Measured

_RECEIVE_BYTES = 65_536
_LONGEST_WAIT_SECONDS = 15.0


@dataclass(frozen=True)
class Step:
    """One request of an operation. ``{n}``, ``{user}`` and ``{coupon}`` in path and body change with each operation."""

    path: str
    token: str
    body: str
    status: int
    """What it must be answered with."""


@dataclass(frozen=True)
class HttpLoad:
    """What the generator is asked to do, again and again on each connection: the steps in turn, one operation."""

    host: str
    port: int
    connections: int
    seconds: float
    steps: tuple[Step, ...]
    users: int = 1
    coupons: tuple[tuple[str, str], ...] = ()
    """(Coupon id, user id) of each coupon that the steps are about, each used once."""


class UnexpectedAnswer(Exception):
    """The server refused a request of the load, or said something that is not HTTP."""


class _Connection:
    """One caller: sends a request, awaits its answer, sends the next."""

    def __init__(self, load: HttpLoad, operations: Iterator[list[bytes]]) -> None:
        self.socket = socket.create_connection((load.host, load.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._operations = operations
        self._expected = [f"HTTP/1.1 {step.status} ".encode() for step in load.steps]
        self._received = b""
        self._requests: list[bytes] = []
        self._step = 0
        self.begun_at = 0.0

    def begin(self) -> bool:
        """Send the first request of the next operation; False when there is none."""
        requests = next(self._operations, None)
        if requests is None:
            return False
        self._requests, self._step = requests, 0
        self.begun_at = time.perf_counter()
        self.socket.sendall(requests[0])
        return True

    def advance(self) -> bool:
        """Take what has come; True when it ended the operation. Raises ``UnexpectedAnswer``."""
        part = self.socket.recv(_RECEIVE_BYTES)
        if not part:
            raise UnexpectedAnswer("the server closed the connection")
        answer = self._received = self._received + part
        head = answer.find(b"\r\n\r\n")
        if head < 0 or len(answer) < head + 4 + _content_length(answer[:head]):
            return False
        if not answer.startswith(self._expected[self._step]):
            raise UnexpectedAnswer(answer.decode(errors="replace")[:2_000])
        self._received = b""
        self._step += 1
        if self._step == len(self._requests):
            return True
        self.socket.sendall(self._requests[self._step])
        return False


def drive(load: HttpLoad) -> Measured:
    """Warm every connection with one operation, then measure for the time asked for.

    Raises ``UnexpectedAnswer``. The CPU of this process is not measured, for it is no part of any contender.
    """
    measured = Measured(load.seconds)
    operations = _operations(load)
    connections = {}
    try:
        for _ in range(load.connections):
            connection = _Connection(load, operations)
            connections[connection.socket.fileno()] = connection
        _run(connections, measured, warm=True)
        measured.latencies.clear()
        _run(connections, measured, warm=False)
    finally:
        for connection in connections.values():
            connection.socket.close()
    measured.latencies.sort()
    return measured


def _run(connections: dict[int, _Connection], measured: Measured, *, warm: bool) -> None:
    """Operations on all connections until the time is over and the last one is answered; to warm them, one each."""
    with select.epoll() as poll:
        ends_at = time.perf_counter() + (0.0 if warm else measured.seconds)
        busy = 0
        for number, connection in connections.items():
            poll.register(number, select.EPOLLIN)
            busy += connection.begin()
        while busy:
            ready = poll.poll(_LONGEST_WAIT_SECONDS)
            if not ready:
                raise UnexpectedAnswer(f"no answer in {_LONGEST_WAIT_SECONDS:.0f} s")
            for number, _ in ready:
                connection = connections[number]
                if connection.advance():
                    now = time.perf_counter()
                    measured.acknowledged += 1
                    measured.in_time += now <= ends_at
                    measured.latencies.append(now - connection.begun_at)
                    if now >= ends_at or not connection.begin():
                        busy -= 1


def _operations(load: HttpLoad) -> Iterator[list[bytes]]:
    """The requests of one operation after the other, until the coupons, where the steps are about any, are used up."""
    run = uuid.uuid4().hex[:12]
    coupons = iter(load.coupons)
    number = 0
    while True:
        number += 1
        told = {"n": f"{run}-{number}"}
        if load.coupons:
            coupon, user = next(coupons, ("", ""))
            if not coupon:
                return
            told |= {"coupon": coupon, "user": user}
        else:
            # All numbers below it, in an order that has no pattern for an index, at less cost than a random one.
            told["user"] = f"user-{number * 2_654_435_761 % load.users}"
        yield [_request(load, step, told | {"key": f"{run}-{number}-{place}"}) for place, step in enumerate(load.steps)]


def _request(load: HttpLoad, step: Step, told: dict[str, str]) -> bytes:
    path, body = step.path, step.body
    for name, value in told.items():
        path, body = path.replace(f"{{{name}}}", value), body.replace(f"{{{name}}}", value)
    return (
        f"POST {path} HTTP/1.1\r\nHost: {load.host}:{load.port}\r\nAuthorization: Bearer {step.token}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {told['key']}\r\nContent-Length: {len(body)}\r\n"
        f"\r\n{body}"
    ).encode()


def _content_length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    if found is None:
        raise UnexpectedAnswer("an answer without a length")
    return int(found[1])
