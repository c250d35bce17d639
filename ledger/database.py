"""Where a ledger lives, and how its sessions are opened: the schema, the role, and what bounds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg

APP_ROLE = "coupon_ledger_app"
PROJECTOR_ROLE = "coupon_ledger_projector"
SCHEMA_LIMIT_BYTES = 56
"""So that the followers' channel, the schema with ``_events`` behind it, is no longer than 63 bytes."""
CONNECT_TIMEOUT_SECONDS = 2
NETWORK_LIMITS = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""Seconds, but for the last in milliseconds: a server that vanished without a word is given up, not waited for."""
PLANS = {"plan_cache_mode": "force_generic_plan"}
"""Statements here find rows by key, whatever the values are: planning for the values costs more than finding."""
SESSION_LIMITS = {"lock_timeout": "2s", "idle_in_transaction_session_timeout": "10s"}
"""Of every session: nobody waits long for a lock, and a frozen process does not keep one."""
ROLE_LIMITS = {
    # Callers wait for each of its statements, and all other writers for the whole of its transactions.
    APP_ROLE: {"statement_timeout": "30s", "transaction_timeout": "60s"},
    # Nobody waits for it and it keeps no writer waiting; the first fold of a long log builds whole tables.
    PROJECTOR_ROLE: {"statement_timeout": "5min"},
}
"""Sent by the session: ``alter role ... set`` takes effect at a login under that role, and not at ``set role``."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where one ledger lives: a server, a schema, and the role that sessions take."""

    url: str
    schema: str = "coupon_ledger"
    role: str = APP_ROLE

    def __post_init__(self) -> None:
        if not 1 <= len(self.schema.encode()) <= SCHEMA_LIMIT_BYTES:
            raise ValueError(f"a ledger's schema has a name of 1 to {SCHEMA_LIMIT_BYTES} bytes")

    def connect(self, **kwargs: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of its own, in autocommit, for long-lived readers and the LISTEN of followers."""
        return psycopg.connect(self.url, autocommit=True, **(self.session() | kwargs))

    def session(self) -> dict[str, Any]:
        """Keyword arguments of every connection: the schema first in the path, the role, and the bounds."""
        path = '"' + self.schema.replace('"', '""') + '"'
        settings = {"search_path": path, "role": self.role, "timezone": "UTC"} | PLANS
        settings |= SESSION_LIMITS | ROLE_LIMITS.get(self.role, ROLE_LIMITS[APP_ROLE])
        escaped = {name: re.sub(r"([\\\s])", r"\\\1", value) for name, value in settings.items() if value}
        options = " ".join(f"-c {name}={value}" for name, value in escaped.items())
        return {"options": options, "connect_timeout": CONNECT_TIMEOUT_SECONDS} | NETWORK_LIMITS
