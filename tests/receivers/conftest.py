"""Real receivers: an HTTPS server with an authority of its own, and a mail server."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from itertools import count
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller

from consumers.deliver import Deliverer
from consumers.sending import Sender
from ledger.telling import channels, deliveries
from ledger.telling.deliveries import Claimed, Delivery
from tests.conftest import Shop
from tests.receivers.receiver import HOST, Receiver, receiving


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


@pytest.fixture
def receiver(authority: trustme.CA) -> Iterator[Receiver]:
    """A server that this authority vouches for."""
    with receiving(authority) as receiver:
        yield receiver


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
