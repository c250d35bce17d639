"""The file that holds the key which the seal's checkpoints are signed with."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from coupon_ledger.settings import Settings
from coupon_ledger_audit.note import NoteError, SigningKey
from ledger.errors import LedgerError


class SealKeyExists(LedgerError):
    """There is a key, and it stays: what it signed is checked with its other half."""


class SealKeyMissing(LedgerError):
    """There is no key that this ledger's checkpoints could be signed with."""


def make_key(path: Path, origin: str) -> SigningKey:
    """A new key in a file of its own that nobody else may read. Raises ``SealKeyExists`` and ``SealKeyMissing``."""
    try:
        key = SigningKey.generate(origin)
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{key.text()}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(own, path)  # refuses to take the place of another
        finally:
            own.unlink()
    except FileExistsError:
        raise SealKeyExists(f"{path} is there already") from None
    except OSError as error:
        raise SealKeyMissing(f"{path} cannot be written: {error.strerror}") from None
    return key


def read_key(path: Path, origin: str) -> SigningKey:
    """The key of a file, for the log of this name. Raises ``SealKeyMissing``."""
    try:
        key = SigningKey.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SealKeyMissing(f"there is no key in {path}: run coupon-ledger keys seal") from None
    except (OSError, UnicodeDecodeError, NoteError) as error:
        raise SealKeyMissing(f"{path} holds no key: {error}") from None
    if key.name != origin:
        raise SealKeyMissing(
            f"the key in {path} is of the log {key.name!r}, and COUPON_LEDGER_SEAL_ORIGIN is {origin!r}"
        )
    return key


def key_of(settings: Settings) -> SigningKey:
    """The key of a ledger that runs on one machine, made at the first time. Raises ``SealKeyMissing``."""
    with suppress(SealKeyExists):  # also when another command was first
        if not settings.seal_key_file.exists():
            make_key(settings.seal_key_file, settings.seal_origin)
    return read_key(settings.seal_key_file, settings.seal_origin)
