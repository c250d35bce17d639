"""The file that an auditor is handed: one zip, written by the server, read by the offline audit.

    checkpoint             the signed checkpoint that the bundle is about
    checkpoints/<size>     earlier ones, where asked for
    events.ndjson          one row an event, by position; ``state`` is the payload's exact stored text
    entries                whole: what the seal has of every event, each entry after its length in two bytes
    proofs/<position>      coupon: the inclusion proof of each row (``proof.py``)
    consistency.json       coupon: proofs from the earlier checkpoints, ``{"<size>": ["<base64>", ...]}``
    manifest.json          what the bundle is, and the length and SHA-256 of every other member

A ``whole`` bundle has every event from the first; its rows come from the database and its entries from the seal, so
that a changed row is found by its position. A ``coupon`` bundle has one or more streams. The manifest is not signed:
its digests find damage, the checkpoint finds forgery.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

from coupon_ledger_audit.entry import entry
from coupon_ledger_audit.note import Checkpoint, unverified
from coupon_ledger_audit.proof import Proof, text_of

FORMAT = "coupon-ledger-audit@v1"
WHOLE = "whole"
COUPON = "coupon"
_MANIFEST = "manifest.json"
_CHUNK = 1 << 20


class Row(NamedTuple):
    """One event as the store holds it."""

    position: int
    stream: str
    version: int
    topic: str
    recorded_at_us: int
    """Microseconds since 1970."""
    state: str
    """The payload's exact stored text."""

    def entry(self) -> bytes:
        """What the seal has of it."""
        return entry(self.position, self.stream, self.version, self.topic, self.recorded_at_us, self.state.encode())

    def line(self) -> bytes:
        """It as a line of ``events.ndjson``."""
        named = {
            "position": self.position,
            "stream": self.stream,
            "version": self.version,
            "topic": self.topic,
            "recorded_at": self.recorded_at_us,
            "state": self.state,
        }
        return json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True)
class Balances:
    """What the server published about its batches: counts and amounts by batch id, as of a position."""

    position: int
    batches: Mapping[str, Mapping[str, int]]
    """Any of ``fold.COUNTERS`` and ``quantity``, by name."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    kind: str
    origin: str
    size: int
    streams: Sequence[str] | None = None
    """The streams of a ``coupon`` bundle; ``None`` for a whole one."""
    balances: Balances | None = None
    members: dict[str, dict[str, Any]] = field(default_factory=dict)

    def data(self) -> bytes:
        """The one way to write it: readers refuse any other."""
        return json.dumps({"format": FORMAT} | asdict(self), ensure_ascii=False, indent=1, sort_keys=True).encode()


def write_whole(
    file: str | Path | IO[bytes],
    note: str,
    rows: Iterable[Row],
    entries: Iterable[bytes],
    *,
    balances: Balances | None = None,
    earlier: Iterable[str] = (),
) -> Manifest:
    """Write every event up to the checkpoint. ``rows`` and ``entries`` are read once, one after the other.

    ``balances`` are of a position that is not after the checkpoint; ``earlier`` are signed checkpoints, which the
    audit computes again. The file may be a stream that cannot be sought.
    """
    checkpoint = unverified(note)
    manifest = Manifest(WHOLE, checkpoint.origin, checkpoint.size, balances=balances)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        writer = _Writer(archive, manifest.members)
        writer.notes(note, earlier)
        writer.member("entries", (len(each).to_bytes(2) + each for each in entries))
        writer.member("events.ndjson", (row.line() for row in rows))
        archive.writestr(_MANIFEST, manifest.data())
    return manifest


def write_coupon(
    file: str | Path | IO[bytes],
    note: str,
    rows: Sequence[Row],
    proofs: Sequence[Sequence[bytes]],
    *,
    earlier: Sequence[tuple[str, Sequence[bytes]]] = (),
) -> Manifest:
    """Write the events of some streams, by position, each with its inclusion proof in the checkpoint's tree.

    Streams are given whole, from version 1. ``earlier`` are signed checkpoints with the proof of consistency from
    each to this one: without that of the auditor's own, an auditor cannot tell that the log only grew. Each coupon's
    batch and template must be among the streams.
    """
    checkpoint = unverified(note)
    streams = sorted({row.stream for row in rows})
    manifest = Manifest(COUPON, checkpoint.origin, checkpoint.size, streams)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        writer = _Writer(archive, manifest.members)
        writer.notes(note, (text for text, _ in earlier))
        writer.member("events.ndjson", (row.line() for row in rows))
        for row, hashes in zip(rows, proofs, strict=True):
            proof = Proof(row.position - 1, hashes, note)
            writer.member(f"proofs/{row.position}", [proof.text().encode()])
        if earlier:
            found = {str(unverified(text).size): [text_of(each) for each in hashes] for text, hashes in earlier}
            writer.member("consistency.json", [canonical(found)])
        archive.writestr(_MANIFEST, manifest.data())
    return manifest


def canonical(value: Any) -> bytes:
    """JSON as the small members have it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


class _Writer:
    """Writes members, and tells the manifest of each."""

    def __init__(self, archive: zipfile.ZipFile, members: dict[str, dict[str, Any]]) -> None:
        self.archive = archive
        self.members = members

    def member(self, name: str, pieces: Iterable[bytes]) -> None:
        digest, length = sha256(), 0
        with self.archive.open(name, "w", force_zip64=True) as out:
            for piece in _gathered(pieces):
                digest.update(piece)
                length += len(piece)
                out.write(piece)
        self.members[name] = {"bytes": length, "sha256": digest.hexdigest()}

    def notes(self, note: str, earlier: Iterable[str]) -> None:
        self.member("checkpoint", [note.encode()])
        known: dict[int, Checkpoint] = {}
        for text in earlier:
            checkpoint = unverified(text)
            if checkpoint.size not in known:
                known[checkpoint.size] = checkpoint
                self.member(f"checkpoints/{checkpoint.size}", [text.encode()])


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: compressing each row alone would cost more than making it."""
    gathered: list[bytes] = []
    length = 0
    for piece in pieces:
        gathered.append(piece)
        length += len(piece)
        if length >= _CHUNK:
            yield b"".join(gathered)
            gathered, length = [], 0
    yield b"".join(gathered)
