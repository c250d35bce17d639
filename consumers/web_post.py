"""Sending to a web server that somebody else named: only to public addresses, only over TLS, and never for long.

The name is resolved here and the connection goes to exactly the address that was looked at, so that a name that leads
elsewhere a moment later (DNS rebinding) leads nowhere. Redirects are not followed, and no proxy is asked.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPSConnection

ATTEMPT_SECONDS = 10.0
"""From the first packet to the status line, however slowly the other side speaks."""
ADDRESSES_TRIED = 2
_TUNNELS = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")))
"""IPv6 addresses that hold an IPv4 address, which may be a private one."""

Resolve = Callable[..., Sequence[tuple[Any, ...]]]
Address = IPv4Address | IPv6Address


class Unreachable(Exception):
    """The server was not reached, or gave no answer that is one."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private_hosts: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
    resolve: Resolve = socket.getaddrinfo,
) -> int:
    """Send a body, and answer the status; what else the server says is not read.

    ``private_hosts`` are names that may lead to any address. Raises ``Unreachable``.
    """
    ends_at = time.monotonic() + ATTEMPT_SECONDS
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    addresses = _addresses(host, port, host in private_hosts, resolve)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with _connected(addresses, port, host, tls or _trusted(), ends_at) as connection:
            connection.request(
                "POST", path, body, {**headers, "Host": parts.netloc}, preload_content=False, decode_content=False
            )
            status = connection.getresponse().status
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        if time.monotonic() < ends_at:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
    # What was cut off may look like an answer that ended early.
    if time.monotonic() >= ends_at:
        raise Unreachable(f"no answer within {ATTEMPT_SECONDS:.0f} s")
    return status


def is_public(address: Address) -> bool:
    """Whether it is an address of the internet at large: no private, local, multicast or reserved one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in tunnel for tunnel in _TUNNELS) or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _addresses(host: str, port: int, private: bool, resolve: Resolve) -> list[str]:
    """Where a name leads. Raises ``Unreachable`` when it leads nowhere, or to one address that is not public."""
    try:
        found = resolve(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{host} cannot be resolved: {error}") from None
    addresses = list(dict.fromkeys(str(where[4][0]) for where in found))
    if not addresses:
        raise Unreachable(f"{host} has no address")
    if not private:
        for address in addresses:
            if not is_public(ip_address(address.partition("%")[0])):
                raise Unreachable(f"{host} leads to {address}, which is no public address")
    return addresses[:ADDRESSES_TRIED]


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that this machine trusts; reading them takes longer than a delivery."""
    return ssl.create_default_context()


@contextmanager
def _connected(
    addresses: Sequence[str], port: int, host: str, tls: ssl.SSLContext, ends_at: float
) -> Iterator[HTTPSConnection]:
    """A connection to the first address that takes one, cut when its time is over."""
    for number, address in enumerate(addresses, 1):
        left = (ends_at - time.monotonic()) / (len(addresses) - number + 1)
        connection = HTTPSConnection(
            address, port, timeout=max(left, 0.1), server_hostname=host, ssl_context=tls, cert_reqs="CERT_REQUIRED"
        )
        try:
            connection.connect()
            break
        except (urllib3.exceptions.HTTPError, OSError):
            connection.close()
            if number == len(addresses):
                raise
    # A server that sends a byte now and then is never idle for long enough to run into a timeout.
    timer = threading.Timer(max(ends_at - time.monotonic(), 0), _cut, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield connection
    finally:
        timer.cancel()
        connection.close()


def _cut(connected: socket.socket) -> None:
    """End both directions, below TLS, for another thread that waits for the other side."""
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
