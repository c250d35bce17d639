"""The types of the wire: what a field of a request may hold, exactly.

JSON has one number type and no dates, so each type says what it takes: ``5`` is a whole number, ``"5"``, ``5.0`` and
``true`` are not; a time carries its zone; a text has no control or direction characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from werkzeug.routing import BaseConverter

from ledger.batch import QUANTITY_LIMIT
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.errors import InvalidInput
from ledger.template import DESCRIPTION_LIMIT
from ledger.use_cases import ID_LIMIT, REASON_LIMIT, check_id

POSITION_LIMIT = 2**63 - 1
PAGE_LIMIT = 200
PAGE_DEFAULT = 50

T = TypeVar("T")


class Body(BaseModel):
    """An object in a request: every member is known, none is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Parameters(BaseModel):
    """Parameters in an address, which come as text. Classes are named ``...Path`` or ``...Query``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def obeying(make: Callable[[], T]) -> T:
    """What the domain makes of a body; its refusal becomes one of validation, naming the same field."""
    try:
        return make()
    except InvalidInput as refusal:
        # The domain names a field from the top; validation already stands at the object that holds it.
        context = {"detail": refusal.detail, "field": str(refusal.facts.get("field", "")).rpartition(".")[2]}
        raise PydanticCustomError(refusal.code(), "{detail}", context) from None


# --- text -------------------------------------------------------------------------------------------


def _id(value: str) -> str:
    try:
        check_id("an id", value)
    except InvalidInput as refusal:
        raise PydanticCustomError("invalid_field", "{detail}", {"detail": refusal.detail}) from None
    return value


def _text(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise PydanticCustomError("invalid_field", "printable characters, without space around them")
    return value


def _description(value: str) -> str:
    if not value.replace("\n", "").isprintable():
        raise PydanticCustomError("invalid_field", "printable characters and line breaks")
    return value


def _printable(most: int, least: int = 1) -> Any:
    return Field(
        min_length=least,
        max_length=most,
        description="Printable characters, without space around them.",
        json_schema_extra={"format": "printable"},
    )


Id = Annotated[str, AfterValidator(_id), _printable(ID_LIMIT)]
Name = Annotated[str, AfterValidator(_text), _printable(200)]
Label = Annotated[str, AfterValidator(_text), _printable(200, least=0)]
Reason = Annotated[str, AfterValidator(_text), _printable(REASON_LIMIT)]
Description = Annotated[
    str,
    AfterValidator(_description),
    Field(
        max_length=DESCRIPTION_LIMIT,
        description="Printable characters and line breaks (line feeds).",
        json_schema_extra={"format": "printable"},
    ),
]
Channel = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["issue", "claim", "app"])]
RequestId = Annotated[
    str,
    Field(
        pattern=r"^[ -~]{1,255}$",
        description="An idempotency key, or what names a message: its source, a space and its id.",
    ),
]
Digest = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_+/=-]{1,128}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217", examples=["EUR"])]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,512}$", description="`next_cursor` of the page before.")]


# --- numbers ----------------------------------------------------------------------------------------


def _quantity(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= QUANTITY_LIMIT:
        raise PydanticCustomError("invalid_quantity", "a whole number from 1 to {limit}", {"limit": QUANTITY_LIMIT})
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value) else None


Quantity = Annotated[
    int,
    PlainValidator(_quantity),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": QUANTITY_LIMIT}),
]
Minor = Annotated[
    int, Field(strict=True, ge=0, lt=MONEY_LIMIT_MINOR, description="Minor units of the currency, such as cents.")
]
Version = Annotated[int, Field(ge=1, le=POSITION_LIMIT), BeforeValidator(_whole)]
Position = Annotated[int, Field(ge=0, le=POSITION_LIMIT), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=PAGE_LIMIT), BeforeValidator(_whole)]


# --- times ------------------------------------------------------------------------------------------

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _moment(value: Any) -> datetime:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        else:
            if 1970 <= moment.year <= 9000:
                return moment
    raise PydanticCustomError("invalid_period", "an RFC 3339 time with its zone, in a year from 1970 to 9000")


Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-06-01T00:00:00Z"]}),
]


# --- bodies that several operations take ----------------------------------------------------------------


class Empty(Body):
    """No members. The body may be left out."""

    model_config = ConfigDict(openapi_extra={"required": False})  # type: ignore[typeddict-unknown-key]


class ReasonBody(Body):
    """Why."""

    reason: Reason


# --- parameters that several operations take ----------------------------------------------------------


class AtLeastQuery(Parameters):
    """How new a read model must be."""

    at_least: Position = Field(
        0, description="Wait, at most 2 seconds, until the read model is at this position; a write's Ledger-Position."
    )


class PageQuery(Parameters):
    """Which page of a list."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class TemplatePath(Parameters):
    """A template's id."""

    template_id: Id


class BatchPath(Parameters):
    """A batch's id."""

    batch_id: Id


class CouponPath(Parameters):
    """A coupon's id."""

    coupon_id: Id


class CallersIdConverter(BaseConverter):
    """An id that a caller chose: a slash within it, sent as ``%2F``, does not end it; nor does a line break."""

    regex = r"[\s\S]+?"
    part_isolating = False


class OrderPath(Parameters):
    """An order's id, as its system knows it."""

    order_id: Id


class UserPath(Parameters):
    """A user's id, as the shop knows it: opaque, never a name or a number to reach somebody."""

    user_id: Id


class NoQuery(Parameters):
    """No parameters."""
