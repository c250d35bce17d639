"""The manifest: what an export holds. A file that it does not name is not part of the export."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import orjson

from ledger.errors import InvalidInput
from projections.export.columns import Column
from projections.export.files import Format, write_whole

FORMAT_VERSION = 1
NAME = "manifest.json"
DATA = re.compile(
    r"(log/day=\d{4}-\d\d-\d\d/part-\d{12,}-\d{12,}|[a-z_]+/v\d+-\d{12,}-[0-9a-f]{8})\.(parquet|csv|ndjson)", re.ASCII
)
"""The path of a file of rows: nothing else is written, or read, or named by a manifest."""


class ManifestUnreadable(InvalidInput):
    """The manifest of the export cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of rows."""

    path: str
    """Below the folder of the export, with slashes."""
    what: str
    """``log``, or the read model's name."""
    rows: int
    bytes: int
    sha256: str
    first_position: int
    """Of the log: the positions that it covers. Of a read model: 1 and the position that it stands at."""
    last_position: int
    schema_version: int
    """Of the columns: the log's own, or the read model's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """How far the log is exported."""

    schema_version: int
    first_position: int
    last_position: int
    """One less than the first while there was nothing to export."""
    fingerprint: str | None
    """SHA-256 that tells this log from another at the last position; ``None`` of an empty log."""
    columns: dict[str, str]
    """The kind of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSnapshot:
    """A read model as it was at a position."""

    version: int
    position: int
    skips: int
    """Events up to there that an operator let this version pass over: what they did, its rows lack."""
    columns: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Manifest:
    """What is in a folder."""

    ledger: str
    """The PostgreSQL schema of the ledger."""
    format: Format
    merchant_id: str | None
    """Whose rows alone are in it; ``None``: everybody's."""
    log: Log | None = None
    models: dict[str, ModelSnapshot] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, ``None`` without one. Raises ``ManifestUnreadable``."""
        try:
            content = orjson.loads((folder / NAME).read_bytes())
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError:
            raise ManifestUnreadable(f"{folder / NAME} is not JSON") from None
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise ManifestUnreadable(
                f"{folder / NAME} has format_version {version!r:.60}, and {FORMAT_VERSION} is known"
            )
        said = {name: each for name, each in content.items() if name != "format_version"}
        try:
            manifest: Manifest = _as(cls, said, "")
        except TypeError as error:
            raise ManifestUnreadable(f"{folder / NAME} is not a manifest: {error}") from None
        for file in manifest.files:
            if DATA.fullmatch(file.path) is None:
                raise ManifestUnreadable(f"{folder / NAME} names {file.path!r:.60}, which is no file of an export")
        return manifest

    def write(self, folder: Path) -> None:
        """Put it in the folder, as a whole, and in an order of its own: the same files make the same bytes."""
        files = sorted(self.files, key=lambda file: (file.what, file.first_position, file.path))
        ordered = replace(self, models=dict(sorted(self.models.items())), files=files)
        content = {"format_version": FORMAT_VERSION} | asdict(ordered)
        write_whole(folder / NAME, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    def paths(self) -> set[str]:
        """Of all its files."""
        return {file.path for file in self.files}


def kinds(columns: tuple[Column, ...]) -> dict[str, str]:
    """Columns as the manifest names them."""
    return {column.name: column.kind for column in columns}


def _as(type_: Any, said: Any, place: str) -> Any:
    """What JSON says at a place, as an object of this type. Raises ``TypeError`` for what is of another."""
    outer, inner = get_origin(type_) or type_, get_args(type_)
    if outer is UnionType:
        return None if said is None else _as(inner[0], said, place)
    if outer is Literal and said in inner:
        return said
    if outer is list and type(said) is list:
        return [_as(inner[0], each, f"{place}[{number}]") for number, each in enumerate(said)]
    if outer is dict and type(said) is dict:
        return {name: _as(inner[1], each, f"{place}[{name!r:.60}]") for name, each in said.items()}
    if isinstance(outer, type) and is_dataclass(outer) and type(said) is dict:
        types = get_type_hints(outer)
        dot = place and f"{place}."
        if differing := sorted(types.keys() ^ said.keys()):
            raise TypeError(f"{dot}{differing[0]!r:.60} is {'missing' if differing[0] in types else 'not known'}")
        return outer(**{name: _as(types[name], each, f"{dot}{name}") for name, each in said.items()})
    if type(said) is outer:
        return said
    raise TypeError(f"{place} is {said!r:.60}")
