"""Real receivers: an HTTPS server with an authority of its own, and a mail server."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller

from consumers.deliver import Deliverer
from consumers.sending import Sender
from ledger import channels, deliveries
from ledger.deliveries import Claimed, Delivery
from tests.conftest import Shop

HOST = "hooks.example"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who vouches for the servers of these tests."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a client trusts that trusts that authority alone."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@dataclass
class Receiver:
    """An HTTPS server that answers as a test tells it, and remembers what came."""

    port: int = 0
    answer: Callable[[BaseHTTPRequestHandler, str], int] = lambda request, path: 200
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers and body of each request."""

    def url(self, path: str = "/", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    def ids(self) -> list[str]:
        """Of the webhooks that came."""
        return [headers["webhook-id"] for _, headers, _ in self.got]


@pytest.fixture
def receiver(authority: trustme.CA) -> Iterator[Receiver]:
    """A server whose certificate is for ``HOST`` and localhost."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.answer(self, self.path)
            if status:
                self.send_response(status)
                self.send_header("Location", receiver.url("/elsewhere"))
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_GET(self) -> None:
            receiver.got.append((self.path, {}, b"GET"))

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "localhost").configure_cert(context)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # a client that hangs up is part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield receiver
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Mailbox:
    """What a mail server took, and what it says to certain recipients."""

    port: int = 0
    got: list[EmailMessage] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802  # aiosmtpd's name
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        message = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        message["X-To"] = ",".join(envelope.rcpt_tos)
        message["X-Encrypted"] = str(session.ssl is not None)
        self.got.append(message)
        return "250 taken"


@pytest.fixture
def mailbox(authority: trustme.CA) -> Iterator[Mailbox]:
    """A mail server that takes nothing before STARTTLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=0, tls_context=context, require_starttls=True)
    # With port 0 the library looks for its server on port 0, so the port is chosen here.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        controller.port = mailbox.port = probe.getsockname()[1]
    controller.start()
    yield mailbox
    controller.stop()


def to_loopback(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
    """A name server that knows every name, on this machine."""
    return [(2, 1, 6, "", ("127.0.0.1", port))]


class Desk:
    """Short words for what these tests do with channels and deliveries."""

    def __init__(self, shop: Shop, sender: Sender) -> None:
        self.shop, self.sender = shop, sender
        self._numbers = count(1)

    def channel(self, target: str | None, kind: Any = "webhook", wants: tuple[str, ...] = ("alert",)) -> str:
        plan = {"name": "Test", "kind": kind, "target": target, "wants": wants}
        channel_id: str = channels.register(self.shop.ledger, self.shop.request(), **plan).answer["channel_id"]
        return channel_id

    def enqueue(self, channel_id: str, many: int = 1, **more: Any) -> list[str]:
        """The keys of new deliveries."""
        keys = [f"delivery {next(self._numbers)}" for _ in range(many)]
        with self.shop.ledger.store.connection() as connection:
            new = [
                Delivery(key, channel_id, self.shop.merchant_id, "alert", more.get("body", {"n": 1}), more.get("user"))
                for key in keys
            ]
            assert deliveries.enqueue(connection, new) == many
        return keys

    def claimed(self, channel_id: str) -> Claimed:
        with self.shop.ledger.store.connection() as connection:
            (found,) = deliveries.claim(connection, {channel_id: 1})
        return found

    def rows(self) -> dict[str, tuple[str, int, str | None]]:
        """State, attempts and error of each delivery by its key."""
        with self.shop.ledger.store.connection() as connection:
            found = connection.execute("select key, state, attempts, error from deliveries").fetchall()
        return {row["key"]: (row["state"], row["attempts"], row["error"]) for row in found}

    def make_due(self) -> None:
        """As if every pause and lease were over."""
        with self.shop.ledger.store.connection() as connection:
            connection.execute("update deliveries set due_at = clock_timestamp() where state = 'due'")

    def shorten_pauses(self) -> None:
        """As if pauses between attempts were over, but not the leases of what is under way."""
        with self.shop.ledger.store.connection() as connection:
            connection.execute(
                "update deliveries set due_at = clock_timestamp() where state = 'due' and error is not null"
                " and due_at < clock_timestamp() + interval '30 seconds'"
            )

    def deliver(self) -> None:
        """Attempt whatever is due now, once."""
        deliverer = Deliverer(self.shop.ledger.store, self.sender.send)
        with ThreadPoolExecutor(16) as pool:
            while deliverer.step(pool) or deliverer._under_way:
                time.sleep(0.01)


@pytest.fixture
def desk(shop: Shop, tls: ssl.SSLContext) -> Desk:
    """Deliveries to receivers on this machine."""
    return Desk(shop, Sender({HOST}, tls=tls, resolve=to_loopback))


@pytest.fixture
def moment() -> datetime:
    """Some moment."""
    return datetime(2026, 5, 1, 12, tzinfo=UTC)
