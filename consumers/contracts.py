"""The published contracts: a JSON Schema for each type of message, in and out, and the AsyncAPI document of all.

``python -m consumers.contracts docs/contracts`` writes the files; a test compares them. It refuses to write a schema of
published events that breaks the committed one: whoever needs that raises the type's version in ``publisher.VERSIONS``.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from consumers import asyncapi
from consumers.payloads import PAYLOADS
from consumers.publisher import TYPES
from ledger.alerts import Alerts
from ledger.audience import Audience, Facts
from ledger.events import EVENTS, Event
from ledger.terms import Terms

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PUBLISHED = "published"
"""The folder of the schemas of what the ledger publishes."""


def schemas() -> dict[str, Schema]:
    """Of what the ledger and its processes send each other and read, by type of message."""
    return {
        kind: {"$schema": DIALECT, "$id": f"{kind}.json", **payload.model_json_schema()}
        for kind, payload in PAYLOADS.items()
    }


# --- published events -----------------------------------------------------------------------------------


MAY_BE_ABSENT = {"may_be_absent": True}
"""Marks a member of a shape."""


@dataclass(frozen=True)
class AllocationPart:
    """The part of a discount that one line of the order carries."""

    line_id: str
    product_id: str | None = field(metadata=MAY_BE_ABSENT)
    discount_minor: int


@dataclass(frozen=True)
class ReturnedPart:
    """What one line of the order gave back."""

    line_id: str
    discount_minor: int


@dataclass(frozen=True)
class LineInScope:
    """A line off which the order system may say what a coupon takes, and what it costs."""

    line_id: str
    product_id: str
    amount_minor: int


SHAPES: Mapping[str, Any] = {
    "terms": Terms,
    "allocation": list[AllocationPart],
    "lines": list[ReturnedPart],
    "lines_in_scope": list[LineInScope],
}
"""What lies in payload fields that Python knows as mappings only."""
PARTLY: Mapping[str, Any] = {"alerts": Alerts, "audience": Audience, "facts": Facts}
"""The same, where only what was said is there."""
SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}
_STREAM = ("originator_id", "originator_version")
_AROUND = (*_STREAM, "occurred_at")
"""Fields of an event that are shown beside its payload."""


def published_schemas() -> dict[str, Schema]:
    """Of what the publisher sends, by type of message."""
    return {TYPES[topic]: _published_schema(TYPES[topic], event) for topic, event in EVENTS.items()}


def _published_schema(kind: str, event: type[Event]) -> Schema:
    time = SCALARS[datetime]
    around: Schema = {
        "position": {"type": "integer", "minimum": 1, "description": "The place in the whole log, without holes."},
        "recorded_at": {**time, "description": "When the ledger stored it, in UTC."},
        "occurred_at": {**time, "description": "Business time in UTC; of imported history the past's."},
        "stream": {"type": "string", "description": "Whose event it is: category, hyphen, id. It is the Kafka key."},
        "version": {"type": "integer", "minimum": 1, "description": "The place in the stream, without holes."},
        "topic": {"const": event.TOPIC},
        "payload": _object(event, leave_out=_AROUND),
    }
    description = (inspect.getdoc(event) or "").replace("``", "`")
    return {
        "$schema": DIALECT,
        "$id": f"{kind}.json",
        "title": event.__name__,
        "description": description,
        "type": "object",
        "properties": around,
        "required": sorted(around),
    }


def _object(kind: type[Any], *, leave_out: tuple[str, ...] = (), whole: bool = True) -> Schema:
    """Readers ignore what they do not know, so an object is open."""
    hints = get_type_hints(kind)
    shown = sorted((f for f in fields(kind) if f.name not in leave_out), key=lambda f: f.name)
    schema: Schema = {"type": "object", "properties": {f.name: _value(f.name, hints[f.name]) for f in shown}}
    if whole:
        schema["required"] = [f.name for f in shown if "may_be_absent" not in f.metadata]
    return schema


def _value(name: str, hint: Any) -> Schema:
    if name in PARTLY:
        return _object(PARTLY[name], whole=False)
    hint = SHAPES.get(name, hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return _object(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (Union, types.UnionType):
        (one,) = [argument for argument in arguments if argument is not type(None)]
        schema = _value("", one)
        return schema | {"type": [schema["type"], "null"]}
    if origin in (list, tuple):
        return {"type": "array", "items": _value("", arguments[0])}
    if origin is dict:
        return {"type": "object"}
    return dict(SCALARS[hint])


def breaks(old: Schema, new: Schema, where: str = "") -> Iterator[str]:
    """What a reader of the old schema could no longer rely on.

    Additions are lawful, words of an enumeration among them: a reader treats those that it does not know as unknown.
    """
    for word in ("type", "format", "const"):
        if old.get(word) != new.get(word):
            yield f"{where or 'the value'} has another {word}"
    for word in old.get("enum", ()):
        if word not in new.get("enum", ()):
            yield f"{where} is never {word!r} any more"
    for name in old.get("required", ()):
        if name not in new.get("required", ()):
            yield f"{where}/{name} may be absent"
    for name, schema in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from breaks(schema, new["properties"][name], f"{where}/{name}")
        else:
            yield f"{where}/{name} is gone"
    if "items" in old:
        yield from breaks(old["items"], new.get("items", {}), f"{where}/*")


# --- files ----------------------------------------------------------------------------------------------


def files() -> dict[str, str]:
    """Every file of the contracts, by its path in their folder."""
    return {
        **{f"{kind}.json": text_of(schema) for kind, schema in schemas().items()},
        **{f"{PUBLISHED}/{kind}.json": text_of(schema) for kind, schema in published_schemas().items()},
        "asyncapi.json": text_of(asyncapi.document()),
    }


def text_of(schema: Schema) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2) + "\n"


def write(folder: Path) -> None:
    """Write every file. Raises ``ValueError`` where a published type would break its committed schema."""
    for kind, schema in published_schemas().items():
        committed = folder / PUBLISHED / f"{kind}.json"
        if committed.exists() and (broken := list(breaks(json.loads(committed.read_text("utf-8")), schema))):
            raise ValueError(f"{kind} needs a new version: {'; '.join(broken)}")
    (folder / PUBLISHED).mkdir(exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
