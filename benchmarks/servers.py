"""The bench's own servers: PostgreSQL of the embedded wheel, and Debian's redis-server."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

from coupon_ledger.embedded import EmbeddedPostgres

FLUSH_DELAY_US = 1_000
READY_SECONDS = 10.0
# wal_compression is off, as PostgreSQL has it by default: without lz4 in the wheel, the first touch of a page after a
# checkpoint would cost 0.1 ms of compressing, and pages of random keys do not get smaller.
_SETTINGS = {"shared_buffers": "4GB", "max_wal_size": "8GB", "max_connections": "200", "wal_compression": "off"}
_SHORT_TEMPORARY = "/tmp"  # noqa: S108  # a unix socket's path is short; mkdtemp closes the folder to others


class RedisMissing(Exception):
    """There is no redis-server on this machine."""

    def __str__(self) -> str:
        return "redis-server is missing: apt-get install redis-server (Debian's package)"


@contextmanager
def postgres(state: Path) -> Iterator[str]:
    """A new PostgreSQL with fsync on; gives its URL. Larger than the embedded default, the same for all contenders."""
    with EmbeddedPostgres(state, _SETTINGS) as server:
        yield server.address


@contextmanager
def schema(url: str, name: str) -> Iterator[None]:
    """Drop the schema at the end, and let no checkpoint of one contender fall into the time of the next."""
    try:
        yield
    finally:
        with psycopg.connect(url, autocommit=True, options="-c client_min_messages=warning") as connection:
            connection.execute(f'drop schema if exists "{name}", "{name}_analytics" cascade')
        settle(url)


def settle(url: str) -> None:
    """Write out what is dirty, so that the next measurement begins on a quiet server."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("checkpoint")


@contextmanager
def slow_flush(url: str) -> Iterator[None]:
    """Every flush of the log takes about 1 ms more, for sessions that begin now.

    ``commit_delay`` sleeps before a flush, once for all commits that wait for it, only where as many other
    transactions run as ``commit_siblings`` says: 0, so that a lone one is delayed too.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"alter system set commit_delay = {FLUSH_DELAY_US}")
        connection.execute("alter system set commit_siblings = 0")
        _reload(connection)
    try:
        yield
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("alter system reset commit_delay")
            connection.execute("alter system reset commit_siblings")
            _reload(connection)


def _reload(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute("select pg_reload_conf()")
    time.sleep(0.5)  # the postmaster tells its children by a signal


def lone_commit_ms(url: str, rounds: int = 200) -> float:
    """The median of what a lone INSERT with its commit takes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table lone_commit (n int)")
        try:
            took = []
            for number in range(rounds):
                begun = time.perf_counter()
                connection.execute("insert into lone_commit values (%s)", (number,), prepare=True)
                took.append(time.perf_counter() - begun)
        finally:
            connection.execute("drop table lone_commit")
    return sorted(took)[rounds // 2] * 1_000


def redis_binary() -> str:
    """The path of redis-server. Raises ``RedisMissing``."""
    path = shutil.which("redis-server")
    if path is None:
        raise RedisMissing
    return path


@contextmanager
def redis_server(appendfsync: str) -> Iterator[str]:
    """A new, empty Redis with an append-only file on a unix socket; gives the socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="bench-redis-", dir=_SHORT_TEMPORARY))
    socket = folder / "redis.sock"
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": appendfsync,
    }
    command = [redis_binary(), *(part for name, value in settings.items() for part in (f"--{name}", value))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_redis(process, socket)
        yield str(socket)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_redis(process: subprocess.Popen[bytes], socket: Path) -> None:
    ends_at = time.monotonic() + READY_SECONDS
    with redis.Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if process.poll() is not None or time.monotonic() > ends_at:
                    raise RuntimeError("redis-server did not start") from None
                time.sleep(0.02)
