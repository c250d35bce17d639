"""Rows of the log as payloads, checked against the catalogue."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, NamedTuple

import orjson

from ledger.events import EVENTS

Payload = dict[str, Any]

COLUMNS = {"originator_id", "originator_version"}
"""Fields that are columns of their own."""


class Shape(NamedTuple):
    """What rows of a topic look like."""

    names: Set[str]
    """Of the payload, in today's version."""
    version: int
    prefix: str
    """With which the names of its streams begin."""


_PREFIXES = {"rule": "rules-"}


class Reader:
    """Reads payloads; what is wrong with one is in ``fault``."""

    def __init__(self) -> None:
        self.shapes: dict[str, Shape] = {}
        for topic, event in EVENTS.items():
            names = event.field_names - COLUMNS | ({"class_version"} if event.class_version > 1 else set())
            kind = topic.partition(".")[0]
            self.shapes[topic] = Shape(
                dict.fromkeys(names).keys(), event.class_version, _PREFIXES.get(kind, f"{kind}-")
            )
        self.fault = ""

    def payload(self, topic: str, state: bytes) -> Payload | None:
        """What the row says, upcast to today's version; ``None`` where it is no event of the catalogue."""
        shape = self.shapes.get(topic)
        if shape is None:
            self.fault = f"the topic {topic!r}"
            return None
        try:
            payload = orjson.loads(state)
        except orjson.JSONDecodeError:
            self.fault = "a payload that is no JSON"
            return None
        if type(payload) is dict and payload.keys() == shape.names and payload.get("class_version", 1) == shape.version:
            return payload
        return self._upcast(topic, shape, payload)

    def _upcast(self, topic: str, shape: Shape, payload: Any) -> Payload | None:
        event = EVENTS[topic]
        try:
            version = payload.get("class_version", 1)
            for old in range(version, event.class_version):
                getattr(event, f"upcast_v{old}_v{old + 1}")(payload)
            if version > 1 or shape.version > 1:
                payload["class_version"] = shape.version
        except (AttributeError, KeyError, TypeError):
            self.fault = "a payload of no version of it"
            return None
        if version > shape.version or payload.keys() != shape.names:
            self.fault = f"other fields: {', '.join(sorted(payload.keys() ^ shape.names)) or version}"
            return None
        return dict(payload)
