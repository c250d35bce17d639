"""Events of subjects: users of whom a deployment must keep notes. One stream for each, ``subject-<id>``.

Nothing in them can be read without the user's own data key, which lies beside the log and can be destroyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class SubjectNoted(Event, topic="subject.noted"):
    """A note on a user was kept, encrypted with a key of the user's own."""

    user_id: str
    """The caller's opaque id."""
    note_id: str
    ciphertext: str
    """Base64 of nonce, text and tag, AES-256-GCM; stream and version are authenticated with it."""

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.notes.append(self)


@dataclass(frozen=True, kw_only=True)
class SubjectErased(Event, topic="subject.erased"):
    """The user's personal data was erased, and the key of all notes before this."""

    user_id: str

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.erased = self
