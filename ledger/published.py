"""The shape in which a fact leaves the ledger: over HTTP, on ``ledger.events.v1`` and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.aggregate import text_of
from ledger.events import Recorded


def published(recorded: Recorded) -> dict[str, Any]:
    """A fact in the shape that leaves the ledger, which is not the shape that is stored."""
    payload = dict(vars(recorded.event))
    shown = {
        "position": recorded.position,
        "recorded_at": text_of(recorded.recorded_at),
        "occurred_at": text_of(payload.pop("occurred_at")),
        "stream": payload.pop("originator_id"),
        "version": payload.pop("originator_version"),
        "topic": recorded.event.TOPIC,
    }
    times = {name: text_of(value) for name, value in payload.items() if isinstance(value, datetime)}
    return {**shown, "payload": payload | times}
