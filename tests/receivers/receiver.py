"""A real HTTPS server that takes webhooks."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

HOST = "hooks.example"


@dataclass
class Receiver:
    """An HTTPS server that answers as a test tells it, and remembers what came."""

    port: int = 0
    answer: Callable[[BaseHTTPRequestHandler, str], int] = lambda request, path: 200
    """The status that a request is answered with; 0 hangs up."""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers and body of each request."""

    def url(self, path: str = "/", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    def ids(self) -> list[str]:
        """Of the webhooks that came."""
        return [headers["webhook-id"] for _, headers, _ in self.got]


@contextmanager
def receiving(authority: trustme.CA) -> Iterator[Receiver]:
    """A server whose certificate is for ``HOST`` and localhost, until the block ends."""
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
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
