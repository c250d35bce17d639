"""The file of an order system: a line for each order and coupon, as CSV or NDJSON (docs/audit.md)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import orjson

from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.errors import InvalidField, InvalidInput
from ledger.terms import ReturnReason
from ledger.use_cases import check_id

FileFormat = Literal["csv", "ndjson"]
State = Literal["paid", "cancelled", "refunded"]
NEEDED = ("order_id", "coupon_id", "state", "discount_minor", "currency", "at")
OPTIONAL = ("paid_minor", "user_id", "reason")
LINE_LIMIT = 64 * 1024
"""Characters of a line, or of a cell."""


YEARS = (1970, 9000)
"""In which a time of the ledger may lie."""


class UnreadableOrders(InvalidInput):
    """The file cannot be read as orders."""


class Told(NamedTuple):
    """What the order system says of one coupon on one order."""

    line: int
    order_id: str
    coupon_id: str
    state: State
    discount_minor: int
    """What the coupon took off the order."""
    currency: str
    at: datetime
    """When it came to this state."""
    paid_minor: int | None
    user_id: str | None
    reason: str | None
    """Of a refund: whose it is."""


class BadLine(NamedTuple):
    """A line that says nothing that can be compared."""

    line: int
    why: str


def read_orders(path: Path, format: FileFormat) -> Iterator[Told | BadLine]:
    """One after the other, never all at once. Raises ``UnreadableOrders`` for what is no such file at all."""
    try:
        with path.open(encoding="utf-8-sig", newline="" if format == "csv" else None) as file:
            lines = _csv(file) if format == "csv" else _ndjson(file)
            for number, fields in lines:
                yield _told(number, fields) if isinstance(fields, Mapping) else BadLine(number, fields)
    except UnicodeDecodeError as error:
        raise UnreadableOrders(f"{path.name} is no UTF-8 text: {error.reason}") from None
    except csv.Error as error:
        raise UnreadableOrders(f"{path.name} is no CSV: {error}") from None


def _csv(file: Any) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader(file, strict=True)
    names = [name.strip() for name in next(reader, [])]
    if missing := [name for name in NEEDED if name not in names]:
        raise UnreadableOrders(f"the file's first line names no {', '.join(missing)}")
    if twice := [name for name in (*NEEDED, *OPTIONAL) if names.count(name) > 1]:
        raise UnreadableOrders(f"the file's first line names {', '.join(twice)} twice")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(names):
            yield reader.line_num, f"has {len(cells)} cells, and the first line {len(names)}"
            continue
        fields: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True) if cell != ""}
        for name in ("discount_minor", "paid_minor"):
            if re.fullmatch(r"[0-9]{1,13}", fields.get(name, "")):
                fields[name] = int(fields[name])
        yield reader.line_num, fields


def _ndjson(file: Any) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    number = 0
    while line := file.readline(LINE_LIMIT):
        number += 1
        if len(line) == LINE_LIMIT:
            raise UnreadableOrders(f"line {number} has {LINE_LIMIT} characters or more")
        if not line.strip():
            continue
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError:
            fields = None
        yield number, fields if isinstance(fields, dict) else "is no JSON object"


def _told(number: int, fields: Mapping[str, Any]) -> Told | BadLine:
    said: dict[str, Any] = {name: fields.get(name) for name in (*NEEDED, *OPTIONAL)}
    missing = [name for name in NEEDED if said[name] is None]
    if missing:
        return BadLine(number, f"has no {', '.join(missing)}")
    try:
        for name in ("order_id", "coupon_id", "user_id"):
            if said[name] is not None:
                _check_text(name, said[name])
        for name in ("discount_minor", "paid_minor"):
            _check_money(name, said[name])
        for name, allowed in (("state", get_args(State)), ("reason", get_args(ReturnReason))):
            if said[name] is not None and said[name] not in allowed:
                raise InvalidField(f"{name} is {', '.join(allowed)}")
        if not isinstance(said["currency"], str) or not re.fullmatch(r"[A-Z]{3}", said["currency"]):
            raise InvalidField("currency is an ISO 4217 code of three capital letters")
        at = _moment(said["at"])
    except InvalidField as error:
        return BadLine(number, error.detail)
    return Told(**said | {"line": number, "at": at})


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidField(f"{name} is a text")
    check_id(name, value)


def _check_money(name: str, value: Any) -> None:
    if value is not None and not (type(value) is int and 0 <= value < MONEY_LIMIT_MINOR):
        raise InvalidField(f"{name} is a whole number of minor units from 0 to below 10^12")


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidField("at is a time as 2026-11-22T10:00:00Z") from None
    if moment.tzinfo is None:
        raise InvalidField("at needs a time zone")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = datetime.min
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise InvalidField(f"at is in a year from {YEARS[0]} to {YEARS[1]}")
    return moment
