"""The folder of an export: what a run that was cut off left goes, and nothing of a finished export ever does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.export.check import check
from projections.export.folder import ManifestLost
from projections.export.manifest import NAME, Manifest
from projections.export.run import Options, export
from projections.runner import Runner


class Killed(BaseException):
    """The end of a process, of which nothing is tidied up but what files do by themselves."""


@pytest.fixture
def filled(database, shop):
    for number in range(3):
        shop.coupon(f"user-{number}")
    checkpoints.install(database, PROJECTIONS)
    Runner(database, PROJECTIONS).catch_up()
    return database


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the folder but its lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def die_at(what: str):
    """Dies when the first rows of this are written."""

    def progress(writes: str, _done: int, _total: int | None) -> None:
        if writes == what:
            raise Killed

    return progress


def test_an_export_whose_manifest_is_lost_is_left_alone(filled, tmp_path):
    export(filled, tmp_path, Options(format="ndjson"))
    (tmp_path / NAME).unlink()
    (tmp_path / "wallet" / ".7.part").write_bytes(b"{")
    before = files(tmp_path)
    for options in ({}, {"continue_": True}, {"what": ("log",)}):
        with pytest.raises(ManifestLost, match=NAME):
            export(filled, tmp_path, Options(format="ndjson", **options))
        assert files(tmp_path) == before


@pytest.mark.parametrize("continue_", [False, True])
def test_a_first_export_that_was_cut_off_is_begun_again(filled, tmp_path, continue_):
    with pytest.raises(Killed):
        export(filled, tmp_path, Options(format="csv"), die_at("batch_balance"))
    (tmp_path / "log" / "day=2026-11-22").mkdir(parents=True)
    (tmp_path / "log" / "day=2026-11-22" / ".7.part").write_bytes(b"{")  # which a killed process leaves
    left = set(files(tmp_path))
    assert any(path.startswith("wallet/") for path in left)
    done = export(filled, tmp_path, Options(format="ndjson", continue_=continue_))  # also with other options
    assert check(tmp_path)[1] == []
    assert set(files(tmp_path)) == {NAME, *done.manifest.paths()}
    assert not left & done.manifest.paths()


def test_once_there_was_a_manifest_its_loss_is_no_beginning(filled, tmp_path):
    with pytest.raises(Killed):
        export(filled, tmp_path, Options(format="ndjson"), die_at("log"))
    export(filled, tmp_path, Options(format="ndjson"))
    with pytest.raises(Killed):
        export(filled, tmp_path, Options(format="ndjson", continue_=True), die_at("wallet"))
    (tmp_path / NAME).unlink()
    before = files(tmp_path)
    with pytest.raises(ManifestLost):
        export(filled, tmp_path, Options(format="ndjson"))
    assert files(tmp_path) == before


def test_a_folder_with_half_files_alone_is_as_good_as_new(filled, tmp_path):
    half = tmp_path / "wallet" / ".7.part"
    half.parent.mkdir()
    half.write_bytes(b"{")
    done = export(filled, tmp_path, Options(format="ndjson"))
    assert set(files(tmp_path)) == {NAME, *done.manifest.paths()}


def test_other_files_in_the_folder_stay(filled, tmp_path):
    others = {"notes.txt": b"ours", "wallet/readme.md": b"ours", "log/day=2026-11-22/mine.ndjson": b"{}"}
    for path, content in others.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    with pytest.raises(Killed):
        export(filled, tmp_path, Options(format="ndjson"), die_at("log"))
    export(filled, tmp_path, Options(format="ndjson"))
    assert others.items() <= files(tmp_path).items()


def test_a_run_that_was_refused_marks_no_folder(filled, tmp_path):
    """Files of a finished export that come there later are then not taken for those of the run."""
    with pytest.raises(Exception, match="--after"):
        export(filled, tmp_path / "asked", Options(format="ndjson", after=10**9))
    export(filled, tmp_path / "whole", Options(format="ndjson"))
    shutil.copytree(tmp_path / "whole" / "wallet", tmp_path / "asked" / "wallet")
    with pytest.raises(ManifestLost):
        export(filled, tmp_path / "asked", Options(format="ndjson"))
    assert Manifest.read(tmp_path / "asked") is None
    assert len(list((tmp_path / "asked" / "wallet").iterdir())) == 1
