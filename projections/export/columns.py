"""Columns of exported files: a name, and one of a few kinds that every format can hold."""

from __future__ import annotations

from typing import Any, Literal, LiteralString, NamedTuple

Kind = Literal["int64", "float64", "text", "json", "boolean", "time", "date"]
Row = tuple[Any, ...]


class Column(NamedTuple):
    """A column of every row of a file."""

    name: str
    kind: Kind
    """``time`` is UTC to the microsecond; ``json`` is a text that holds JSON."""


_KINDS: dict[str, Kind] = {
    "bigint": "int64",
    "integer": "int64",
    "smallint": "int64",
    "double precision": "float64",
    "real": "float64",
    "text": "text",
    "json": "json",
    "jsonb": "json",
    "boolean": "boolean",
    "timestamp with time zone": "time",
    "date": "date",
}


def column_of(name: str, sql_type: str) -> Column:
    """The column of a table's column. Arrays become JSON, and every other type its text."""
    return Column(name, "json" if sql_type.endswith("[]") else _KINDS.get(sql_type, "text"))


def selected(column: Column, sql_type: str) -> LiteralString:
    """How a statement reads that column, once its name is put in."""
    if sql_type.endswith("[]"):
        return "to_jsonb({})::text"
    return "{}::text" if column.kind in ("text", "json") and sql_type != "text" else "{}"
