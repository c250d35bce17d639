"""Reading a body: strict JSON (RFC 8259 as I-JSON has it), so that two readers never see two different orders.

Refused are other encodings than UTF-8, members named twice, NaN and infinities, lone surrogates, NUL, numbers that no
double holds, and nesting deeper than ``DEPTH_LIMIT``.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from flask import Request, request

from api.problems import MalformedJson, TooLarge, UnsupportedMediaType
from ledger.errors import InvalidField

DEPTH_LIMIT = 20


class StrictRequest(Request):
    """A request whose JSON is read strictly, once."""

    body_limit_bytes = 0
    _body: dict[str, Any] | None = None

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """The body's object; an empty body counts as ``{}``, where JSON or no media type is named.

        Raises ``TooLarge``, ``UnsupportedMediaType``, ``MalformedJson``, or ``InvalidField`` when it is no object.
        """
        if self._body is None:
            self._body = self._read()
        return self._body

    def _read(self) -> dict[str, Any]:
        data = self._data()
        if not data and not self.content_type:
            return {}
        if self.content_type != "application/json":
            charset = self.mimetype_params.get("charset", "utf-8").lower()
            if self.mimetype != "application/json" or charset not in ("utf-8", "utf8"):
                raise UnsupportedMediaType
        value = loads(data) if data else {}
        if not isinstance(value, dict):
            raise InvalidField("the body is not an object", errors=[_NO_OBJECT])
        return value

    def _data(self) -> bytes:
        length = self.content_length
        if length is None:
            # A body without a declared length is cut one byte after the limit, and so seen to be too large.
            self.max_content_length = self.body_limit_bytes + 1
            data = self.get_data(cache=False)
            length = len(data)
        elif length <= self.body_limit_bytes:
            # In one read, where the framework's stream would fill two buffers of 64 KiB for the smallest body.
            try:
                data = self.environ["wsgi.input"].read(length)
            except (OSError, ValueError):  # the sender is gone
                data = b""
            if len(data) < length:
                raise MalformedJson("the body ended before its declared length")
        if length > self.body_limit_bytes:
            raise TooLarge
        return data


def present() -> StrictRequest:
    """The request in hand itself: each look through the framework's proxy takes longer than what it looks at."""
    found: StrictRequest = request._get_current_object()  # type: ignore[attr-defined]
    return found


_NO_OBJECT = {"pointer": "", "code": InvalidField.code(), "detail": "the body is not an object"}


def loads(data: bytes) -> Any:
    """The value of a JSON text. Raises ``MalformedJson``."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)
    except RecursionError:
        raise MalformedJson(f"the body nests deeper than {DEPTH_LIMIT}") from None
    except ValueError as error:  # which UnicodeDecodeError and JSONDecodeError are
        raise MalformedJson(str(error)) from None
    # UTF-8 holds no half of a surrogate pair and JSON no bare NUL, so without an escape there is none to look for.
    if "\\u" in text or text.count("{") + text.count("[") > DEPTH_LIMIT:
        _check(value, 1)
    return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise MalformedJson("a member is named twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise MalformedJson("a number is out of range")
    return number


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise MalformedJson("a string holds NUL or half a surrogate pair")
    elif isinstance(value, dict | list):
        if depth > DEPTH_LIMIT:
            raise MalformedJson(f"the body nests deeper than {DEPTH_LIMIT}")
        for part in value.values() if isinstance(value, dict) else value:
            _check(part, depth + 1)
        if isinstance(value, dict):
            for name in value:
                _check(name, depth)
