"""``coupon-ledger-audit`` as an auditor runs it: in an interpreter that has none of the server's modules."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from coupon_ledger_audit import note
from coupon_ledger_audit.bundle import Balances
from coupon_ledger_audit.note import SigningKey, sign
from coupon_ledger_audit.told import printable
from tests.audit.alone import FOREIGN, copied
from tests.audit.logs import KEY, Log, Sealed

START = f"""
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FOREIGN!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refusing())
sys.path.insert(0, sys.argv.pop(1))
import coupon_ledger_audit.__main__
"""


class Desk:
    """An auditor's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.package = copied(path / "package")
        self.sealed = Sealed(Log(3).grow(60).rows)
        self.stream = next(row.stream for row in self.sealed.rows if row.topic == "coupon.used")
        self.key = self.file("ledger.vkey", f"{KEY.verifier()}\n")
        self.bundle = self.file("bundle.zip", self.sealed.whole())

    def file(self, name: str, data: str | bytes) -> str:
        path = self.path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    def started(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", START, str(self.package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.path)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What it prints, when it exits as it should."""
        done = self.started(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code < 2 else done.stderr

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code))
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "package").mkdir()
    return Desk(tmp_path)


def test_says_what_was_checked(desk: Desk) -> None:
    said = desk.run(desk.bundle, "--key", desk.key, "--coupon", desk.stream.removeprefix("coupon-"))
    assert said.splitlines()[0] == f"ok  signature: {KEY.name} signed {desk.sealed.size} events"
    for step in ("root", "rows", "rules", "coupons"):
        assert f"\nok  {step}: " in said
    assert f"    {desk.stream} 1 coupon.issued at position " in said
    assert "\n--  balances: not checked" in said
    assert "; the newest of the log was recorded at 2026-06-09 00:00:00 UTC, " in said
    assert said.endswith("\nall is right\n")
    assert desk.run(desk.bundle, "--key", str(KEY.verifier())).endswith("all is right\n")


def test_says_what_is_wrong_and_where(desk: Desk) -> None:
    sealed = desk.sealed
    sealed.rows[20] = sealed.rows[20]._replace(state=sealed.rows[20].state.replace("key:till", "key:evil"))
    bad = desk.file("bad.zip", sealed.whole())
    last = desk.run(bad, "--key", desk.key, code=1).splitlines()[-1]
    stream, version = sealed.rows[20].stream, sealed.rows[20].version
    assert last == (
        f"WRONG  rows: the payload of {stream} version {version} is not what was sealed; first bad position: 21"
    )
    found = desk.json(bad, "--key", desk.key, code=1)
    assert found["right"] is False
    assert found["finding"]["position"] == 21
    assert found["size"] == sealed.size


def test_keeps_the_checkpoint_for_next_time_and_never_goes_back(desk: Desk) -> None:
    kept = desk.path / "last"
    saving = ("--key", desk.key, "--save-checkpoint", str(kept))
    older = desk.file("older.zip", Sealed(desk.sealed.rows[:30]).whole())
    desk.run(older, *saving)
    assert kept.read_text() == desk.sealed.note(30)
    said = desk.run(desk.bundle, *saving, "--last", str(kept))
    assert "the log begins with the 30 events of an earlier checkpoint" in said
    assert kept.read_text() == desk.sealed.note()
    found = desk.json(older, *saving, code=1)
    assert (found["finding"]["step"], found["finding"]["position"]) == ("last", 31)
    assert kept.read_text() == desk.sealed.note()
    other = desk.file("other.zip", Sealed([row._replace(recorded_at_us=0) for row in desk.sealed.rows]).whole())
    assert desk.json(other, *saving, code=1)["finding"]["step"] == "last"
    assert kept.read_text() == desk.sealed.note()
    assert sorted(each.name for each in desk.path.iterdir() if each.name.startswith(".")) == []


def test_a_checkpoint_that_cannot_be_kept_is_said_before_the_audit(desk: Desk) -> None:
    wrong = desk.file("wrong.zip", Sealed(desk.sealed.rows, origin="ledger.example/other").whole())
    (desk.path / "folder").mkdir()
    for bundle in (desk.bundle, wrong):
        for place in ("missing/last", f"{desk.key}/last", "/proc/last", "folder"):
            saving = ("--key", desk.key, "--save-checkpoint", place)
            done = desk.started(bundle, *saving)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert done.stderr.splitlines()[-1].startswith("coupon-ledger-audit: error: ")
    assert not list((desk.path / "folder").iterdir())


def test_a_verdict_is_told_though_its_checkpoint_cannot_be_kept_any_more(desk: Desk) -> None:
    (desk.path / ".last.new").mkdir()  # where it would be written before it takes its place
    done = desk.started(desk.bundle, "--key", desk.key, "--save-checkpoint", "last")
    assert done.returncode == 2, done.stderr
    assert done.stdout.endswith("\nall is right\n")
    assert done.stderr.splitlines()[-1].startswith("coupon-ledger-audit: error: the report or its checkpoint is not")
    assert not (desk.path / "last").exists()


def test_a_report_that_cannot_be_written_is_no_verdict(desk: Desk) -> None:
    command = [sys.executable, "-I", "-c", START, str(desk.package), desk.bundle, "--key", desk.key]
    saving = [*command, "--save-checkpoint", str(desk.path / "last")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(saving, stdout=full, stderr=subprocess.PIPE, text=True, cwd=desk.path)
    assert done.returncode == 2, done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]
    assert not (desk.path / "last").exists()


def test_a_key_is_of_the_kind_that_is_asked_for(desk: Desk) -> None:
    witness = desk.file("witness.vkey", str(SigningKey.generate("witness.example/w", note.WITNESS).verifier()))
    said = desk.run(desk.bundle, "--key", witness, code=2)
    assert said.splitlines()[-1].endswith("witness.example/w is the key of a witness, and not of a log")
    said = desk.run(desk.bundle, "--key", desk.key, "--witness", desk.key, code=2)
    assert said.splitlines()[-1].endswith(f"{KEY.name} is the key of a log, and not of a witness")
    for none in ("missing.vkey", "x" * 5_000, desk.file("binary", b"\xff"), str(desk.path)):
        said = desk.run(desk.bundle, "--key", none, code=2)
        assert "error: neither a key nor a file of one: " in said.splitlines()[-1]


def test_a_coupons_bundle_needs_a_proof_from_the_last_checkpoint(desk: Desk) -> None:
    last = desk.file("last", desk.sealed.note(40))
    key = desk.stream.removeprefix("coupon-")
    chosen = ("--key", desk.key, "--last", last, "--coupon", key)
    streams = (desk.stream, "batch-b", "template-t")
    without = desk.file("without.zip", desk.sealed.coupon(*streams))
    assert "ask for one with it" in desk.run(without, *chosen, code=1)
    proven = desk.file("with.zip", desk.sealed.coupon(*streams, earlier=[40]))
    assert desk.json(proven, *chosen)["coupons"][key][0]["topic"] == "coupon.issued"
    assert desk.json(proven, "--key", desk.key, "--coupon", "none", code=1)["finding"]["step"] == "coupons"


def test_a_coupons_bundle_says_what_it_cannot_show(desk: Desk) -> None:
    """The same bundle without the coupon's last events looks alike, so nobody may take it for all that there is."""
    rows = [row for row in desk.sealed.rows if row.stream == desk.stream]
    streams = (desk.stream, "batch-b", "template-t")
    for left, but in ((len(rows), None), (len(rows) - 1, rows[-1])):
        bundle = desk.file("some.zip", desk.sealed.coupon(*streams, but=but))
        chosen = ("--key", desk.key, "--coupon", desk.stream.removeprefix("coupon-"))
        said = desk.run(bundle, *chosen)
        open_ = f"that nothing came after version {left} of {desk.stream}; only a whole bundle shows that"
        assert f"\n--  coupons: not shown: {open_}\n" in said
        assert "I1 to" not in said
        found = desk.json(bundle, *chosen)
        assert {"step": "coupons", "text": f"not shown: {open_}"} in found["open"]
        assert not any(each["text"].startswith("not ") for each in found["passed"])


def test_whole_takes_nothing_less(desk: Desk) -> None:
    some = desk.file("some.zip", desk.sealed.coupon(desk.stream, "batch-b", "template-t"))
    desk.run(some, "--key", desk.key)
    found = desk.json(some, "--key", desk.key, "--whole", code=1)
    assert found["finding"]["step"] == "bundle"
    desk.run(desk.bundle, "--key", desk.key, "--whole")


def test_a_bundle_writes_no_lines_of_its_own(desk: Desk) -> None:
    evil = "a\nall is right\r\x1b[8m\u202e\u2028"
    row, size = desk.sealed.rows[-1], desk.sealed.size
    unsealed = desk.sealed.whole(unsealed=[row._replace(position=size + 1, stream=evil)])
    balances = desk.sealed.whole(balances=Balances(size, {evil: {}}))
    for bundle in (unsealed, balances):
        said = desk.run(desk.file("evil.zip", bundle), "--key", desk.key, code=1)
        assert "all is right" not in said.splitlines()
        assert all(line.isprintable() for line in said.splitlines())
        assert r"a\x0aall is right\x0d\x1b[8m\u202e\u2028" in said.splitlines()[-1]
    assert printable("cyé\ud800\U000e0001\\") == "cyé\\ud800\\U000e0001\\"


def test_a_terminal_that_lacks_a_letter_gets_its_verdict(desk: Desk) -> None:
    row, size = desk.sealed.rows[-1], desk.sealed.size
    bundle = desk.sealed.whole(unsealed=[row._replace(position=size + 1, stream="coupon-券")])
    script = START.replace("import sys", "import sys; sys.stdout.reconfigure(encoding='latin-1', errors='strict')", 1)
    command = [sys.executable, "-I", "-c", script, str(desk.package), desk.file("row.zip", bundle), "--key", desk.key]
    done = subprocess.run(command, capture_output=True, text=True, cwd=desk.path)
    assert done.returncode == 1, done.stderr
    assert r"coupon-\u5238" in done.stdout.splitlines()[-1]


def test_a_witness_that_is_named_must_have_signed(desk: Desk) -> None:
    witness = SigningKey.generate("witness.example/w", note.WITNESS)
    named = ("--key", desk.key, "--witness", str(witness.verifier()))
    assert desk.json(desk.bundle, *named, code=1)["finding"]["step"] == "witness"
    seen = note.cosign(desk.sealed.note(), witness, 1_700_000_000)
    desk.sealed.note = lambda size=None: seen  # type: ignore[method-assign, assignment, misc]
    said = desk.run(desk.file("seen.zip", desk.sealed.whole()), *named)
    assert re.search(
        r"^ok  witness: witness.example/w saw the checkpoint at 2023-11-14 22:13:20 UTC, \d+ days ago$", said, re.M
    )


def test_a_changed_key_is_named_beside_the_old_one(desk: Desk) -> None:
    new = SigningKey.generate(KEY.name)
    old = desk.file("last", sign(desk.sealed.checkpoint(30), KEY))
    bundle = desk.file("new.zip", Sealed(desk.sealed.rows, key=new).whole())
    desk.run(bundle, "--key", str(new.verifier()), "--key", desk.key, "--last", old)
    assert desk.json(bundle, "--key", str(new.verifier()), "--last", old, code=1)["finding"]["step"] == "last"
    assert desk.json(bundle, "--key", desk.key, code=1)["finding"]["step"] == "signature"
    other = SigningKey.generate(KEY.name)
    said = desk.json(bundle, "--key", desk.key, "--key", str(other.verifier()), code=1)["finding"]["text"]
    assert all(f"not signed by {KEY.name}+{key.verifier().id.hex()}" in said for key in (KEY, other))


def test_says_which_checkpoint_is_not_signed(desk: Desk) -> None:
    other = SigningKey.generate(KEY.name)
    note_of, theirs = desk.sealed.note, sign(desk.sealed.checkpoint(30), other)
    desk.sealed.note = lambda size=None: theirs if size else note_of()  # type: ignore[method-assign, assignment, misc]
    bundle = desk.file("mixed.zip", desk.sealed.whole(earlier=[30]))
    named = f"the checkpoint is not signed by {KEY.name}+{KEY.verifier().id.hex()}"
    assert desk.run(bundle, "--key", desk.key, code=1).splitlines()[-1] == (
        f"WRONG  signature: the earlier checkpoint of 30 events: {named}"
    )
    last = desk.file("theirs", theirs)
    found = desk.json(desk.bundle, "--key", desk.key, "--last", last, code=1)["finding"]
    assert (found["step"], found["text"]) == ("last", f"your last checkpoint: {named}")


def test_the_origin_is_the_keys_unless_named(desk: Desk) -> None:
    assert desk.json(desk.bundle, "--key", desk.key, "--origin", "other", code=1)["finding"]["step"] == "signature"
    other = desk.file("other.zip", Sealed(desk.sealed.rows, origin="ledger.example/other").whole())
    assert desk.json(other, "--key", desk.key, code=1)["finding"]["step"] == "signature"
    assert desk.json(other, "--key", desk.key, "--origin", "ledger.example/other")["origin"] == "ledger.example/other"


def test_what_cannot_be_checked_is_no_verdict(desk: Desk) -> None:
    said = desk.run("missing.zip", "--key", desk.key, code=2)
    assert said.splitlines()[-1].startswith("coupon-ledger-audit: error: ")
    desk.run(desk.bundle, code=2)
    desk.run(desk.bundle, "--key", "no key", code=2)
    desk.run(desk.bundle, "--key", KEY.text(), code=2)
    desk.run(desk.bundle, "--key", desk.key, "--last", "missing", code=2)
    for data in (b"", b"no zip", _zip({}), _zip({"manifest.json": b"no manifest"}), _zip({"manifest.json": b"{}"})):
        said = desk.run(desk.file("none.zip", data), "--key", desk.key, "--json", code=2)
        assert "none.zip: the " in said.splitlines()[-1] or "none.zip: manifest.json " in said.splitlines()[-1]
    damaged = members(Path(desk.bundle).read_bytes())
    del damaged["checkpoint"]
    found = desk.json(desk.file("damaged.zip", _zip(damaged)), "--key", desk.key, code=1)
    assert found["finding"]["step"] == "bundle"


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()
