"""Events as rows and back: readable JSON under explicit topics."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from eventsourcing.persistence import Mapper, StoredEvent

from ledger.errors import ForeignEvent
from ledger.events import EVENTS, Event


class EventMapper(Mapper[str]):
    """Turns events into stored rows and back, through the catalogue's allow-list of topics."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """The row of an event."""
        return StoredEvent(
            domain_event.originator_id, domain_event.originator_version, domain_event.TOPIC, self.encode(domain_event)
        )

    def encode(self, event: Event) -> bytes:
        """The payload as JSON, without what has a column of its own."""
        state = dict(vars(event))
        del state["originator_id"], state["originator_version"]
        if event.class_version > 1:
            state["class_version"] = event.class_version
        return orjson.dumps(state, option=orjson.OPT_UTC_Z)

    def to_domain_event(self, stored_event: StoredEvent) -> Event:
        """The event of a row, upcast to today's version. Raises ``ForeignEvent``."""
        stored: Any = stored_event  # perhaps a Notification, which has its position too
        return self.decode(stored.originator_id, stored.originator_version, stored.topic, stored.state)

    def decode(self, stream: str, version: int, topic: str, state: bytes) -> Event:
        """The event of a row's columns. Raises ``ForeignEvent`` for what is not in the catalogue."""
        event_class = EVENTS.get(topic)
        if event_class is None:
            raise ForeignEvent(f"topic {topic!r} in stream {stream!r} is not in the catalogue")
        payload = orjson.loads(state)
        stored_version = payload.pop("class_version", 1)
        if stored_version > event_class.class_version:
            raise ForeignEvent(f"{topic} v{stored_version} in stream {stream!r} is of a newer release")
        for old in range(stored_version, event_class.class_version):
            getattr(event_class, f"upcast_v{old}_v{old + 1}")(payload)
        for name in event_class.time_fields:
            if payload[name] is not None:
                payload[name] = datetime.fromisoformat(payload[name])
        payload["originator_id"] = stream
        payload["originator_version"] = version
        return event_class.made(payload)
