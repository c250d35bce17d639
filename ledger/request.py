"""Who asks, under which key, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.errors import InvalidPeriod


@dataclass(frozen=True, slots=True)
class Request:
    """The envelope of a command, the same over HTTP, Kafka and the command line."""

    merchant_id: str
    actor: str
    """Who is recorded as the doer: ``key:<key id>``, ``consumer:<group>``, ``job:<name>``."""
    request_id: str
    """The caller's idempotency key: printable ASCII, at most 255 characters, unique within the merchant.

    A key over HTTP has no space, a message's is its source, a space and its id, and a job's begins with a space: so
    none of them can take another's.
    """
    body_hash: str = ""
    """Digest of operation and body, without a space; the same key with another digest is refused."""
    at: datetime | None = None
    """Business time of imported history; without it the database clock decides."""

    def __post_init__(self) -> None:
        if " " in self.body_hash:  # which is where the store finds the end of it
            raise ValueError("a body hash is a digest")
        if self.at is not None and self.at.tzinfo is not UTC:
            if self.at.tzinfo is None:
                raise InvalidPeriod("business time needs a time zone", field="at")
            object.__setattr__(self, "at", self.at.astimezone(UTC))
