"""What the tests of the embedded servers share: owners to kill, and a check that nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coupon_ledger.embedded.guard import Record, read_record

_CHECKOUT = Path(__file__).parents[2]
_OWNER = """
import os, sys, time
from pathlib import Path
import coupon_ledger.embedded as embedded
server = getattr(embedded, sys.argv[1])(Path(sys.argv[2]))
server.start()
{then}
print(server.owned, server.address, flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass
class Owner:
    """Another Python process that starts a server, says so, and stops it when its standard input ends."""

    process: subprocess.Popen[str]

    def said(self) -> tuple[bool, str]:
        """Whether it owns the server, and the server's address; waits for it."""
        assert self.process.stdout is not None
        owned, address = self.process.stdout.readline().split()
        return owned == "True", address

    def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0


@pytest.fixture
def spawn_owner() -> Iterator[Callable[..., Owner]]:
    """Spawns owners; `then` is code that each runs once its server has started."""
    owners: list[Owner] = []

    def spawn(kind: str, state: Path, then: str = "") -> Owner:
        process = subprocess.Popen(
            [sys.executable, "-c", _OWNER.format(then=then), kind, str(state)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_CHECKOUT), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(Owner(process))
        return owners[-1]

    yield spawn
    for owner in owners:
        owner.process.kill()
        owner.process.wait()
        for pipe in (owner.process.stdin, owner.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def stand_in() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Spawns processes that do nothing, to be named in pid files."""
    processes: list[subprocess.Popen[bytes]] = []

    def spawn(user: int | None = None) -> subprocess.Popen[bytes]:
        # A session of its own, as a server has: what ends it goes to its group.
        processes.append(subprocess.Popen(["sleep", "120"], start_new_session=True, user=user))
        return processes[-1]

    yield spawn
    for process in processes:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def ends() -> Callable[[Record], bool]:
    """Whether both processes of a record end within a few seconds."""
    return lambda record: wait_until(lambda: not record.server_lives and not record.guard_lives)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """After each test no server runs on its folders."""
    yield
    left = [record for path in tmp_path.rglob("*.pid") if (record := read_record(path)) is not None]
    assert all(wait_until(lambda record=record: not record.server_lives) for record in left)  # type: ignore[misc]
