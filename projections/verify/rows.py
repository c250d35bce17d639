"""Rows of the log as payloads, checked against the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import orjson

from ledger.events import EVENTS

Payload = dict[str, Any]

COLUMNS = {"originator_id", "originator_version"}
"""Fields that are columns of their own."""


UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What Python raises for fields that are not what they must be."""
MOST = 1 << 63
"""Above every number of the ledger, and of the database."""


def whole(payload: Mapping[str, Any], name: str) -> int:
    """A count, an amount or a length of time of a plan, which is not negative. Raises ``ValueError`` for others."""
    value = payload[name]
    if type(value) is not int or not 0 <= value < MOST:
        raise ValueError(f"{name} is {value!r}, and no whole number from 0 to below 2^63")
    return value


def whole_if_given(payload: Mapping[str, Any], name: str) -> int | None:
    """The same, where it may be null."""
    return None if payload[name] is None else whole(payload, name)


def true(payload: Mapping[str, Any], name: str) -> bool:
    """Whether a plan says so. Raises ``ValueError`` for what is neither true nor false."""
    value = payload[name]
    if type(value) is not bool:
        raise ValueError(f"{name} is {value!r}, and neither true nor false")
    return value


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
