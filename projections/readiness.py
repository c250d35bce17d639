"""Whether a ledger can do its work: for the API's probe, the command line and health checks of containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import psycopg

from ledger.errors import LedgerError
from ledger.migrate import pending_migrations
from ledger.store import Store
from projections import standings
from projections.seal.standing import standing

HIDDEN = ("fault", "updated_at")


def readiness(store: Store) -> dict[str, dict[str, Any]]:
    """What was looked at, each with ``ok`` and details: the database, its migrations, the read models."""
    return {
        "database": _checked(lambda: {"ok": True, "head": store.head()}),
        "migrations": _checked(lambda: _migrations(store)),
        "projections": _checked(lambda: _projections(store)),
        "seal": _checked(lambda: _seal(store)),
    }


def _checked(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check()
    except LedgerError as error:
        return {"ok": False, "code": error.code()}


def _migrations(store: Store) -> dict[str, Any]:
    with store.connection() as connection:
        pending = pending_migrations(connection)
    return {"ok": not pending, "pending": pending}


def _projections(store: Store) -> dict[str, Any]:
    with store.connection() as connection:
        models = standings.read_models(connection)
    # Without the text of a fault: probes are public, and it may quote an event.
    shown = [{name: value for name, value in asdict(model).items() if name not in HIDDEN} for model in models]
    return {"ok": all(model.state == "RUNNING" for model in models), "models": shown}


def _seal(store: Store) -> dict[str, Any]:
    """It is told, and fails nothing: the ledger decides the same, and takes nothing from what is sealed."""
    try:
        with store.connection() as connection:
            seal = standing(connection)
    except psycopg.errors.UndefinedTable:  # the migrations are told of by their own entry
        return {"ok": True, "state": "NONE"}
    return {"ok": True, "state": seal.state, "size": seal.size, "unsealed_seconds": seal.unsealed_seconds}
