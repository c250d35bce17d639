"""Events of reminders that users ask for. One stream for each user and batch, ``reminder-<id>``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class ReminderRequested(Event, topic="reminder.requested"):
    """A user asked to be told when claims of the batch open."""

    batch_id: str
    user_id: str
    """The caller's opaque id."""
    claim_from: datetime
    """When they open."""

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.wanted = True


@dataclass(frozen=True, kw_only=True)
class ReminderCancelled(Event, topic="reminder.cancelled"):
    """The user wants to be told no more."""

    batch_id: str
    user_id: str

    def apply(self, aggregate: Any) -> None:
        aggregate.wanted = False
