"""Messages: CloudEvents 1.0 in the Kafka binding's binary mode, read and written directly.

Attributes are headers (``ce_id``, ``ce_source``, ``ce_type``, ``ce_time``, ``ce_specversion``, ``content-type``), the
value is the payload as JSON, and the key is the payload's ``key``. The ``cloudevents`` library says the same in a
test; it takes several times as long, which matters for millions of messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import orjson
from pydantic import ValidationError

from consumers.payloads import PAYLOADS, Payload

VALUE_LIMIT_BYTES = 768 * 1024
"""A larger payload is refused unread. A basket of 1,000 lines fits with 700 bytes a line, and all of it stays below the
million bytes that a broker takes by default."""
REQUEST_ID_LIMIT = 255

Headers = Sequence[tuple[str, bytes | None]]


class Undecodable(Exception):
    """A message that can have no effect, whenever it is read. ``reason`` is a stable word, ``detail`` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class Raw(Protocol):
    """What decoding reads of a Kafka record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Wire(NamedTuple):
    """A message as it lies on a topic; ``producer.send(topic, **wire._asdict())`` sends it."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class Message(NamedTuple):
    """A message that was understood."""

    request_id: str
    """``<ce_source> <ce_id>``: CloudEvents makes the pair unique, and it is the key of the message's one effect."""
    time: datetime
    """``ce_time`` in UTC: when it happened, by the producer's clock."""
    payload: Payload
    value: bytes

    def body_hash(self) -> str:
        """Digest of type and data; layout and order of fields make no difference.

        It covers fields that this version does not know, so that it stays the same for a version that does. Raises
        ``Undecodable`` where such a field is no JSON.
        """
        try:
            body = orjson.dumps(orjson.loads(self.value), option=orjson.OPT_SORT_KEYS)
        except ValueError as error:
            raise Undecodable("malformed_json", str(error)) from None
        return hashlib.sha256(self.payload.TYPE.encode() + b"\n" + body).hexdigest()


def encode(payload: Payload, *, source: str, id: str, time: datetime) -> Wire:
    """The message that says this, under the producer's ``source`` and an ``id`` unique within it.

    A resend carries the same id and has no second effect. Raises ``ValueError`` for an id, source or time that no
    reader would take.
    """
    if time.tzinfo is None:
        raise ValueError("a message's time needs a time zone")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", payload.TYPE.encode()),
        ("ce_time", time.astimezone(UTC).isoformat().replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
    ]
    try:
        _request_id(dict(headers))
    except Undecodable as error:
        raise ValueError(error.detail) from None
    value = payload.__pydantic_serializer__.to_json(payload, exclude_unset=True)
    return Wire(payload.key.encode(), value, headers)


def decode(record: Raw, kinds: Mapping[str, type[Payload]] = PAYLOADS) -> Message:
    """What a record says, if it is one of these kinds. Raises ``Undecodable`` with a reason that never changes."""
    headers = dict(record.headers)
    if headers.get("ce_specversion") != b"1.0":
        raise Undecodable("invalid_envelope", "the header ce_specversion must be 1.0 (CloudEvents, binary mode)")
    name = _text(headers, "ce_type")
    if not name:
        raise Undecodable("invalid_envelope", "the header ce_type is required")
    kind = kinds.get(name)
    if kind is None:
        raise Undecodable("unknown_type", f"this topic has no messages of type {name!a}")
    content_type = headers.get("content-type")
    if content_type != b"application/json" and not _is_json(content_type):
        raise Undecodable("unsupported_media_type", "the header content-type must be application/json")
    request_id = _request_id(headers)
    time = _time(headers)
    value = record.value
    if value is None:
        raise Undecodable("malformed_json", "the message has no value")
    if len(value) > VALUE_LIMIT_BYTES:
        raise Undecodable("too_large", f"the value has {len(value)} bytes, and {VALUE_LIMIT_BYTES} are allowed")
    try:
        payload = kind.__pydantic_validator__.validate_json(value)
    except ValidationError as error:
        raise _schema_error(error) from None
    if record.key != payload.key.encode():
        raise Undecodable("wrong_key", "the message's key must be the id whose order matters (docs/contracts)")
    return Message(request_id, time, payload, value)


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    try:
        return (headers.get(name) or b"").decode()
    except UnicodeDecodeError:
        raise Undecodable("invalid_envelope", f"the header {name} is not UTF-8") from None


def _is_json(content_type: bytes | None) -> bool:
    return (content_type or b"").partition(b";")[0].strip().lower() == b"application/json"


def _request_id(headers: Mapping[str, bytes | None]) -> str:
    source, id = _text(headers, "ce_source"), _text(headers, "ce_id")
    request_id = f"{source} {id}"
    if not source or not id or " " in source:  # a space in the source would make two pairs look the same
        raise Undecodable("invalid_envelope", "the headers ce_source (without spaces) and ce_id are required")
    if len(request_id) > REQUEST_ID_LIMIT or not request_id.isascii() or not request_id.isprintable():
        raise Undecodable(
            "invalid_envelope", f"ce_source and ce_id together are at most {REQUEST_ID_LIMIT - 1} printable ASCII"
        )
    return request_id


def _time(headers: Mapping[str, bytes | None]) -> datetime:
    try:
        time = datetime.fromisoformat(_text(headers, "ce_time"))
        if time.tzinfo is not UTC:
            if time.tzinfo is None:
                raise ValueError
            time = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Undecodable("invalid_envelope", "the header ce_time must be an RFC 3339 time with a zone") from None
    if not 1970 <= time.year <= 9000:
        raise Undecodable("invalid_envelope", "the header ce_time must lie in the years 1970 to 9000")
    return time


def _schema_error(error: ValidationError) -> Undecodable:
    first: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return Undecodable("malformed_json", first["msg"])
    where = ".".join(map(str, first["loc"])) or "the value"
    return Undecodable("invalid_field", f"{where}: {first['msg']}")
