"""Posting to servers that others name: over TLS, to the address that was looked at, never for long."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

import pytest

from consumers import web_post
from consumers.web_post import Unreachable, is_public, post
from tests.receivers.conftest import to_loopback
from tests.receivers.receiver import HOST, Receiver

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_inner_addresses_are_known(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ip_address(address))


def leading(*addresses: str) -> Any:
    """A name server that answers with these addresses."""
    return lambda host, port, **_: [(socket.AF_INET, 1, 6, "", (address, port)) for address in addresses]


@pytest.mark.parametrize("found", [("127.0.0.1",), ("10.0.0.1",), ("169.254.169.254",), ("8.8.8.8", "127.0.0.1")])
def test_a_name_that_leads_inside_is_not_gone_to(
    found: tuple[str, ...], receiver: Receiver, tls: ssl.SSLContext
) -> None:
    with pytest.raises(Unreachable, match="no public address"):
        post(receiver.url(), b"{}", {}, tls=tls, resolve=leading(*found))
    assert receiver.got == []


def test_localhost_itself_is_refused(receiver: Receiver, tls: ssl.SSLContext) -> None:
    with pytest.raises(Unreachable, match="no public address"):
        post(receiver.url(host="localhost"), b"{}", {}, tls=tls)
    assert receiver.got == []


def test_a_named_private_host_may_be_reached(receiver: Receiver, tls: ssl.SSLContext) -> None:
    assert post(receiver.url(host="localhost"), b"{}", {}, tls=tls, private_hosts={"localhost"}) == 200


def test_it_goes_to_the_address_that_was_looked_at(receiver: Receiver, tls: ssl.SSLContext) -> None:
    """The name is asked for once: a second answer, which may be another, has no effect."""
    asked = []

    def resolve(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return to_loopback(host, port) if len(asked) == 1 else leading("10.0.0.1")(host, port)

    assert post(receiver.url("/a?b=c"), b"{}", {"x-a": "b"}, tls=tls, private_hosts={HOST}, resolve=resolve) == 200
    assert asked == [HOST]
    ((path, headers, body),) = receiver.got
    assert (path, headers["host"], headers["x-a"], body) == ("/a?b=c", f"{HOST}:{receiver.port}", "b", b"{}")


def test_the_second_address_is_tried(receiver: Receiver, tls: ssl.SSLContext, free_port: int) -> None:
    resolve = leading("127.0.0.2", "127.0.0.1")  # nobody listens on the first
    assert post(receiver.url(), b"", {}, tls=tls, private_hosts={HOST}, resolve=resolve) == 200


def test_a_certificate_for_another_name_is_refused(receiver: Receiver, tls: ssl.SSLContext) -> None:
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        post(receiver.url(host="other.example"), b"", {}, tls=tls, private_hosts={"other.example"}, resolve=to_loopback)
    assert receiver.got == []


def test_an_authority_that_nobody_knows_is_refused(receiver: Receiver) -> None:
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        post(receiver.url(), b"", {}, private_hosts={HOST}, resolve=to_loopback)
    assert receiver.got == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers_and_no_orders(status: int, receiver: Receiver, tls: ssl.SSLContext) -> None:
    receiver.answer = lambda request, path: status
    assert post(receiver.url(), b"{}", {}, tls=tls, private_hosts={HOST}, resolve=to_loopback) == status
    assert [path for path, _, _ in receiver.got] == ["/"]


@contextmanager
def raw_server(talk: Any, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that accepts one connection and talks as told."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                talk(connection, done)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        done.set()
        thread.join()


def silent(connection: socket.socket, done: threading.Event) -> None:
    done.wait(10)


def dripping(context: ssl.SSLContext, connection: socket.socket, done: threading.Event) -> None:
    """A byte of a header now and then, so that no single wait is long."""
    with context.wrap_socket(connection, server_side=True) as secured:
        secured.recv(1_000)
        secured.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not done.wait(0.05):
            secured.send(b"a")


def garbage(context: ssl.SSLContext, connection: socket.socket, done: threading.Event) -> None:
    with context.wrap_socket(connection, server_side=True) as secured:
        secured.recv(1_000)
        secured.send(b"SSH-2.0-x\r\n" * 10)


def test_slow_servers_are_left(authority: Any, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_post, "ATTEMPT_SECONDS", 0.5)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    for talk in (silent, partial(dripping, context)):
        with raw_server(talk) as port:
            began = time.monotonic()
            with pytest.raises(Unreachable, match="no answer within"):
                post(f"https://{HOST}:{port}/", b"", {}, tls=tls, private_hosts={HOST}, resolve=to_loopback)
            assert time.monotonic() - began < 5  # the servers would go on for ever


def test_what_is_no_http_is_no_answer(authority: Any, tls: ssl.SSLContext) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    with raw_server(partial(garbage, context)) as port, pytest.raises(Unreachable, match="BadStatusLine"):
        post(f"https://{HOST}:{port}/", b"", {}, tls=tls, private_hosts={HOST}, resolve=to_loopback)


def test_nobody_there(tls: ssl.SSLContext, free_port: int) -> None:
    with pytest.raises(Unreachable, match=r"(?i)refused"):
        post(f"https://{HOST}:{free_port}/", b"", {}, tls=tls, private_hosts={HOST}, resolve=to_loopback)
    with pytest.raises(Unreachable, match="cannot be resolved"):
        post("https://name.invalid/", b"", {}, tls=tls)
