"""The guard: the small parent process of one embedded server, which ends the server when its owner is gone.

The owner runs this file as a script (standard library only, so it starts fast and stays small), writes one
line of JSON (a `Launch`) to its standard input and keeps that pipe open. However the owner ends, `kill -9`
included, the kernel closes the pipe, the guard reads end of file and stops the server. Should the guard
itself be killed, Linux sends the server its death signal.

`coupon_ledger.embedded.life` is the owner's side.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

RUN_FOLDER_PREFIX = "coupon-ledger-"
_PR_SET_PDEATHSIG = 1
_KILL_WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class Launch:
    """What the owner tells the guard: how to start the server, how to stop it, and where to write of it."""

    command: Sequence[str]
    cwd: str
    environment: dict[str, str]
    log: str
    record: str
    address: str
    #: The server's user and group ids, or None to keep the owner's.
    user: tuple[int, int] | None
    #: (signal, seconds to wait for its effect), tried in turn; SIGKILL follows the last one.
    stop_signals: Sequence[tuple[int, float]]
    #: The signal that Linux sends to the server when the guard dies.
    death_signal: int
    #: A temporary folder that is deleted once the server has ended, or None.
    run_folder: str | None


@dataclass(frozen=True)
class Record:
    """The pid file: which processes serve a state folder, and at what address."""

    server_pid: int
    server_mark: str
    guard_pid: int
    guard_mark: str
    address: str
    run_folder: str | None
    stopping: bool = False

    @property
    def server_lives(self) -> bool:
        """True while the recorded server runs; False for another process that got its pid."""
        return process_mark(self.server_pid) == self.server_mark

    @property
    def guard_lives(self) -> bool:
        """True while the recorded guard runs; False for another process that got its pid."""
        return process_mark(self.guard_pid) == self.guard_mark

    def write(self, path: Path) -> None:
        """Write the pid file whole or not at all, so that no reader ever sees half of it."""
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        new.write_text(json.dumps(asdict(self)) + "\n")
        new.replace(path)


def read_record(path: Path) -> Record | None:
    """The pid file's content, or None where there is none or it holds something else."""
    try:
        return Record(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def process_mark(pid: int) -> str | None:
    """A text that no other process shares, even one that later gets the same pid; None for a dead process.

    On Linux it is the boot's id and the start time in clock ticks since that boot; elsewhere what `ps` says.
    """
    if not sys.platform.startswith("linux"):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return answer.stdout.strip() or None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The command's name, the second field, may hold blanks and brackets: the fields are counted from its end.
    fields = stat[stat.rindex(")") + 2 :].split()
    # A zombie (a dead process that nobody has waited for) serves nobody.
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def end_process(pid: int, mark: str, stop_signals: Sequence[tuple[int, float]]) -> None:
    """Stop the marked process, at the end by SIGKILL to its group; another process with its pid is spared."""
    for number, seconds in (*stop_signals, (signal.SIGKILL, _KILL_WAIT_SECONDS)):
        if process_mark(pid) != mark:
            return
        try:
            # Every server leads a group of its own, so SIGKILL also takes helpers that it started.
            (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while process_mark(pid) == mark and time.monotonic() < deadline:
            time.sleep(0.02)


def remove_traces(record: Record, path: Path) -> None:
    """Delete an ended server's temporary folder and its pid file, unless the pid file is by now another's."""
    if record.run_folder and Path(record.run_folder).name.startswith(RUN_FOLDER_PREFIX):
        shutil.rmtree(record.run_folder, ignore_errors=True)
    now = read_record(path)
    if now is not None and (now.guard_pid, now.guard_mark) == (record.guard_pid, record.guard_mark):
        path.unlink(missing_ok=True)


def die_with_parent(number: int) -> Callable[[], None] | None:
    """For ``preexec_fn``: the child asks Linux for this signal at the death of the process that starts it."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    guard_pid = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        # The guard may have died before the request: nothing would come any more.
        if os.getppid() != guard_pid:
            os._exit(1)

    return ask


def _start_server(launch: Launch) -> subprocess.Popen[bytes]:
    uid, gid = launch.user or (None, None)
    with open(launch.log, "ab") as log:
        return subprocess.Popen(
            launch.command,
            cwd=launch.cwd,
            env=launch.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            # It runs after the change of user, which would clear the request. The guard has no other thread.
            preexec_fn=die_with_parent(launch.death_signal),  # noqa: PLW1509
        )


def _wait_for_an_end(server: subprocess.Popen[bytes], owner: int, signals: int) -> None:
    """Return when the server has ended, the owner's pipe has closed, or SIGTERM told this guard to end."""
    while server.poll() is None:
        ready, _, _ = select.select([owner, signals], [], [])
        if owner in ready and not os.read(owner, 4096):
            return
        if signals in ready and signal.SIGTERM in os.read(signals, 4096):
            return


def main() -> int:
    """Guard one server until it or its owner ends; returns the server's exit code."""
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: the server would inherit an ignored signal.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with open(0, "rb", buffering=0, closefd=False) as pipe:
        line = pipe.readline()
    if not line.endswith(b"\n"):
        return 1  # The owner died before it had said anything.
    launch = Launch(**json.loads(line))
    server = _start_server(launch)
    path = Path(launch.record)
    record = Record(
        server_pid=server.pid,
        server_mark=process_mark(server.pid) or "ended",
        guard_pid=os.getpid(),
        guard_mark=process_mark(os.getpid()) or "",
        address=launch.address,
        run_folder=launch.run_folder,
    )
    record.write(path)
    _wait_for_an_end(server, owner=0, signals=signals)
    if server.poll() is None:
        # Said before the first signal, so that nobody attaches to a server that is on its way out.
        replace(record, stopping=True).write(path)
        end_process(record.server_pid, record.server_mark, launch.stop_signals)
    code = server.wait()
    remove_traces(record, path)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
