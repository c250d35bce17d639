"""Who signs: the key, the keys of before it, and beside them, out of the database's reach, what was signed last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coupon_ledger_audit.note import Checkpoint, NoteError, SigningKey, VerifierKey, opened, sign
from projections.seal.checkpoints import Signed
from projections.seal.errors import SealBroken
from projections.seal.folder import write_whole


class Signer:
    """The key of one log. The key's name is the log's name, its *origin*.

    The database and the folder are asked what was signed before, and others may write them. So what they say is
    believed as far as one of the keys signed it, and the note in ``last`` must be of a beginning of the log whatever
    they say.
    """

    def __init__(self, key: SigningKey, last: Path, earlier: Sequence[VerifierKey] = ()) -> None:
        self.origin = key.name
        self.vkey = str(key.verifier())
        self._key = key
        self._last = last
        self._keys = {str(each): each for each in (key.verifier(), *earlier)}

    def sign(self, checkpoint: Checkpoint) -> str:
        """The note, which is on disk before anybody has it: so no signature is forgotten. Raises ``OSError``."""
        note = sign(checkpoint, self._key)
        write_whole(self._last, note.encode())
        return note

    def last(self) -> Checkpoint | None:
        """What was signed last here; ``None`` before the first time. Raises ``SealBroken``.

        The database may lack it, where the process ended between the two.
        """
        try:
            note = self._last.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return opened(note, self._keys.values(), self.origin)
        except NoteError as error:
            raise SealBroken(f"{self._last}: {error}") from None

    def check(self, signed: Signed) -> None:
        """Raise ``SealBroken`` unless one of the keys signed what a row of the database says."""
        if signed.vkey not in self._keys:
            raise SealBroken(
                f"the checkpoint over {signed.size} events is signed by a key that is none of ours: {signed.vkey}"
            )
        signed.check(self.origin)
