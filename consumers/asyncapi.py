"""The AsyncAPI 3 document: every topic of the ledger, in which direction it goes, and what lies on it.

Payloads are referred to, and lie in files beside the document. Addresses are without the prefix of an installation.
"""

from __future__ import annotations

import inspect
from typing import Any

from consumers.inputs import INPUTS
from consumers.payloads import PAYLOADS, CouponAlert, ReminderDue
from consumers.publisher import TYPES
from consumers.topics import ALERTS, EVENTS, PARTITIONS, PUBLISHED, REMINDERS, dead_letter_topic

VERSION = "3.0.0"
JSON_SCHEMA = "application/schema+json;version=draft-2020-12"
KAFKA_BINDING = "0.5.0"

DESCRIPTION = """Topics of one coupon ledger; an installation may put a prefix before each name. Messages are
CloudEvents 1.0 in the Kafka binding's binary mode: attributes are headers, the value is the payload as JSON. Money is
integer minor units of the currency, shares are permyriad (1/10,000), times are RFC 3339."""

RECEIVED: dict[str, tuple[str, ...]] = {input.topic: tuple(input.kinds) for input in INPUTS}
"""Topics that the ledger reads, and the types of their messages."""
SENT: dict[str, tuple[str, ...]] = {
    EVENTS: tuple(TYPES.values()),
    REMINDERS: (ReminderDue.TYPE,),
    ALERTS: (CouponAlert.TYPE,),
}
"""Topics that the ledger writes, and the types of their messages."""
DEAD_LETTER = "dead_letter"

Document = dict[str, Any]


def document() -> Document:
    """The whole document."""
    channels = {topic: _channel(topic, kinds) for topic, kinds in (RECEIVED | SENT).items()}
    operations = {f"receive.{topic}": _operation("receive", topic, kinds) for topic, kinds in RECEIVED.items()}
    operations |= {f"send.{topic}": _operation("send", topic, kinds) for topic, kinds in SENT.items()}
    for read in RECEIVED:
        topic = dead_letter_topic(read)
        channels[topic] = _channel(topic, (DEAD_LETTER,))
        operations[f"send.{topic}"] = _operation("send", topic, (DEAD_LETTER,))
    messages = {kind: _read_message(kind) for kind in PAYLOADS}
    messages |= {kind: _published_message(kind) for kind in TYPES.values()}
    return {
        "asyncapi": VERSION,
        "id": "urn:coupon-ledger",
        "info": {"title": "Coupon Ledger", "version": "1", "description": DESCRIPTION.replace("\n", " ")},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages | {DEAD_LETTER: _dead_letter()}},
    }


def _channel(topic: str, kinds: tuple[str, ...]) -> Document:
    partitions = (PARTITIONS | PUBLISHED).get(topic, 1)
    return {
        "address": topic,
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in kinds},
        "bindings": {"kafka": {"topic": topic, "partitions": partitions, "bindingVersion": KAFKA_BINDING}},
    }


def _operation(action: str, topic: str, kinds: tuple[str, ...]) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic}"},
        "messages": [{"$ref": f"#/channels/{topic}/messages/{kind}"} for kind in kinds],
    }


def _read_message(kind: str) -> Document:
    payload = PAYLOADS[kind]
    source = {"type": "string", "pattern": "^[!-~]+$", "description": "Who produces, without spaces."}
    id = {"type": "string", "pattern": "^[ -~]+$", "description": "Unique within the source; a resend has the same."}
    summary = inspect.getdoc(payload) or ""
    return _message(kind, f"{kind}.json", summary, str(inspect.getdoc(payload.key)), source=source, id=id)


def _published_message(kind: str) -> Document:
    source = {"type": "string", "pattern": "^/coupon-ledger/[!-~]+$", "description": "The ledger, by its schema."}
    id = {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "The event's position in the log."}
    return _message(
        kind, f"published/{kind}.json", "", "The event's stream, as the payload has it.", source=source, id=id
    )


def _message(kind: str, file: str, description: str, key: str, *, source: Document, id: Document) -> Document:
    headers = {
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"const": kind},
        "ce_source": source,
        "ce_id": id,
        "ce_time": {"type": "string", "format": "date-time", "description": "When it happened."},
        "content-type": {"type": "string", "pattern": "^application/json *(;.*)?$"},
    }
    return {
        "name": kind,
        "contentType": "application/json",
        **({"description": description} if description else {}),
        "headers": {"type": "object", "properties": headers, "required": list(headers)},
        "payload": {"schemaFormat": JSON_SCHEMA, "schema": {"$ref": f"./{file}"}},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": KAFKA_BINDING}},
    }


def _dead_letter() -> Document:
    text, number = {"type": "string"}, {"type": "string", "pattern": "^[0-9]+$"}
    always = {
        "dead_letter_topic": text,
        "dead_letter_partition": number,
        "dead_letter_offset": number,
        "dead_letter_time": {"type": "string", "description": "RFC 3339; empty where the message had none."},
        "dead_letter_group": text,
        "dead_letter_reason": {"type": "string", "pattern": "^[a-z_]+$", "description": "A stable word."},
        "dead_letter_detail": text,
        "dead_letter_attempts": number,
    }
    sometimes = {"dead_letter_value_left_out_bytes": number, "dead_letter_left_out": text}
    return {
        "name": DEAD_LETTER,
        "description": "A message that could have no effect: key, value and headers as they came, and why.",
        "headers": {"type": "object", "properties": always | sometimes, "required": list(always)},
        "payload": {"schemaFormat": JSON_SCHEMA, "schema": True},
    }
