"""The published contract: a JSON Schema for each type of message, made from the models.

``python -m consumers.contracts docs/contracts`` writes the files; a test compares them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from consumers.payloads import PAYLOADS


def schemas() -> dict[str, dict[str, Any]]:
    """By type of message."""
    return {
        kind: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"{kind}.json",
            **payload.model_json_schema(),
        }
        for kind, payload in PAYLOADS.items()
    }


def text_of(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2) + "\n"


def write(folder: Path) -> None:
    """Write each schema to ``<type>.json``."""
    for kind, schema in schemas().items():
        (folder / f"{kind}.json").write_text(text_of(schema))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
