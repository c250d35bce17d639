"""API keys: a caller's proof of who it is, bound to one merchant and one role.

A token is ``<key id>.<secret>`` and is shown once. The table keeps a SHA-256 of the secret: the secret has 256 random
bits, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import psycopg
from psycopg.rows import dict_row

from ledger.errors import InvalidField
from ledger.store import Store

Role = Literal["operator", "orders", "till", "shopper-app", "auditor", "analyst"]
ROLES: tuple[Role, ...] = get_args(Role)
CACHE_SECONDS = 2.0
"""How long a revoked key may still pass in a process that used it a moment ago."""
CACHED_KEYS = 10_000

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as its key says."""

    key_id: str
    merchant_id: str
    role: Role
    secret_hash: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key as an operator sees it, without its secret."""

    key_id: str
    merchant_id: str
    role: Role
    name: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def create(connection: Connection, merchant_id: str, role: Role, name: str, expires_at: datetime | None = None) -> str:
    """Make a key and return its token, which cannot be had again. Raises ``InvalidField``."""
    if role not in ROLES:
        raise InvalidField(f"a role is one of {', '.join(ROLES)}", field="role")
    for field, value in (("merchant_id", merchant_id), ("name", name)):
        if not 1 <= len(value) <= 128 or not value.isprintable():
            raise InvalidField(f"{field} is 1 to 128 printable characters", field=field)
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidField("expires_at needs a time zone", field="expires_at")
    key_id, secret = f"ck_{secrets.token_hex(8)}", secrets.token_urlsafe(32)
    connection.execute(
        "insert into api_keys (key_id, secret_hash, merchant_id, role, name, expires_at)"
        " values (%s, %s, %s, %s, %s, %s)",
        (key_id, _digest(secret), merchant_id, role, name, expires_at),
    )
    return f"{key_id}.{secret}"


def list_keys(connection: Connection, merchant_id: str | None = None) -> list[Key]:
    """The keys of one merchant, or of all, oldest first."""
    cursor = connection.cursor(row_factory=dict_row)
    rows = cursor.execute(
        "select key_id, merchant_id, role, name, created_at, expires_at, revoked_at from api_keys"
        " where %(merchant)s::text is null or merchant_id = %(merchant)s order by created_at, key_id",
        {"merchant": merchant_id},
    )
    return [Key(**row) for row in rows]


def revoke(connection: Connection, key_id: str) -> bool:
    """End a key now; False when there is no such key or it had ended before."""
    cursor = connection.execute(
        "update api_keys set revoked_at = clock_timestamp() where key_id = %s and revoked_at is null", (key_id,)
    )
    return cursor.rowcount == 1


class Keyring:
    """Checks tokens against the table, and remembers a key's row for ``CACHE_SECONDS``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def verify(self, token: str) -> Caller | None:
        """The caller whose token it is; ``None`` for a token that is unknown, wrong, expired or revoked.

        Raises ``Unavailable`` when the table cannot be asked.
        """
        key_id, _, secret = token.partition(".")
        row = self._row(key_id)
        # An unknown key is compared too, so that the time taken does not tell which ids exist.
        known = secrets.compare_digest(_digest(secret), bytes(row["secret_hash"]) if row else bytes(32))
        if row is None or not known or row["revoked_at"] is not None:
            return None
        if row["expires_at"] is not None and row["expires_at"] <= self._store.now():
            return None
        return Caller(row["key_id"], row["merchant_id"], row["role"], bytes(row["secret_hash"]))

    def _row(self, key_id: str) -> Mapping[str, Any] | None:
        read_at, row = self._rows.get(key_id, (0.0, None))
        if row is not None and time.monotonic() - read_at < CACHE_SECONDS:
            return row
        self._rows.pop(key_id, None)
        if not key_id.isascii() or not key_id.isprintable() or len(key_id) > 64:
            return None
        with self._store.connection() as connection:
            row = connection.execute("select * from api_keys where key_id = %s", (key_id,)).fetchone()
        if row is not None:
            if len(self._rows) >= CACHED_KEYS:
                self._rows.clear()
            self._rows[key_id] = (time.monotonic(), row)
        return row


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
