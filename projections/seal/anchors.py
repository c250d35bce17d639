"""Places of the operator's choice where checkpoints are put too, out of reach of whoever holds the database."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import urllib3

from coupon_ledger_audit.note import NoteError, VerifierKey, open_checkpoint
from projections.seal.checkpoints import Signed

ANSWER_SECONDS = 10.0
ANSWER_LIMIT_BYTES = 16_384
TAIL_BYTES = 65_536
"""More than the longest note."""


class AnchorFailed(Exception):
    """The place did not take the checkpoint; the text says why."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint that is to be put somewhere."""

    signed: Signed
    held: int
    """How many events the newest checkpoint covers that the place has, as far as we know."""
    prove: Callable[[int], list[bytes]]
    """The proof that this checkpoint extends the one over so many events."""


class Anchor(Protocol):
    """A place."""

    place: str

    def put(self, submission: Submission) -> str:
        """Put a checkpoint there, and answer the lines of cosignatures that came back.

        Raises ``AnchorFailed`` and ``OSError``.
        """


class FileAnchor:
    """A file that notes are appended to, each followed by an empty line: on another disk, or one that is write-once."""

    def __init__(self, path: Path) -> None:
        self.place = f"file:{path}"
        self._path = path

    def put(self, submission: Submission) -> str:
        """Append the note and bring it to disk."""
        signed = submission.signed
        held = self._held()
        if held > signed.size:
            raise AnchorFailed(f"it has a checkpoint over {held} events already, and this one covers {signed.size}")
        if held < signed.size:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{signed.note}\n")
                file.flush()
                os.fsync(file.fileno())
        return ""

    def _held(self) -> int:
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                tail = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return 0
        sizes = re.findall(r"^[^\n]+\n([0-9]{1,18})\n[A-Za-z0-9+/]{43}=\n\n", tail, re.MULTILINE)
        return max(map(int, sizes), default=0)


class WitnessAnchor:
    """A witness: c2sp.org/tlog-witness. It signs that the log, as it saw it, only ever grew.

    Its cosignatures are kept as they come when they have the right form. Who relies on the witness has its key.
    """

    def __init__(self, url: str) -> None:
        self.place = url
        self._url = f"{url.rstrip('/')}/add-checkpoint"
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=ANSWER_SECONDS), retries=False)

    def put(self, submission: Submission) -> str:
        """Submit the checkpoint; where the witness stands elsewhere than we thought, submit it once more from there."""
        status, body = self._submit(submission, submission.held)
        if status == 409 and re.fullmatch(r"[0-9]{1,18}\n?", body):
            held = int(body)
            if held > submission.signed.size:
                raise AnchorFailed(f"it has seen {held} events, and this checkpoint covers {submission.signed.size}")
            status, body = self._submit(submission, held)
        if status != 200:
            raise AnchorFailed(f"it answered {status}")
        lines = "".join(f"{line}\n" for line in body.splitlines())
        if not lines:
            raise AnchorFailed("its answer is no cosignature")
        key = VerifierKey.parse(submission.signed.vkey)
        try:
            open_checkpoint(submission.signed.note + lines, key, key.name)
        except NoteError as error:
            raise AnchorFailed(f"its answer is no cosignature: {error}") from None
        return lines

    def _submit(self, submission: Submission, held: int) -> tuple[int, str]:
        proof = "".join(f"{base64.b64encode(hash).decode()}\n" for hash in submission.prove(held))
        body = f"old {held}\n{proof}\n{submission.signed.note}"
        try:
            answer = self._pool.request(
                "POST", self._url, body=body.encode(), headers={"Content-Type": "text/plain"}, preload_content=False
            )
            try:
                return answer.status, answer.read(ANSWER_LIMIT_BYTES).decode("utf-8", "replace")
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise AnchorFailed(f"{type(error).__name__}: {error}") from None


def anchors_of(places: str) -> list[Anchor]:
    """The anchors of a setting: ``file:/path`` and ``https://...``, separated by commas."""
    found = dict.fromkeys(place for each in places.split(",") if (place := each.strip()))
    return [
        FileAnchor(Path(place.removeprefix("file:"))) if place.startswith("file:") else WitnessAnchor(place)
        for place in found
    ]
