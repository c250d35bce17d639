"""docs/export.md has every column of every exported file, with its kind."""

from __future__ import annotations

import re

from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.export.log_rows import COLUMNS, SCHEMA_VERSION
from projections.export.manifest import kinds
from projections.export.run import Options, export
from tests.postgres.exported import HEADING, PAGE, columns, models

ROW = re.compile(r"^\| `([a-z_]+)` \| `([a-z0-9]+)` \| .*\|$", re.MULTILINE)


def test_the_logs_columns_are_on_the_page():
    section = PAGE.read_text("utf-8").partition(f"## The log, columns of version {SCHEMA_VERSION}")[2]
    assert ROW.findall(section.partition("## ")[0]) == list(kinds(COLUMNS).items())


def test_the_read_models_columns_are_on_the_page():
    _, heading, made = PAGE.read_text("utf-8").partition(HEADING)
    assert heading + made == models(), "run: python -m tests.postgres.exported"


def test_the_page_is_made_of_what_is_exported(database, tmp_path):
    checkpoints.install(database, PROJECTIONS)
    manifest = export(database, tmp_path, Options(format="ndjson")).manifest
    for projection in PROJECTIONS:
        told = {name: kind for name, kind, _ in columns(projection)}
        assert manifest.models[projection.name].columns == told
