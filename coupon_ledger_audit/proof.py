"""The proof that one event is in a signed log, as a text of its own: c2sp.org/tlog-proof@v1."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from coupon_ledger_audit.note import NoteError, decoded
from coupon_ledger_audit.tree import HASH_SIZE, ProofError

_HEAD = "c2sp.org/tlog-proof@v1\n"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
_MOST_HASHES = 64


@dataclass(frozen=True)
class Proof:
    """The place of a leaf, its inclusion proof, and the signed checkpoint to which it leads."""

    index: int
    hashes: Sequence[bytes]
    note: str

    def text(self) -> str:
        """The proof as it is handed over."""
        lines = "".join(f"{text_of(each)}\n" for each in self.hashes)
        return f"{_HEAD}index {self.index}\n{lines}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Proof:
        """The proof of such a text; nothing is verified yet. Raises ``ProofError``. Extra data is not accepted."""
        head, gap, note = text.partition("\n\n")
        lines = head.split("\n")
        match = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
        if not gap or lines[0] + "\n" != _HEAD or match is None:
            raise ProofError("the text is no proof of format 1")
        return cls(int(match[1]), hashes_of(lines[2:]), note)


def text_of(hash: bytes) -> str:
    """A hash as base64."""
    return base64.b64encode(hash).decode()


def hashes_of(lines: Sequence[str]) -> list[bytes]:
    """Hashes from base64. Raises ``ProofError``."""
    if len(lines) > _MOST_HASHES:
        raise ProofError("the proof has too many hashes")
    try:
        hashes = [decoded(line) for line in lines]
    except NoteError as error:
        raise ProofError("a hash of the proof is not base64") from error
    if any(len(each) != HASH_SIZE for each in hashes):
        raise ProofError("a hash of the proof is not 32 bytes long")
    return hashes
