"""How commands show rows: a table for people, JSON for programs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Column, Table

WIDTH_IN_FILES = 200
"""Columns of a table that goes to a file or a pipe, where no terminal says how wide it is."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")


def show_rows(rows: Sequence[Any], as_json: bool, columns: Sequence[str] = ()) -> None:
    """Dataclass rows as a table (of these columns, or all), or as a JSON list of everything."""
    if as_json:
        click.echo(orjson.dumps([_record(row) for row in rows], option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
        return
    if not rows:
        click.echo("none")
        return
    columns = columns or [field.name for field in fields(rows[0])]
    table = Table(*(Column(name.replace("_", " "), overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in columns))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES).print(table)


def show_record(row: Any, as_json: bool) -> None:
    """One dataclass row, a line a field, or as a JSON object."""
    record = _record(row)
    if as_json:
        click.echo(orjson.dumps(record, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
        return
    width = max(map(len, record))
    for name, value in record.items():
        click.echo(f"{name:<{width}}  {_cell(value)}")


def _record(row: Any) -> dict[str, Any]:
    return {field.name: _readable(getattr(row, field.name)) for field in fields(row)}


def _readable(value: Any) -> Any:
    """Bytes as text, for messages are shown as they came; undecodable bytes are shown escaped."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        return [_readable(part) for part in value]
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(_readable(value))


def log_to_stderr() -> None:
    """What a process of the service says, a line each, on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
