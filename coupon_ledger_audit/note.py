"""Signed notes and checkpoints: c2sp.org/signed-note, c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature.

A checkpoint is three lines (the log's name, the number of its leaves, its root hash), an empty line, and one line for
each signature. Signatures are Ed25519: by the log over the three lines, by a witness over these and a time.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from coupon_ledger_audit.tree import HASH_SIZE

LOG = 0x01
"""The algorithm byte of a log's Ed25519 key."""
WITNESS = 0x04
"""The algorithm byte of a witness's Ed25519 key, which signs a time as well."""

MOST_BYTES = 256 * 1024
MOST_SIGNATURES = 64
_SIGNATURE_LINE = re.compile("— ([^ +]+) ([A-Za-z0-9+/]+={0,2})")
SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
"""How the number of leaves is written."""
_KEY_SIZE = 32


class NoteError(ValueError):
    """A note, a checkpoint or a key is not what it should be; the text says why."""


@dataclass(frozen=True)
class Checkpoint:
    """What a log states about itself: its name, the number of its leaves, and their root hash."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint of exactly three lines. Raises ``NoteError``.

        Extension lines are not accepted: this log never writes one.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteError("a checkpoint has three lines")
        origin, size, root_text, _ = lines
        if not origin:
            raise NoteError("the checkpoint names no log")
        if not SIZE.fullmatch(size):
            raise NoteError("the size in the checkpoint is not a number")
        root = decoded(root_text)
        if len(root) != HASH_SIZE:
            raise NoteError("the root hash in the checkpoint is not 32 bytes long")
        return cls(origin, int(size), root)


@dataclass(frozen=True)
class VerifierKey:
    """A public key with its name. Its text is ``name+hash+base64``: a *vkey*."""

    name: str
    public: bytes
    algorithm: int = LOG

    def __post_init__(self) -> None:
        if not self.name or any(each.isspace() or each in "+" or ord(each) < 32 for each in self.name):
            raise NoteError("the name of a key is not empty and has neither spaces nor plus signs")
        if len(self.public) != _KEY_SIZE or self.algorithm not in {LOG, WITNESS}:
            raise NoteError("the key is not an Ed25519 key of a log or of a witness")

    @property
    def id(self) -> bytes:
        """The first four bytes of the hash of name, algorithm and key."""
        return sha256(self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.algorithm]) + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key of a vkey's text; blanks around it do not matter. Raises ``NoteError``."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3:
            raise NoteError("the key is not of the form name+hash+base64")
        name, key_id, encoded = parts
        key = decoded(encoded)
        verifier = cls(name, key[1:], key[0] if key else 0)
        if verifier.id.hex() != key_id:
            raise NoteError("the key does not fit its hash")
        return verifier

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises ``NoteError`` unless the signature is this key's over the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature as error:
            raise NoteError(f"the signature of {self.name} is wrong") from error


@dataclass(frozen=True, repr=False)
class SigningKey:
    """A private key with its name. Its text begins with ``PRIVATE+KEY+``; its repr shows no secret."""

    name: str
    seed: bytes
    algorithm: int = LOG

    @classmethod
    def generate(cls, name: str, algorithm: int = LOG) -> SigningKey:
        """A new key from the system's source of randomness."""
        key = cls(name, Ed25519PrivateKey.generate().private_bytes_raw(), algorithm)
        key.verifier()  # refuses a name that no note could carry
        return key

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """The key of its text. Raises ``NoteError``, which never shows the text."""
        parts = text.strip().split("+", 4)
        if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
            raise NoteError("the private key is not of the form PRIVATE+KEY+name+hash+base64")
        _, _, name, key_id, encoded = parts
        seed = decoded(encoded)
        if len(seed) != 1 + _KEY_SIZE:
            raise NoteError("the private key is not an Ed25519 key")
        key = cls(name, seed[1:], seed[0])
        if key.verifier().id.hex() != key_id:
            raise NoteError("the private key does not fit its hash")
        return key

    def text(self) -> str:
        """The secret as text, to be kept in a file that nobody else can read."""
        encoded = base64.b64encode(bytes([self.algorithm]) + self.seed).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier().id.hex()}+{encoded}"

    def verifier(self) -> VerifierKey:
        """The public key that goes with it."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return VerifierKey(self.name, public, self.algorithm)

    def line(self, message: bytes, timestamp: bytes = b"") -> str:
        """The signature line over a message; a witness's carries its time before the signature."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
        return f"— {self.name} {base64.b64encode(self.verifier().id + timestamp + signature).decode()}\n"

    def __repr__(self) -> str:
        return f"SigningKey({self.name})"


def sign(checkpoint: Checkpoint, *keys: SigningKey) -> str:
    """The checkpoint as a note signed by the log's keys: one, or while keys are changed the old and the new."""
    text = checkpoint.text()
    Checkpoint.parse(text)
    if not keys or any(key.algorithm != LOG for key in keys):
        raise NoteError("a checkpoint is signed by keys of a log")
    return text + "\n" + "".join(key.line(text.encode()) for key in keys)


def open_checkpoint(note: str | bytes, verifier: VerifierKey, origin: str) -> Checkpoint:
    """The checkpoint of a note, when the key signed it and it is of the log ``origin``. Raises ``NoteError``.

    Signatures of unknown keys are passed over, as the format demands: witnesses add theirs.
    """
    text, signatures = _split(note)
    found = [signature for name, signature in signatures if name == verifier.name and signature[:4] == verifier.id]
    if not found or verifier.algorithm != LOG:
        raise NoteError(f"the checkpoint is not signed by {verifier.name}+{verifier.id.hex()}")
    for signature in found:
        verifier.verify(signature[4:], text.encode())
    checkpoint = Checkpoint.parse(text)
    if checkpoint.origin != origin:
        raise NoteError(f"the checkpoint is of the log {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def opened(note: str | bytes, keys: Iterable[VerifierKey], origin: str) -> Checkpoint:
    """The checkpoint of a note that one of the keys signed for the log ``origin``: of several, as keys are changed.

    Raises ``NoteError``, which says of each key why not.
    """
    faults = []
    for key in keys:
        try:
            return open_checkpoint(note, key, origin)
        except NoteError as error:
            faults.append(str(error))
    raise NoteError("; ".join(dict.fromkeys(faults)) or "no key is given")


def told_key(text: str, algorithm: int = LOG) -> VerifierKey:
    """The public key that a text is, or that the file of that name holds. Raises ``NoteError``.

    A key of the other ``algorithm`` is none: no signature of the kind that is looked for could be its own.
    """
    try:
        path = Path(text)
        key = VerifierKey.parse(path.read_text("utf-8") if path.exists() else text)
    except (OSError, ValueError) as error:
        raise NoteError(f"neither a key nor a file of one: {error}") from error
    if key.algorithm != algorithm:
        owners = {LOG: "a log", WITNESS: "a witness"}
        raise NoteError(f"{key.name} is the key of {owners[key.algorithm]}, and not of {owners[algorithm]}")
    return key


def unverified(note: str | bytes) -> Checkpoint:
    """The checkpoint of a note, whoever signed it: for who holds the log itself. Raises ``NoteError``."""
    return Checkpoint.parse(_split(note)[0])


def cosign(note: str, key: SigningKey, seconds: int) -> str:
    """The note with a witness's signature added; ``seconds`` since 1970 is when the witness saw the log so."""
    text, _ = _split(note)
    if key.algorithm != WITNESS:
        raise NoteError("a checkpoint is cosigned by the key of a witness")
    return note + key.line(_cosigned(text, seconds), seconds.to_bytes(8))


def cosigned_at(note: str | bytes, witness: VerifierKey) -> int:
    """When the witness saw the checkpoint, in seconds since 1970. Raises ``NoteError`` when it did not sign it."""
    text, signatures = _split(note)
    found = [signature for name, signature in signatures if name == witness.name and signature[:4] == witness.id]
    if not found or witness.algorithm != WITNESS:
        raise NoteError(f"the checkpoint is not cosigned by {witness.name}+{witness.id.hex()}")
    times = []
    for signature in found:
        seconds = int.from_bytes(signature[4:12])
        witness.verify(signature[12:], _cosigned(text, seconds))
        times.append(seconds)
    return max(times)


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _split(note: str | bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text of a note and its signatures by name, unverified."""
    data = note if isinstance(note, bytes) else note.encode()
    if len(data) > MOST_BYTES:
        raise NoteError("the note is too long")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise NoteError("the note is not UTF-8") from error
    if any(each < " " and each != "\n" for each in whole):
        raise NoteError("the note holds control characters")
    body, gap, tail = whole.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise NoteError("the note has no signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise NoteError("the note has too many signatures")
    signatures = []
    for line in lines:
        match = _SIGNATURE_LINE.fullmatch(line)
        if not match:
            raise NoteError("a signature line of the note is malformed")
        signature = decoded(match[2])
        if len(signature) < 5:
            raise NoteError("a signature of the note is too short")
        signatures.append((match[1], signature))
    return body + "\n", signatures


def decoded(text: str) -> bytes:
    """The bytes of canonical base64: no other text stands for the same bytes. Raises ``NoteError``."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("a value is not base64") from error
    if base64.b64encode(found).decode() != text:
        raise NoteError("a value is not canonical base64")
    return found
