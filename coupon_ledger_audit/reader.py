"""Reading a bundle that nobody vouches for: everything has a limit, and whatever is not as written is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Self

from coupon_ledger_audit.bundle import COUPON, FORMAT, WHOLE, Balances, Manifest, Row, canonical
from coupon_ledger_audit.note import MOST_BYTES, SIZE
from coupon_ledger_audit.proof import Proof, hashes_of

_CHUNK = 1 << 20
_MOST_LINE = 16 << 20
_MOST_MANIFEST = 64 << 20
_MOST_PROOF = MOST_BYTES + (1 << 14)
_MOST_CONSISTENCY = 1 << 20
MOST_EARLIER = 100
"""Earlier checkpoints of one bundle."""
_PACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ROW_NAMES = ["position", "stream", "version", "topic", "recorded_at", "state"]
_ROW_TYPES = [int, str, int, str, int, str]


class BundleError(ValueError):
    """The bundle is damaged, or is none; ``position`` is that of the first bad row, where a row is bad."""

    def __init__(self, text: str, position: int | None = None) -> None:
        super().__init__(text)
        self.position = position


class NoBundle(BundleError):
    """Not even a manifest can be read, so there is nothing that could be right or wrong."""


class Bundle:
    """An open bundle. Opening it checks that its members are those that its manifest lists.

    Each member's length and digest are checked when its end is read. Raises ``BundleError``, here and in every method.
    """

    def __init__(self, path: Path | str | IO[bytes]) -> None:
        with _nothing_without(), _damage("the file is not a bundle"):
            self._archive = zipfile.ZipFile(path)
        try:
            if any(member.compress_type not in _PACKED for member in self._archive.infolist()):
                raise BundleError("a member of the bundle is packed in a way that no bundle is")
            with _nothing_without():
                self.manifest = _manifest(self._small_unlisted("manifest.json"))
            self._check_members()
            self.note = self._small("checkpoint", MOST_BYTES)
            self.earlier = self._earlier()
            self.consistency = self._consistency()
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def rows(self) -> Iterator[Row]:
        """The events, in the order of the file."""
        for place, line in enumerate(self._lines("events.ndjson"), 1):
            yield _row(line, place if self.manifest.kind == WHOLE else None)

    def entries(self) -> Iterator[bytes]:
        """What the seal has of each event, in the order of the file."""
        rest = b""
        for chunk in self._chunks("entries"):
            data = rest + chunk
            at, end = 0, len(data)
            while at + 2 <= end:
                start = at + 2
                stop = start + int.from_bytes(data[at:start])
                if stop > end:
                    break
                yield data[start:stop]
                at = stop
            rest = data[at:]
        if rest:
            raise BundleError("the entries end within an entry")

    def proof(self, position: int) -> Proof:
        """The inclusion proof of the event at this position."""
        name = f"proofs/{position}"
        if name not in self.manifest.members:
            raise BundleError(f"the event at position {position} has no proof", position)
        with _damage(f"{name} is damaged"):
            text = self._small(name, _MOST_PROOF).decode()
        return Proof.parse(text)

    def _small(self, name: str, most: int) -> bytes:
        """A member that is read whole, of so many bytes at most."""
        return b"".join(self._chunks(name, most))

    def _earlier(self) -> dict[int, bytes]:
        sizes = [name.removeprefix("checkpoints/") for name in self.manifest.members if name.startswith("checkpoints/")]
        if len(sizes) > MOST_EARLIER:
            raise BundleError(f"the bundle has {len(sizes)} earlier checkpoints, more than {MOST_EARLIER}")
        if not all(map(SIZE.fullmatch, sizes)):
            raise BundleError("an earlier checkpoint is named for no size")
        return {int(size): self._small(f"checkpoints/{size}", MOST_BYTES) for size in sorted(sizes, key=int)}

    def _consistency(self) -> dict[int, list[bytes]]:
        if "consistency.json" not in self.manifest.members:
            return {}
        with _damage("consistency.json is damaged"):
            data = self._small("consistency.json", _MOST_CONSISTENCY)
            found = json.loads(data)
            if canonical(found) != data:
                raise BundleError("consistency.json is not written as it should be")
            if not all(map(SIZE.fullmatch, found)):
                raise BundleError("consistency.json has a proof from no size")
            return {int(size): hashes_of(lines) for size, lines in found.items()}

    def _check_members(self) -> None:
        manifest = self.manifest
        names = self._archive.namelist()
        if sorted(names) != sorted([*manifest.members, "manifest.json"]):
            raise BundleError("the members of the bundle are not those of its manifest")
        needed = {WHOLE: ("entries",), COUPON: ()}[manifest.kind]
        for name in ("checkpoint", "events.ndjson", *needed):
            if name not in manifest.members:
                raise BundleError(f"the bundle lacks {name}")
        known = {"checkpoint", "events.ndjson", *needed}
        folders: tuple[str, ...] = ("checkpoints/",)
        if manifest.kind == COUPON:
            known.add("consistency.json")
            folders = (*folders, "proofs/")
        for name in manifest.members:
            if name not in known and not name.startswith(folders):
                raise BundleError(f"the bundle has a member {name!r} that belongs to no bundle of its kind")

    def _small_unlisted(self, name: str) -> bytes:
        with _damage(f"{name} is damaged or missing"), self._archive.open(name) as member:
            data = member.read(_MOST_MANIFEST + 1)
        if len(data) > _MOST_MANIFEST:
            raise BundleError(f"{name} is too long")
        return data

    def _chunks(self, name: str, most: int | None = None) -> Iterator[bytes]:
        listed = self.manifest.members[name]
        digest, length = sha256(), 0
        with _damage(f"{name} is damaged"), self._archive.open(name) as member:
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
                length += len(chunk)
                if most is not None and length > most:
                    raise BundleError(f"{name} is too long")
                yield chunk
        if (length, digest.hexdigest()) != (listed["bytes"], listed["sha256"]):
            raise BundleError(f"{name} is not what the manifest lists")

    def _lines(self, name: str) -> Iterator[bytes]:
        rest = b""
        for chunk in self._chunks(name):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > _MOST_LINE:
                raise BundleError(f"a line of {name} is too long")
            yield from lines
        if rest:
            raise BundleError(f"{name} ends within a line")


def _row(line: bytes, place: int | None) -> Row:
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise BundleError("a row is not JSON", place) from error
    if type(found) is not dict or list(found) != _ROW_NAMES:
        raise BundleError("a row has not the members of a row", place)
    row = Row(*found.values())
    if [type(each) for each in row] != _ROW_TYPES:
        raise BundleError("a value of a row is of a wrong type", place)
    return row


def _manifest(data: bytes) -> Manifest:
    with _damage("the manifest is damaged"):
        found: dict[str, Any] = json.loads(data)
        if found.pop("format") != FORMAT:
            raise BundleError(f"the bundle is not of the format {FORMAT}")
        if (balances := found.pop("balances")) is not None:
            balances = Balances(**balances)
        manifest = Manifest(**found, balances=balances)
        if manifest.data() != data:
            raise BundleError("the manifest is not written as it should be")
        if manifest.kind not in {WHOLE, COUPON} or (manifest.kind == WHOLE) != (manifest.streams is None):
            raise BundleError("the bundle is of an unknown kind")
        if type(manifest.origin) is not str or type(manifest.size) is not int:
            raise BundleError("the manifest names no log or no size")
        if manifest.streams is not None and any(type(each) is not str for each in [*manifest.streams]):
            raise BundleError("the manifest names streams that are none")
        for each in manifest.members.values():
            if {name: type(value) for name, value in each.items()} != {"bytes": int, "sha256": str}:
                raise BundleError("the manifest lists a member without its length and digest")
        _check_balances(manifest)
        return manifest


def _check_balances(manifest: Manifest) -> None:
    balances = manifest.balances
    if balances is None:
        return
    if manifest.kind != WHOLE or type(balances.position) is not int or not 1 <= balances.position <= manifest.size:
        raise BundleError("the balances of the manifest are of no position of the bundle")
    for batch in balances.batches.values():
        if not isinstance(batch, Mapping) or any(type(count) is not int for count in batch.values()):
            raise BundleError("the balances of the manifest are malformed")


@contextmanager
def _nothing_without() -> Iterator[None]:
    """What is damaged here leaves nothing to check."""
    try:
        yield
    except BundleError as error:
        raise NoBundle(str(error)) from error


@contextmanager
def _damage(text: str) -> Iterator[None]:
    """Whatever a damaged file makes the readers of zip and JSON raise is a damaged bundle."""
    try:
        yield
    except BundleError:
        raise
    except FileNotFoundError:
        raise
    except Exception as error:
        raise BundleError(f"{text}: {error}") from error
