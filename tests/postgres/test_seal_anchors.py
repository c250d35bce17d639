"""Checkpoints put elsewhere: files, and witnesses that speak c2sp.org/tlog-witness."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from coupon_ledger_audit.note import (
    WITNESS,
    Checkpoint,
    SigningKey,
    cosign,
    cosigned_at,
    open_checkpoint,
    unverified,
)
from coupon_ledger_audit.tree import EMPTY_ROOT, ProofError, verify_consistency
from ledger.database import Database
from projections.seal import checkpoints
from projections.seal.anchoring import Anchoring, note_places, put_newest
from projections.seal.anchors import Anchor, FileAnchor, WitnessAnchor, anchors_of
from projections.seal.folder import SealFolder
from projections.seal.sealer import SEALER_ROLE
from projections.seal.standing import anchors
from tests.postgres.seals import KEY, ORIGIN, seal, superuser

SECONDS = 1_700_000_000


class Witness(ThreadingHTTPServer):
    """A witness as the specification has it. It signs only what extends what it signed before."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Submissions)
        self.key = SigningKey.generate("witness.example/w1", WITNESS)
        self.seen = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
        self.asked: list[tuple[int, int]] = []
        self.status: int | None = None
        self.answer: str | None = None
        self.pause = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/w"

    def add(self, body: str) -> tuple[int, str]:
        head, _, note = body.partition("\n\n")
        old, *proof = head.split("\n")
        assert re.fullmatch("old (0|[1-9][0-9]*)", old)
        found = open_checkpoint(note, KEY.verifier(), ORIGIN)
        self.asked.append((int(old[4:]), found.size))
        if int(old[4:]) != self.seen.size:
            return 409, f"{self.seen.size}\n"
        try:
            hashes = [base64.b64decode(line, validate=True) for line in proof]
            verify_consistency(self.seen.size, self.seen.root, found.size, found.root, hashes)
        except ProofError:
            return 422, ""
        self.seen = found
        return 200, cosign(note, self.key, SECONDS).removeprefix(note)


class Submissions(BaseHTTPRequestHandler):
    server: Witness

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        time.sleep(self.server.pause)
        status, answer = self.server.add(body) if self.path == "/w/add-checkpoint" else (404, "")
        status, answer = self.server.status or status, answer if self.server.answer is None else self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> SealFolder:
    return SealFolder(tmp_path / "seal")


class Places:
    """A sealed ledger, and places that its checkpoints go to."""

    def __init__(self, shop: Any, database: Database, folder: SealFolder) -> None:
        self.shop, self.folder = shop, folder
        self.database = Database(database.url, database.schema, SEALER_ROLE)

    def seal(self) -> checkpoints.Signed:
        self.shop.coupon()
        signed = seal(self.database, self.folder.path)
        assert signed is not None
        return signed

    def put(self, anchor: Anchor) -> bool:
        with self.database.connect() as connection:
            note_places(connection, [anchor])
            return put_newest(connection, self.folder, anchor)

    def standing(self) -> Any:
        with self.database.connect() as connection:
            [found] = anchors(connection)
        return found

    def cosigned(self) -> str:
        with self.database.connect() as connection:
            newest = checkpoints.newest(connection)
            assert newest is not None
            return checkpoints.cosigned(connection, newest)


@pytest.fixture
def places(shop: Any, database: Database, folder: SealFolder) -> Places:
    return Places(shop, database, folder)


def test_a_file_gets_each_checkpoint_once(places: Places, tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "anchor")
    notes = []
    for _ in range(3):
        notes.append(places.seal().note)
        assert places.put(anchor)
        assert places.put(anchor)
    text = (tmp_path / "anchor").read_text("utf-8")
    assert text == "".join(f"{note}\n" for note in notes)
    assert (places.standing().size, places.standing().unanchored_seconds) == (unverified(notes[-1]).size, 0)


def test_a_file_that_has_a_later_checkpoint_says_that_the_ledger_is_an_older_one(
    places: Places, database: Database, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "anchor")
    first, second = places.seal(), places.seal()
    assert places.put(anchor)
    with superuser(database) as owner:  # an older backup of the database and the folder
        owner.execute("delete from checkpoints where size = %s", (second.size,))
        owner.execute("delete from seal_anchors")
    assert not places.put(anchor)
    assert places.standing().error == (
        f"it has a checkpoint over {second.size} events already, and this one covers {first.size}"
    )
    assert places.standing().unanchored_seconds > 0


def test_a_place_that_cannot_be_written_is_told_of(places: Places, tmp_path: Path) -> None:
    places.seal()
    assert not places.put(FileAnchor(tmp_path / "nowhere" / "anchor"))
    assert "No such file" in places.standing().error


def test_a_witness_signs_what_extends_what_it_saw(places: Places, witness: Witness) -> None:
    anchor = WitnessAnchor(witness.url)
    sizes = [0]
    for _ in range(3):
        sizes.append(places.seal().size)
        assert places.put(anchor)
        assert cosigned_at(places.cosigned(), witness.key.verifier()) == SECONDS
    assert witness.asked == list(pairwise(sizes))


def test_a_witness_that_stands_elsewhere_is_asked_from_there(
    places: Places, witness: Witness, database: Database
) -> None:
    anchor = WitnessAnchor(f"{witness.url}/")
    first = places.seal()
    assert places.put(anchor)
    second = places.seal()
    with superuser(database) as owner:
        owner.execute("update seal_anchors set size = 0")
    assert places.put(anchor)
    assert witness.asked == [(0, first.size), (0, second.size), (first.size, second.size)]
    assert witness.seen.size == second.size


def test_a_witness_that_saw_more_says_that_the_ledger_is_an_older_one(places: Places, witness: Witness) -> None:
    witness.seen = Checkpoint(ORIGIN, 1_000, bytes(32))
    places.seal()
    assert not places.put(WitnessAnchor(witness.url))
    assert "it has seen 1000 events" in places.standing().error


def test_a_witness_that_saw_another_log_does_not_sign(places: Places, witness: Witness) -> None:
    witness.seen = Checkpoint(ORIGIN, 2, bytes(32))
    places.seal()
    assert not places.put(WitnessAnchor(witness.url))
    assert places.standing().error == "it answered 422"


@pytest.mark.parametrize(
    ("status", "answer", "word"),
    [
        (500, "", "500"),
        (200, "", "no cosignature"),
        (200, "nonsense", "no cosignature"),
        (200, "— w !!!\n", "no cosignature"),
        (200, "x" * 1_000_000, "no cosignature"),
        (409, "many\n", "409"),
        (302, "", "302"),
    ],
)
def test_what_is_no_answer_is_told_of_and_kept_nowhere(
    places: Places, witness: Witness, status: int, answer: str, word: str
) -> None:
    witness.status, witness.answer = status, answer
    signed = places.seal()
    assert not places.put(WitnessAnchor(witness.url))
    assert word in places.standing().error
    assert places.cosigned() == signed.note


def test_a_place_that_hangs_holds_up_neither_the_seal_nor_another_place(
    places: Places, witness: Witness, tmp_path: Path
) -> None:
    witness.pause = 3.0
    slow, quick = WitnessAnchor(witness.url), FileAnchor(tmp_path / "anchor")
    places.seal()
    with Anchoring(places.database, places.folder, [slow, quick]):
        for _ in range(2):
            signed = places.seal()
            deadline = time.monotonic() + 20
            while not (tmp_path / "anchor").exists() or str(signed.size) not in (tmp_path / "anchor").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.02)
    assert len(witness.asked) <= 1


def test_places_that_are_no_longer_named_are_forgotten(places: Places, tmp_path: Path) -> None:
    places.seal()
    places.put(FileAnchor(tmp_path / "one"))
    places.put(FileAnchor(tmp_path / "two"))
    assert places.standing().place == f"file:{tmp_path / 'two'}"


def test_anchors_of_a_setting() -> None:
    found = anchors_of(" file:/a/b, https://w.example/x ,file:/a/b,")
    assert [(type(anchor), anchor.place) for anchor in found] == [
        (FileAnchor, "file:/a/b"),
        (WitnessAnchor, "https://w.example/x"),
    ]
    assert anchors_of("") == []
