"""``coupon-ledger up`` on embedded servers: everything answers, and nothing stays behind however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from coupon_ledger.embedded.guard import read_record

ENDING_SECONDS = 20
CREATE_KEY = ["keys", "create", "--merchant", "m", "--role", "auditor", "--name", "n"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def up(state: Path, free_port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command, and where its API answers."""
    with subprocess.Popen(
        [sys.executable, "-m", "coupon_ledger", "up", "--state", str(state)],
        env=settings(state, free_port),
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        found = re.search(r"http://\S+", command.stdout.readline())
        assert found is not None
        yield command, found[0]
        command.kill()


def settings(state: Path, port: int) -> dict[str, str]:
    """The environment without given servers, so that embedded ones are used."""
    others = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "KAFKA_BOOTSTRAP")}
    return {**others, "COUPON_LEDGER_HTTP_BIND": f"127.0.0.1:{port}", "COUPON_LEDGER_STATE": str(state)}


def left_over(state: Path) -> list[str]:
    """Processes that still have to do with the state folder: servers, guards, and parts of the service."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            home = os.readlink(folder / "cwd")
        except OSError:
            continue
        if int(folder.name) != os.getpid() and (str(state).encode() in words or home.startswith(str(state))):
            found.append(f"{folder.name} {words[:80]!r}")
    return found


def assert_all_end(state: Path) -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    while left := left_over(state):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_it_answers_and_leaves_nothing_behind(
    up: tuple[subprocess.Popen[str], str], state: Path, number: signal.Signals
) -> None:
    command, url = up
    with urllib.request.urlopen(f"{url}/readyz") as answer:
        assert json.load(answer)["status"] == "ok"
    with urllib.request.urlopen(f"{url}/docs") as answer:
        assert answer.status == 200
    assert len(left_over(state)) > 8
    command.send_signal(number)
    command.wait(ENDING_SECONDS)
    assert_all_end(state)


@pytest.mark.parametrize("server", ["postgres", "kafka"])
def test_it_ends_when_a_server_ends(up: tuple[subprocess.Popen[str], str], state: Path, server: str) -> None:
    command, _ = up
    record = read_record(state / f"{server}.pid")
    assert record is not None
    os.kill(record.server_pid, signal.SIGKILL)
    assert command.wait(ENDING_SECONDS) == 1
    assert_all_end(state)


def test_another_command_uses_the_servers_that_are_up(
    up: tuple[subprocess.Popen[str], str], state: Path, free_port: int
) -> None:
    created = subprocess.run(
        [
            sys.executable,
            "-m",
            "coupon_ledger",
            *["keys", "create", "--merchant", "m", "--role", "auditor", "--name", "n"],
        ],
        env=settings(state, free_port),
        capture_output=True,
        text=True,
        check=True,
    )
    request = urllib.request.Request(
        f"{up[1]}/v1/events", headers={"Authorization": f"Bearer {created.stdout.strip()}"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["events"] == []
