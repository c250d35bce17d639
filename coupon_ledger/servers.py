"""Where PostgreSQL and Kafka are: the ones that settings name, else embedded ones for as long as the command runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from coupon_ledger.embedded import EmbeddedKafka, EmbeddedPostgres
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.database import PROJECTOR_ROLE
from ledger.migrate import migrate
from ledger.store import Store
from projections import checkpoints
from projections.catalogue import PROJECTIONS


@contextmanager
def servers(settings: Settings, *, kafka: bool = False) -> Iterator[Settings]:
    """Settings with every address known.

    An embedded server that another command already runs in the state folder is used and left alone. An embedded
    database is migrated, so that a single command works on a fresh machine; a given one is its owner's to migrate.
    """
    with ExitStack() as stack:
        known: dict[str, str] = {}
        if settings.database_url is None:
            known["database_url"] = stack.enter_context(EmbeddedPostgres(settings.state)).address
            if settings.code_keys is None:
                known["code_keys"] = key_in(settings.state, "code-key")
            if settings.personal_keys is None:
                known["personal_keys"] = key_in(settings.state, "personal-key")
            prepare(settings.model_copy(update=known))
        if kafka and settings.kafka_bootstrap is None:
            known["kafka_bootstrap"] = stack.enter_context(EmbeddedKafka(settings.state)).address
        yield settings.model_copy(update=known)


def prepare(settings: Settings) -> list[str]:
    """Bring the schema up to this release, with its read models' tables; the names of the migrations applied."""
    applied = migrate(settings.required_database_url, settings.schema_)
    checkpoints.install(settings.database(PROJECTOR_ROLE), PROJECTIONS)
    return applied


def key_in(state: Path, name: str) -> str:
    """The key of this name that lies beside an embedded database, made at the first time."""
    path, own = state / name, state / f".{name}.{os.getpid()}"
    if not path.exists():
        own.touch(0o600)
        own.write_text(f"embedded={secrets.token_urlsafe(32)}", "utf-8")
        with suppress(FileExistsError):  # another command was first, and its key is the one
            os.link(own, path)
        own.unlink()
    return path.read_text("utf-8")


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """A ledger on the settings' database."""
    ledger = Ledger(Store(settings.database(), settings.database_pool_size))
    try:
        yield ledger
    finally:
        ledger.close()
