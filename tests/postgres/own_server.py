"""A PostgreSQL of one test, to stop, crash, fill and start again under the same address; and disks that are small."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from coupon_ledger.embedded import EmbeddedPostgres
from coupon_ledger.embedded.guard import read_record


class OwnServer:
    """A server whose ``url`` stays the same over its lives, as that of a service in a cluster does."""

    def __init__(self, state: Path, settings: Mapping[str, str] | None = None) -> None:
        self._server = EmbeddedPostgres(state, settings)
        # The path of a unix socket is limited to about a hundred bytes, so it cannot be pytest's folder.
        self._folder = Path(tempfile.mkdtemp(prefix="own-server-", dir="/tmp"))
        self._link = self._folder / "socket"
        self.url = make_conninfo(host=str(self._link), user="postgres", dbname="postgres")

    def __enter__(self) -> OwnServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server, or find it alive."""
        address = conninfo_to_dict(self._server.start())
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(str(address["host"]))

    def stop(self) -> None:
        """Stop the server as an administrator does who does not wait for sessions to end."""
        self._server.stop()

    def crash(self) -> None:
        """Stop it at once, with nothing written that was not flushed; the next start recovers from the log."""
        record = read_record(self._server.state / "postgres.pid")
        assert record is not None
        os.kill(record.server_pid, signal.SIGQUIT)
        wait_until(lambda: not record.server_lives and not record.guard_lives)

    @property
    def alive(self) -> bool:
        record = read_record(self._server.state / "postgres.pid")
        return record is not None and record.server_lives

    @property
    def user(self) -> int:
        """The id of the user as whom it runs."""
        return self._server.data.stat().st_uid

    @property
    def log(self) -> str:
        """What the server wrote of its life."""
        return self._server.log.read_text(errors="replace")

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser, each by itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class SmallDisk:
    """A disk of some megabytes, that ``fill`` leaves without a byte and ``free`` gives back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for block in (1 << 20, 1 << 12):
                try:
                    while True:
                        ballast.write(bytes(block))
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """A real file system of that size. Mounting takes root, which continuous integration is."""
    path = Path(tempfile.mkdtemp(prefix="small-disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    assert mounted.returncode == 0, f"a full disk takes a small one, and mounting it takes root: {mounted.stderr}"
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
        path.rmdir()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it is so; fail after a while, so that a test cannot hang."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to be")
