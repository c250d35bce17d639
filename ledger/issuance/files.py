"""Files of users: CSV or NDJSON, plain or gzip, read row by row in memory that does not grow with the file.

What is wrong with one row is that row's own failure. What makes the rows themselves uncertain (a heading without
``user_id``, broken gzip, bytes that are no UTF-8, a quotation that never ends) refuses the whole file, and names the
line. Row numbers count rows, from 1: neither the heading nor empty lines have one. So CSV and NDJSON of the same users
are the same rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from ledger.audience import Facts
from ledger.errors import InvalidField, InvalidInput
from ledger.issuance.job import UnreadableFile
from ledger.use_cases.checks import check_id

FileFormat = Literal["csv", "ndjson"]
ROW_LIMIT = 10_000_000
LINE_LIMIT = 65_536
"""Characters of one line."""
FILE_LIMIT_BYTES = 2 * 1024**3
"""Of a file as it is sent, and again of what gzip makes of it: ten million rows of 200 bytes."""
SHOWN_LIMIT = 200
"""Characters of a bad user id that are kept, so that people find it in their file."""
FIELDS = ("user_id", "channel", "points_receipt", "facts")
DEFAULT_CHANNEL = "issue"


class Readable(Protocol):
    """A body or a file."""

    def read(self, size: int, /) -> bytes: ...


class Row(NamedTuple):
    """A good row: a user, and what else the issue is asked with."""

    number: int
    user_id: str
    extras: dict[str, Any]


class BadRow(NamedTuple):
    """A row that asks for nothing, and why."""

    number: int
    user_id: str
    code: str
    detail: str


def read_rows(file: Readable, format: FileFormat, *, gzipped: bool) -> Iterator[Row | BadRow]:
    """The rows of a file. Raises ``UnreadableFile`` where nothing that follows can be trusted."""
    bounded: io.RawIOBase = _Bounded(file)
    if gzipped:
        bounded = _Bounded(gzip.GzipFile(fileobj=io.BufferedReader(bounded)))
    lines = _Lines(bounded)
    try:
        yield from (_csv_rows if format == "csv" else _ndjson_rows)(lines)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _unreadable(lines.next_number, f"the gzip is broken: {error}") from None
    except UnicodeDecodeError as error:
        number = lines.next_number + error.object.count(b"\n", 0, error.start)
        raise _unreadable(number, "is not UTF-8") from None


class _Bounded(io.RawIOBase):
    """A stream that refuses to be longer than a file may be."""

    def __init__(self, inner: Readable) -> None:
        self._inner = inner
        self._left = FILE_LIMIT_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UnreadableFile(f"a file has at most {FILE_LIMIT_BYTES} bytes, before and after gzip")
        buffer[: len(data)] = data
        return len(data)


class _Lines:
    """Lines of text, counted as they are read."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._text = io.TextIOWrapper(io.BufferedReader(raw, 65_536), "utf-8-sig", newline="")
        self.next_number = 1
        """Of the line that is read next, from 1."""

    def __iter__(self) -> Iterator[str]:
        read = self._text.readline
        while line := read(LINE_LIMIT + 1):
            if len(line) > LINE_LIMIT:
                raise _unreadable(self.next_number, f"has more than {LINE_LIMIT} characters")
            self.next_number += 1
            yield line


def _csv_rows(lines: _Lines) -> Iterator[Row | BadRow]:
    reader = csv.reader(lines, strict=True)
    try:
        cells = next(filter(None, reader), None)
        if cells is None:
            return
        heading = [cell.strip().lower() for cell in cells]
        if "user_id" not in heading or len(set(heading)) != len(heading) or not set(heading) <= set(FIELDS):
            why = f"is not a heading of user_id and any of {', '.join(FIELDS[1:])}, each once{_hint(heading)}"
            raise _unreadable(lines.next_number - 1, why)
        number = 0
        for cells in reader:
            if not cells:
                continue
            number = _next(number)
            if len(heading) == 1 and len(cells) == 1:
                yield _checked(number, {"user_id": cells[0]})
            elif len(cells) != len(heading):
                detail = f"the row has {len(cells)} cells and the heading {len(heading)}"
                yield BadRow(number, cells[heading.index("user_id")][:SHOWN_LIMIT] if cells else "", *_form(detail))
            else:
                yield _from_cells(number, dict(zip(heading, cells, strict=True)))
    except csv.Error as error:
        raise _unreadable(lines.next_number - 1, f"is no CSV: {error}") from None


def _hint(heading: list[str]) -> str:
    """Spreadsheets of many countries cut cells otherwise."""
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if "user_id" in (cell.strip() for cell in ",".join(heading).split(sign)):
            return f"; commas cut its cells, not {name}"
    return ""


def _from_cells(number: int, cells: dict[str, str]) -> Row | BadRow:
    fields: dict[str, Any] = {name: cell for name, cell in cells.items() if cell or name == "user_id"}
    if "facts" in fields:
        try:
            fields["facts"] = orjson.loads(fields["facts"])
        except orjson.JSONDecodeError:
            return BadRow(number, cells["user_id"][:SHOWN_LIMIT], *_form("facts is a JSON object"))
    row = _checked(number, fields)
    return _once(row, cells["facts"], fields["facts"]) if "facts" in fields else row


def _ndjson_rows(lines: _Lines) -> Iterator[Row | BadRow]:
    number = 0
    for line in lines:
        text = line.strip()
        if not text:
            continue
        number = _next(number)
        try:
            fields = orjson.loads(text)
        except orjson.JSONDecodeError:
            yield BadRow(number, text[:SHOWN_LIMIT], *_form("the line is no JSON"))
            continue
        if isinstance(fields, str):
            yield _checked(number, {"user_id": fields})
        elif not isinstance(fields, dict):
            yield BadRow(number, text[:SHOWN_LIMIT], *_form("the line is neither a user id nor an object"))
        elif unknown := sorted(set(fields) - set(FIELDS)):
            yield BadRow(number, _shown(fields.get("user_id")), *_form(f"{unknown[0][:SHOWN_LIMIT]} is not known"))
        else:
            row = _checked(number, {name: value for name, value in fields.items() if value is not None})
            yield _once(row, text, fields)


def _once(row: Row | BadRow, text: str, said: dict[str, Any]) -> Row | BadRow:
    """The row, unless an object in its text names something twice: which of the two is meant nobody can know.

    Each name has a colon behind it, so only where there are more colons than names is the text read once more, by a
    parser that tells of each name and is many times slower.
    """
    facts = said.get("facts")
    if isinstance(row, Row) and text.count(":") > len(said) + (len(facts) if isinstance(facts, dict) else 0):
        try:
            json.loads(text, object_pairs_hook=_object)
        except (_NamedTwice, RecursionError):  # what is nested so deeply was said twice, or the row were no good
            return BadRow(row.number, row.user_id, *_form("a name stands twice in one object"))
    return row


class _NamedTwice(Exception):
    """An object names something twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) < len(pairs):
        raise _NamedTwice
    return said


def _checked(number: int, fields: dict[str, Any]) -> Row | BadRow:
    """The row in its normal form, in which what may be left out is."""
    user_id = fields.get("user_id")
    try:
        _check_text("user_id", user_id)
        if len(fields) == 1:
            return Row(number, str(user_id), {})
        extras = {name: fields[name] for name in FIELDS[1:] if name in fields}
        for name in ("channel", "points_receipt"):
            if name in extras:
                _check_text(name, extras[name])
        if extras.get("channel") == DEFAULT_CHANNEL:
            del extras["channel"]
        if "facts" in extras:
            extras["facts"] = _normal_facts(extras["facts"])
            if not extras["facts"]:
                del extras["facts"]
        return Row(number, str(user_id), extras)
    except InvalidInput as refusal:
        return BadRow(number, _shown(user_id), refusal.code(), refusal.detail)


def _normal_facts(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict) or not set(said) <= {"person", "newcomer", "tier", "points", "tags"}:
        raise InvalidField("facts is an object of person, newcomer, tier, points and tags", field="facts")
    if isinstance(said.get("tags"), list):
        for tag in said["tags"]:
            _check_text("facts.tags", tag)
        said = said | {"tags": tuple(said["tags"])}
    elif said.get("tags") is not None:
        raise InvalidField("facts.tags is a list", field="facts.tags")
    for name in ("person", "tier"):
        if said.get(name) is not None:
            _check_text(f"facts.{name}", said[name])
    return dict(sorted(Facts(**said).to_payload().items()))


def _check_text(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidField(f"{field} is a text", field=field)
    check_id(field, value)


def _next(number: int) -> int:
    if number == ROW_LIMIT:
        raise UnreadableFile(f"a file has at most {ROW_LIMIT} rows")
    return number + 1


def _form(detail: str) -> tuple[str, str]:
    return InvalidField.code(), detail


def _shown(value: Any) -> str:
    return value[:SHOWN_LIMIT] if isinstance(value, str) else ""


def _unreadable(line: int, why: str) -> UnreadableFile:
    return UnreadableFile(f"line {line} {why}", line=line)
