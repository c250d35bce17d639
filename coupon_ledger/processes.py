"""The service's own processes as children of one command: API, consumers, projector, sweeper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coupon_ledger.embedded.guard import die_with_parent
from ledger.errors import LedgerError

STOP_SECONDS = 10.0
READY_SECONDS = 30.0


class ProcessEnded(LedgerError):
    """A process of the service ended by itself."""


@dataclass(slots=True)
class Processes:
    """Running children by name."""

    logs: Path
    environment: Mapping[str, str]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> None:
        """Start ``coupon-ledger`` with these arguments; its output goes to a log file of that name."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-m", "coupon_ledger", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                # In a session of their own, so that Ctrl-C reaches only the command, which then stops them in order.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  # no threads yet
            )

    def check(self) -> None:
        """Raise ``ProcessEnded`` when one is gone, naming its log."""
        for name, child in self.children.items():
            if child.poll() is not None:
                raise ProcessEnded(f"{name} ended with code {child.returncode}; see {self.logs / f'{name}.log'}")

    def stop(self, *names: str) -> None:
        """Ask these (all, when none is named) to finish what they have in hand, then insist."""
        children = [self.children.pop(name) for name in names or list(self.children)]
        for child in children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def running(logs: Path, environment: Mapping[str, str]) -> Iterator[Processes]:
    """Children that are stopped however the block ends; should the command be killed, Linux stops them."""
    logs.mkdir(parents=True, exist_ok=True)
    processes = Processes(logs, environment)
    try:
        yield processes
    finally:
        processes.stop()


def wait_until_ready(url: str, processes: Processes) -> None:
    """Wait for the API to answer 200 on ``/livez``. Raises ``ProcessEnded``, also when it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        processes.check()
        try:
            with urllib.request.urlopen(f"{url}/livez", timeout=1):  # noqa: S310  # our own loopback address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise ProcessEnded(f"the API did not answer within {READY_SECONDS:.0f} s; see {processes.logs / 'api.log'}")
