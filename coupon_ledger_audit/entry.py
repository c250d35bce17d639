"""What a leaf of the seal's tree covers: one event of the log, in a fixed binary form.

    0x01                       format
    position      u64          1 for the first event; the leaf's index is ``position - 1``
    stream        u16 + UTF-8
    version       u64          the event's number within its stream, from 1
    topic         u16 + UTF-8
    recorded_at   u64          microseconds since 1970-01-01T00:00:00Z
    SHA-256(state)             of the payload's bytes as they are stored

Numbers are big-endian; ``u16 +`` is a length in bytes. The payload itself is not in the entry, so entries can be
shown to people who may not read payloads, and payloads are never written anew before they are hashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

FORMAT = b"\x01"


class EntryError(ValueError):
    """Bytes are no entry of this form."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, read."""

    position: int
    stream: str
    version: int
    topic: str
    recorded_at_us: int
    state_hash: bytes


def entry(position: int, stream: str, version: int, topic: str, recorded_at_us: int, state: bytes) -> bytes:
    """The bytes of an event's entry. Raises ``OverflowError`` for what the form cannot hold."""
    stream_bytes = stream.encode()
    topic_bytes = topic.encode()
    return b"".join(
        (
            FORMAT,
            position.to_bytes(8),
            len(stream_bytes).to_bytes(2),
            stream_bytes,
            version.to_bytes(8),
            len(topic_bytes).to_bytes(2),
            topic_bytes,
            recorded_at_us.to_bytes(8),
            sha256(state).digest(),
        )
    )


def parse(data: bytes) -> Entry:
    """The entry of these bytes. Raises ``EntryError`` for any others."""
    if data[:1] != FORMAT:
        raise EntryError("the entry is not of format 1")
    try:
        position, at = _number(data, 1, 8)
        stream, at = _text(data, at)
        version, at = _number(data, at, 8)
        topic, at = _text(data, at)
        recorded_at_us, at = _number(data, at, 8)
        state_hash, at = _bytes(data, at, 32)
    except UnicodeDecodeError as error:
        raise EntryError("a name in the entry is not UTF-8") from error
    if at != len(data):
        raise EntryError("the entry goes on after its end")
    return Entry(position, stream, version, topic, recorded_at_us, state_hash)


def _bytes(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(data):
        raise EntryError("the entry ends too early")
    return data[at:end], end


def _number(data: bytes, at: int, length: int) -> tuple[int, int]:
    found, end = _bytes(data, at, length)
    return int.from_bytes(found), end


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _number(data, at, 2)
    found, end = _bytes(data, at, length)
    return found.decode(), end
