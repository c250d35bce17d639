"""The whole service on one machine, for ``up`` and ``demo``: servers, then each part as a process of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from consumers.topics import ensure_topics
from coupon_ledger.embedded.guard import read_record
from coupon_ledger.processes import ProcessEnded, Processes, running, wait_until_ready
from coupon_ledger.seal_keys import key_of
from coupon_ledger.servers import prepare, servers
from coupon_ledger.settings import Settings

_IMPORT_ISSUANCE = ("issuance", "issuance-2")
"""While history is imported, one decodes messages while PostgreSQL writes what the other decided."""
_INPUTS = ("issuance", "orders", "members")
_LIVE = {
    "sweeper": ("expire", "--follow"),
    "publisher": ("publish",),
    "deliveries": ("deliver",),
    "reminders": ("consume", "reminders"),
    "scanner": ("remind",),
    "alerts": ("alert",),
}
"""What runs by today's clock, or tells others: not while history is imported."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs."""

    settings: Settings
    """With the addresses of the servers."""
    processes: Processes
    url: str
    """Where the API answers."""
    embedded: tuple[str, ...]
    """The embedded servers that it stands on."""

    def go_live(self) -> None:
        """End an import (docs/import.md): consumers decide by the database clock again, and the sweeper starts."""
        self.processes.stop(*_IMPORT_ISSUANCE, "orders", "members")
        for name in _INPUTS:
            self.processes.start(name, "consume", name, "--business-time", "live")
        _start_live(self.processes)

    def wait(self) -> None:
        """Return when a signal interrupts. Raises ``ProcessEnded`` when a process ends by itself."""
        while True:
            time.sleep(0.5)
            self.processes.check()
            for name in self.embedded:
                record = read_record(self.settings.state / f"{name}.pid")
                if record is None or not record.server_lives:
                    raise ProcessEnded(f"{name} ended; see {self.settings.state / f'{name}.log'}")


@contextmanager
def service(settings: Settings, *, importing: bool = False) -> Iterator[Service]:
    """Everything up and answering; everything down again however the block ends.

    While ``importing`` there is no sweeper, for by today's clock history has expired, and nobody is told of anything.
    ``Service.go_live`` ends it.
    """
    with servers(settings, kafka=True) as found:
        resolved = found.model_copy(update={"http_bind": _free_bind(found.http_bind)})
        prepare(resolved)
        key_of(resolved)
        ensure_topics(resolved.bootstrap_servers, resolved.topic_prefix)
        with running(resolved.state / "logs", resolved.as_environment()) as processes:
            processes.start("api", "serve")
            for name in _IMPORT_ISSUANCE if importing else ("issuance",):
                processes.start(name, "consume", "issuance")
            processes.start("orders", "consume", "orders")
            processes.start("members", "consume", "members")
            processes.start("projector", "project")
            processes.start("seal", "seal")
            processes.start("jobs", "jobs", "run")
            if not importing:
                _start_live(processes)
            url = f"http://{resolved.http_bind}"
            wait_until_ready(url, processes)
            given = {"postgres": settings.database_url, "kafka": settings.kafka_bootstrap}
            yield Service(resolved, processes, url, tuple(name for name, address in given.items() if address is None))


def _start_live(processes: Processes) -> None:
    for name, command in _LIVE.items():
        processes.start(name, *command)


def _free_bind(bind: str) -> str:
    """The address, with another port when somebody already listens there."""
    host, port = bind.rsplit(":", 1)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
