"""The manifest of an export is read with the types that it has, and names nothing outside of its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from projections.export.check import check
from projections.export.manifest import NAME, File, Log, Manifest, ManifestUnreadable, ModelSnapshot

LOG_FILE = "log/day=2026-11-22/part-000000000001-000000000001.ndjson"
MODEL_FILE = "wallet/v2-000000000001-5f1d02c7.ndjson"
CONTENT = b'{"position": 1}\n'


@pytest.fixture
def exported(tmp_path):
    """A folder with an export of one event and of one read model."""
    for path in (LOG_FILE, MODEL_FILE):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(CONTENT)
    manifest = Manifest(
        ledger="coupon_ledger",
        format="ndjson",
        merchant_id=None,
        log=Log(schema_version=1, first_position=1, last_position=1, fingerprint=None, columns={"position": "int64"}),
        models={"wallet": ModelSnapshot(version=2, position=1, skips=0, columns={"position": "int64"})},
        files=[file_of("log", LOG_FILE), file_of("wallet", MODEL_FILE)],
    )
    manifest.write(tmp_path)
    return tmp_path, manifest


def file_of(what: str, path: str) -> File:
    return File(
        path=path,
        what=what,
        rows=1,
        bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        first_position=1,
        last_position=1,
        schema_version=1,
    )


def test_what_was_written_is_read(exported):
    folder, manifest = exported
    assert Manifest.read(folder) == manifest
    assert check(folder) == (manifest, [])


def put(*place: str | int, value: Any) -> Callable[[Any], None]:
    """Change one value of a manifest."""

    def change(content: Any) -> None:
        for step in place[:-1]:
            content = content[step]
        content[place[-1]] = value

    return change


DAMAGE = {
    "path is a number": put("files", 0, "path", value=1),
    "rows are a text": put("files", 0, "rows", value="1"),
    "rows are a truth": put("files", 0, "rows", value=True),
    "rows are a fraction": put("files", 0, "rows", value=1.0),
    "no digest": put("files", 0, "sha256", value=None),
    "a file is a list": put("files", 0, value=[]),
    "a member too many": put("files", 0, "more", value=1),
    "files are an object": put("files", value={}),
    "models are a list": put("models", value=[]),
    "a model is nothing": put("models", "wallet", value=None),
    "a version is a text": put("models", "wallet", "version", value="2"),
    "a kind is a number": put("models", "wallet", "columns", "position", value=8),
    "the log is a text": put("log", value="log"),
    "a position is a list": put("log", "last_position", value=[1]),
    "the fingerprint is a number": put("log", "fingerprint", value=1),
    "an unknown format": put("format", value="xlsx"),
    "a format that is a list": put("format", value=["ndjson"]),
    "a ledger that is a number": put("ledger", value=5),
    "a merchant that is an object": put("merchant_id", value={}),
    "no log": lambda content: content.pop("log"),
    "no path": lambda content: content["files"][0].pop("path"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_is_told_as_such(exported, damage):
    folder, _ = exported
    content = orjson.loads((folder / NAME).read_bytes())
    DAMAGE[damage](content)
    (folder / NAME).write_bytes(orjson.dumps(content))
    for read in (Manifest.read, check):
        with pytest.raises(ManifestUnreadable, match=NAME):
            read(folder)


@pytest.mark.parametrize(
    "path",
    [
        "../elsewhere/wallet/v2-000000000001-5f1d02c7.ndjson",
        "/wallet/v2-000000000001-5f1d02c7.ndjson",
        "log/../../wallet/v2-000000000001-5f1d02c7.ndjson",
        "wallet/v2-000000000001-5f1d02c7.ndjson\x00",
        "wallet/v2-000000000001-5f1d02c7.ndjson\n",
        "wallet/\x1b[2J.ndjson",
        "wallet",
        "",
        "manifest.json",
        ".lock",
    ],
)
def test_a_path_that_no_export_has_is_refused(exported, path):
    folder, _ = exported
    content = orjson.loads((folder / NAME).read_bytes())
    content["files"][1]["path"] = path
    (folder / NAME).write_bytes(orjson.dumps(content))
    with pytest.raises(ManifestUnreadable) as refused:
        check(folder)
    assert refused.value.detail.isprintable()


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"1", b"{}", b'{"format_version": 2}', b"\xff"])
def test_what_is_no_manifest_at_all(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ManifestUnreadable):
        Manifest.read(tmp_path)
