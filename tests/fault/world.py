"""The whole service on servers of its own, each part a process that can be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import trustme

from consumers import topics
from consumers.topics import ensure_topics
from coupon_ledger.embedded import EmbeddedKafka, EmbeddedPostgres
from coupon_ledger.embedded.guard import read_record
from coupon_ledger.servers import prepare
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.errors import ServiceError
from ledger.store import Store
from tests.fault.schedule import CONSUMERS, Fault
from tests.receivers.receiver import Receiver, receiving

COMMANDS: dict[str, tuple[str, ...]] = {
    **{name: ("consume", name.partition("-")[0]) for name in CONSUMERS},
    "publisher": ("publish",),
    "projector": ("project",),
    "sweeper": ("expire", "--follow"),
    "scanner": ("remind",),
    "jobs": ("jobs", "run"),
    "deliverer": ("deliver",),
    "alerts": ("alert",),
    "api": ("serve",),
}
BACKENDS = (
    "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    " order by backend_start"
)
READY_SECONDS = 90.0
DOWN_SECONDS = 0.3
"""How long a killed process stays away."""
FROZEN_SECONDS = 2.0
JOINED_SECONDS = 2.0


@dataclass
class World:
    """A service that things happen to."""

    settings: Settings
    kafka: EmbeddedKafka
    ledger: Ledger
    logs: Path
    receiver: Receiver
    """The web server of every merchant."""
    authority: Path
    """Who vouches for it."""
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.settings.http_bind}"

    def start(self, name: str, *command: str) -> None:
        """Start a part of the service; its output goes to a log of that name."""
        self.starts += 1
        with (self.logs / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-m", "coupon_ledger", *(command or COMMANDS[name])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.settings.as_environment(), "SSL_CERT_FILE": str(self.authority)},
                start_new_session=True,
            )

    def suffer(self, fault: Fault) -> None:
        """Let it happen, and mend it: what was killed comes back."""
        match fault.kind:
            case "kill":
                kill_all(self.children[fault.process])
                time.sleep(DOWN_SECONDS)
                self.start(fault.process)
            case "freeze":
                os.killpg(self.children[fault.process].pid, signal.SIGSTOP)
                time.sleep(FROZEN_SECONDS)
                os.killpg(self.children[fault.process].pid, signal.SIGCONT)
            case "join":
                name = f"{fault.process}-guest-{self.starts}"
                self.start(name, *COMMANDS[fault.process])
                time.sleep(JOINED_SECONDS)
                kill_all(self.children.pop(name))
            case "backend":
                if pids := self.ask(BACKENDS):
                    with suppress(ProcessLookupError):
                        os.kill(pids[int(fault.draw * len(pids))][0], signal.SIGKILL)
            case "sessions":
                self.ask(f"select pg_terminate_backend(pid) from ({BACKENDS}) b")
            case "broker":
                self.restart_broker()

    def restart_broker(self) -> None:
        """Kill -9, then a start on the same port and data."""
        record = read_record(self.settings.state / "kafka.pid")
        assert record is not None
        os.kill(record.server_pid, signal.SIGKILL)
        self.kafka.stop()
        self.kafka.start()

    def ask(self, query: str, *values: Any, **named: Any) -> list[tuple[Any, ...]]:
        """Ask the database with every right; while it recovers, until it can be asked."""
        return self._execute(query, named or values, psycopg.Cursor.fetchall)

    def tell(self, statement: str, *values: Any) -> None:
        """The same where nothing is answered; what is said may happen twice."""
        self._execute(statement, values, lambda _: [])

    def _execute(
        self, query: str, values: Any, answer: Callable[[psycopg.Cursor], list[tuple[Any, ...]]]
    ) -> list[tuple[Any, ...]]:
        ends_at = time.monotonic() + READY_SECONDS
        database = self.settings.database()
        while True:
            try:
                with psycopg.connect(
                    database.url, autocommit=True, options=f"-c search_path={database.schema}"
                ) as connection:
                    return answer(connection.execute(query, values or None))
            except psycopg.OperationalError:
                if time.monotonic() > ends_at:
                    raise
                time.sleep(0.1)

    def reconnect(self) -> None:
        """Let the ledger of ours find out which of its connections were cut off."""
        for _ in range(2 * self.settings.database_pool_size):
            with suppress(ServiceError):
                self.ledger.store.head()

    def wait_until_up(self) -> None:
        """Wait until the API answers and every partition has a consumer."""
        ends_at = time.monotonic() + READY_SECONDS
        while not self._is_up():
            assert time.monotonic() < ends_at, f"the service did not come up; see {self.logs}"
            self.revive()
            time.sleep(0.2)

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                pass
        except OSError:
            return False
        return self.ask("select count(*) from kafka_offsets") == [(sum(topics.PARTITIONS.values()),)]

    def revive(self) -> None:
        """Start what ended by itself: a supervisor would."""
        for name, child in list(self.children.items()):
            if child.poll() is not None and name in COMMANDS:
                self.start(name)


def kill_all(child: subprocess.Popen[bytes]) -> None:
    """Kill -9 the process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@contextmanager
def world(state: Path) -> Iterator[World]:
    """Servers and the whole service in this folder, until the block ends."""
    logs = state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(state))
        kafka = stack.enter_context(EmbeddedKafka(state))
        settings = Settings(state=state).model_copy(
            update={
                "database_url": postgres.address,
                "kafka_bootstrap": kafka.address,
                "http_bind": _free_address(),
                "consumer_session_seconds": 6,
                "webhook_private_hosts": "localhost",
            }
        )
        prepare(settings)
        ensure_topics(settings.bootstrap_servers, settings.topic_prefix)
        ledger = Ledger(Store(settings.database(), settings.database_pool_size))
        stack.callback(ledger.close)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(state / "authority.pem"))
        receiver = stack.enter_context(receiving(authority))
        made = World(settings, kafka, ledger, logs, receiver, state / "authority.pem")
        try:
            for name in COMMANDS:
                made.start(name)
            made.wait_until_up()
            yield made
        finally:
            for child in made.children.values():
                kill_all(child)


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
