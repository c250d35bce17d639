"""The file that holds the key which the seal's checkpoints are signed with, and what lies beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from coupon_ledger.settings import Settings
from coupon_ledger_audit.note import NoteError, SigningKey, VerifierKey
from ledger.errors import LedgerError
from projections.seal.folder import sync_folder, write_whole
from projections.seal.signer import Signer


class SealKeyExists(LedgerError):
    """There is a key, and it stays: what it signed is checked with its other half."""


class SealKeyMissing(LedgerError):
    """There is no key that this ledger's checkpoints could be signed with."""


def make_key(path: Path, origin: str) -> SigningKey:
    """A new key in a file of its own that nobody else may read. Raises ``SealKeyExists`` and ``SealKeyMissing``."""
    try:
        with _written_beside(path, key := SigningKey.generate(origin)) as own:
            os.link(own, path)  # refuses to take the place of another
    except FileExistsError:
        raise SealKeyExists(f"{path} is there already") from None
    except OSError as error:
        raise SealKeyMissing(f"{path} cannot be written: {error.strerror}") from None
    return key


def change_key(path: Path, origin: str) -> SigningKey:
    """A new key in place of the one that is there, which is kept beside it and named among the earlier ones.

    Stopped half way, it leaves a key with which the sealer goes on. Raises ``SealKeyMissing``.
    """
    old = read_key(path, origin)
    known = earlier_keys(path)
    try:
        if old.verifier() not in known:
            write_whole(_earlier_of(path), "".join(f"{each}\n" for each in (*known, old.verifier())).encode())
        with suppress(FileExistsError):  # stopped half way before
            os.link(path, path.with_name(f"{path.name}.{old.verifier().id.hex()}"))
        with _written_beside(path, key := SigningKey.generate(origin)) as own:
            own.replace(path)
    except OSError as error:
        raise SealKeyMissing(f"{path} cannot be changed: {error.strerror}") from None
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


def earlier_keys(path: Path) -> list[VerifierKey]:
    """The public halves of the keys that signed before, a line each in a file beside the key.

    Raises ``SealKeyMissing``.
    """
    path = _earlier_of(path)
    try:
        return [VerifierKey.parse(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, NoteError) as error:
        raise SealKeyMissing(f"{path} holds no public keys: {error}") from None


def signer_of(settings: Settings, key: SigningKey) -> Signer:
    """Who signs for a ledger. What it signed last lies beside the key. Raises ``SealKeyMissing``."""
    path = settings.seal_key_file
    if not os.access(path.parent, os.W_OK):
        raise SealKeyMissing(f"{path.parent} cannot be written, and what is signed is kept there beside the key")
    return Signer(key, path.with_name(f"{path.name}.{settings.schema_}.last"), earlier_keys(path))


def key_of(settings: Settings) -> SigningKey:
    """The key of a ledger that runs on one machine, made at the first time. Raises ``SealKeyMissing``."""
    with suppress(SealKeyExists):  # also when another command was first
        if not settings.seal_key_file.exists():
            make_key(settings.seal_key_file, settings.seal_origin)
    return read_key(settings.seal_key_file, settings.seal_origin)


def _earlier_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.earlier")


@contextmanager
def _written_beside(path: Path, key: SigningKey) -> Iterator[Path]:
    """The key in another file, which is gone in the end, and what was done with it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{key.text()}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        yield own
        sync_folder(path.parent)
    finally:
        own.unlink(missing_ok=True)
