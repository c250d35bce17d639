"""The life of an embedded server, from its owner's side: started once per state folder, attached to, ended.

Every server runs under a guard of its own (`coupon_ledger.embedded.guard`). A lock file in the state folder
makes commands that start at the same instant take turns: the first starts the server, the others attach.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from coupon_ledger.embedded import guard
from coupon_ledger.embedded.guard import Launch, Record, end_process, read_record, remove_traces

#: Longer than any start may take, the first one with its downloads included.
LOCK_SECONDS = 600.0
_ATTACH_SECONDS = 60.0
_LOG_LIMIT_BYTES = 10_000_000


class EmbeddedServerError(Exception):
    """An embedded server cannot be had; the message is one line that says why and what to do."""


@contextmanager
def locked(path: Path, timeout_seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold an exclusive lock on a file among processes; it ends with the process, however that ends.

    Raises EmbeddedServerError when another process holds it for longer than the timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    with open(path, "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(f"another command holds {path} too long") from None
                time.sleep(0.02)
        yield


class GuardedServer(ABC):
    """One server on one state folder. `start` and `stop` may be called again; use it as a context manager."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: (signal, seconds to wait for its effect), tried in turn before SIGKILL.
    stop_signals: tuple[tuple[int, float], ...]
    ready_seconds: ClassVar[float]

    def __init__(self, state: Path) -> None:
        self.state = Path(state).resolve()
        self.data = self.state / self.name
        self.log = self.state / f"{self.name}.log"
        #: Where the server listens; empty before `start` and after `stop`.
        self.address = ""
        self._record_path = self.state / f"{self.name}.pid"
        self._guard: subprocess.Popen[bytes] | None = None
        _servers.add(self)

    @property
    def owned(self) -> bool:
        """True when this object started the server and will stop it; False when it attached to another's."""
        return self._guard is not None

    def start(self) -> str:
        """Start the server, or attach to the one that already serves this state folder; returns its address.

        Raises EmbeddedServerError. All waits are bounded.
        """
        if self._guard is not None and self._guard.poll() is None:
            return self.address
        self.stop()
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            with locked(self._lock_path):
                self.address = self._attach() or self._start()
        except OSError as error:
            message = f"{self.title} cannot use the state folder {self.state}: {error}"
            raise EmbeddedServerError(message) from error
        return self.address

    def stop(self) -> None:
        """Stop the server if this object started it, and return once it has ended; else leave it alone."""
        owned, self._guard, self.address = self._guard, None, ""
        if owned is None:
            return
        assert owned.stdin is not None
        # The end of the pipe is what the guard waits for.
        owned.stdin.close()
        try:
            owned.wait(sum(seconds for _, seconds in self.stop_signals) + 10.0)
        except subprocess.TimeoutExpired:
            owned.kill()
            owned.wait()
        record = read_record(self._record_path)
        if record is not None and record.guard_pid == owned.pid:
            # The guard was killed and could not tidy up. Another command may be starting: take turns.
            with locked(self._lock_path):
                self._end_leftover(record)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _start(self) -> str:
        """Prepare the data and the command, call `_launch`, and return the address."""

    @abstractmethod
    def _ready(self, address: str) -> bool:
        """One bounded attempt to get a real answer from the server."""

    @property
    def _lock_path(self) -> Path:
        return self.state / f"{self.name}.lock"

    def _attach(self) -> str | None:
        """The address of the server that already serves this state folder, or None where none does."""
        deadline = time.monotonic() + _ATTACH_SECONDS
        while (record := read_record(self._record_path)) is not None:
            if not (record.guard_lives and record.server_lives):
                self._end_leftover(record)
                return None
            if not record.stopping and self._ready(record.address):
                return record.address
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"{self.title} (process {record.server_pid}) does not answer; see {self.log}")
            time.sleep(0.05)
        return None

    def _end_leftover(self, record: Record) -> None:
        """End what is left of an earlier run: its server, its guard, its temporary folder, its pid file."""
        end_process(record.server_pid, record.server_mark, self.stop_signals)
        # A guard whose server has ended ends by itself; it gets a moment to do so.
        deadline = time.monotonic() + 5.0
        while record.guard_lives and time.monotonic() < deadline:
            time.sleep(0.02)
        end_process(record.guard_pid, record.guard_mark, ())
        remove_traces(record, self._record_path)

    def _launch(self, launch: Launch) -> bool:
        """Run the server under a new guard; True when it answers, False when it ended before that.

        Raises EmbeddedServerError when it neither answers nor ends within `ready_seconds`.
        """
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with open(self.log, "ab") as log:
            self._guard = subprocess.Popen(
                # As a file and isolated: neither the working folder nor PYTHON* settings change what runs.
                [sys.executable, "-I", "-S", guard.__file__],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # A session of its own, so that Ctrl-C and a closed terminal reach neither guard nor server.
                start_new_session=True,
            )
        assert self._guard.stdin is not None
        deadline = time.monotonic() + self.ready_seconds
        try:
            self._guard.stdin.write(json.dumps(asdict(launch)).encode() + b"\n")
            self._guard.stdin.flush()
            while self._guard.poll() is None and time.monotonic() < deadline:
                if self._ready(launch.address):
                    return True
                time.sleep(0.03)
        except BaseException:
            self.stop()
            raise
        ended = self._guard.poll() is not None
        self.stop()
        if ended:
            return False
        raise EmbeddedServerError(f"{self.title} gave no answer in {self.ready_seconds:.0f} s; see {self.log}")


_servers: weakref.WeakSet[GuardedServer] = weakref.WeakSet()


def _disown_in_child() -> None:
    """Close a forked child's copies of the pipes: else a server would live on as long as the child."""
    for server in _servers:
        if server._guard is not None and server._guard.stdin is not None:
            server._guard.stdin.close()
            server._guard = None


os.register_at_fork(after_in_child=_disown_in_child)
