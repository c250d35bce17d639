"""Sealing a test's ledger, and breaking what only the owner of the database can break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from coupon_ledger_audit.note import SigningKey
from ledger.database import Database
from projections.seal.anchors import Anchor
from projections.seal.checkpoints import Signed
from projections.seal.folder import SealFolder
from projections.seal.sealer import SEALER_ROLE, Sealer
from projections.seal.signer import Signer

ORIGIN = "shop.example/coupons"
KEY = SigningKey.generate(ORIGIN)


def sealer_of(
    database: Database,
    folder: Path,
    key: SigningKey = KEY,
    anchors: tuple[Anchor, ...] = (),
    earlier: Sequence[SigningKey] = (),
) -> Sealer:
    """A sealer as the service has it. What it signed last lies beside the folder."""
    signer = Signer(key, last_of(folder), [each.verifier() for each in earlier])
    return Sealer(Database(database.url, database.schema, SEALER_ROLE), SealFolder(folder), signer, anchors)


def last_of(folder: Path) -> Path:
    """The file that has what was signed last."""
    return folder.with_name(f"{folder.name}.last")


def seal(database: Database, folder: Path, key: SigningKey = KEY, earlier: Sequence[SigningKey] = ()) -> Signed | None:
    """Seal what is not sealed; the newest checkpoint where there is a new one."""
    with leading(sealer_of(database, folder, key, earlier=earlier)) as (sealer, connection):
        while sealer.step(connection):
            pass
        return sealer.sign(connection)


@contextmanager
def leading(sealer: Sealer) -> Iterator[tuple[Sealer, psycopg.Connection[Any]]]:
    """A sealer that has the lead."""
    with sealer.database.connect() as connection:
        assert sealer.lead(connection)
        yield sealer, connection


@contextmanager
def superuser(database: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Somebody for whom neither grants nor triggers hold."""
    path = f"-c search_path={database.schema} -c session_replication_role=replica"
    with psycopg.connect(database.url, autocommit=True, options=path) as connection:
        yield connection
