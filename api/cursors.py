"""Cursors: where a page ended, sealed so that it only continues the list that it was given out for.

The seal is keyed with the digest of the caller's secret, which is as stable as the key and known to nobody outside.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import orjson

from api.access import caller
from api.problems import BadCursor

SEAL_BYTES = 16


def seal(list_name: str, place: list[Any]) -> str:
    """An opaque cursor for the place where a page of a list ended."""
    data = orjson.dumps(place)
    return base64.urlsafe_b64encode(_seal(list_name, data) + data).decode().rstrip("=")


def unseal(list_name: str, cursor: str) -> list[Any]:
    """The place that a cursor stands for. Raises ``BadCursor`` for one of another list, merchant or key."""
    try:
        sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise BadCursor from None
    data = sealed[SEAL_BYTES:]
    if not hmac.compare_digest(sealed[:SEAL_BYTES], _seal(list_name, data)):
        raise BadCursor
    place: list[Any] = orjson.loads(data)
    return place


def _seal(list_name: str, data: bytes) -> bytes:
    who = caller()
    message = orjson.dumps([who.merchant_id, list_name]) + data
    return hmac.digest(who.secret_hash, message, hashlib.sha256)[:SEAL_BYTES]
