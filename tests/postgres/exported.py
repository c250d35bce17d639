"""The read models of docs/export.md, made from their tables: ``python -m tests.postgres.exported``."""

from __future__ import annotations

import re
from pathlib import Path

from projections.catalogue import PROJECTIONS
from projections.export.columns import column_of
from projections.projection import Projection

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
HEADING = "### `"
SQL_TYPES = {"timestamptz": "timestamp with time zone"}
_COLUMN = re.compile(r"^ +([a-z_]+) +([a-z]+(?:\[\])?)\b[^-\n]*(?:-- (.+))?$", re.MULTILINE)
_KEY = re.compile(r"^ +(?:primary key \(([a-z_, ]+)\)|([a-z_]+) .*\bprimary key)", re.MULTILINE)


def models() -> str:
    """A heading and a table of columns for each read model."""
    return "\n".join(_section(projection) for projection in PROJECTIONS)


def columns(projection: Projection) -> list[tuple[str, str, str]]:
    """Name, kind and meaning of each column, as the definition has them."""
    body = projection.ddl.partition("create table {table} (")[2]
    found = _COLUMN.findall(re.split(r"^ +(?:primary key|check|constraint)\b", body, maxsplit=1, flags=re.MULTILINE)[0])
    return [(name, column_of(name, SQL_TYPES.get(type, type)).kind, meaning) for name, type, meaning in found]


def _section(projection: Projection) -> str:
    told = (projection.__doc__ or "").partition("\n\n")[0]
    key = next(_KEY.finditer(projection.ddl))
    lines = [f"{HEADING}{projection.name}`, version {projection.version}", ""]
    lines += [f"{' '.join(told.split()).replace('``', '`')} Key: {key[1] or key[2]}.", ""]
    lines += ["| column | kind | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | `{kind}` | {meaning} |" for name, kind, meaning in columns(projection)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    before = PAGE.read_text("utf-8").partition(HEADING)[0]
    PAGE.write_text(before + models(), "utf-8")
