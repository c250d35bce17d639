"""How a Kafka record is kept in a table: exactly as it came."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from consumers.messages import Headers

DETAIL_LIMIT = 1_000


class Record(Protocol):
    """What is kept of a Kafka record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


def columns_of(record: Record) -> dict[str, Any]:
    """The record as parameters of an insert."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key,
        "value": record.value,
        "headers": _headers_as_json(record.headers),
        "message_time": _moment(record.timestamp),
    }


def headers_of(kept: Iterable[tuple[str, str | None]]) -> list[tuple[str, bytes | None]]:
    """The headers again, from what the column holds."""
    return [(name, None if value is None else base64.b64decode(value)) for name, value in kept]


def kept_detail(detail: str) -> str:
    """A sentence that fits its column, whatever bytes of a message it quotes."""
    return detail.replace("\x00", "\\x00")[:DETAIL_LIMIT]


def _headers_as_json(headers: Headers) -> str:
    return orjson.dumps(
        [(name, None if value is None else base64.b64encode(value).decode()) for name, value in headers]
    ).decode()


def _moment(milliseconds: int) -> datetime | None:
    """A record's time, which is any number that its producer liked."""
    try:
        return datetime.fromtimestamp(milliseconds / 1_000, UTC) if milliseconds >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None
