"""The tree as plain files: c2sp.org/tlog-tiles.

A tile holds up to 256 hashes of one level of every eighth level of the tree, an entry bundle up to 256 entries. Full
ones never change. A tile of width 256 is full; narrower ones are the right edge of a tree of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from coupon_ledger_audit.tree import HASH_SIZE, complete

WIDTH = 256
_KEPT = 64


class TileError(ValueError):
    """A tile is missing, or is not as long as the tree's size demands."""


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """The path of a tile: ``tile/0/x001/x234/067`` when full, with ``.p/<width>`` when partial."""
    return f"tile/{level}/{_index(index)}{_partial(width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """The path of an entry bundle."""
    return f"tile/entries/{_index(index)}{_partial(width)}"


def tile_width(level: int, index: int, size: int) -> int:
    """How many hashes the tile has in a tree of ``size`` leaves: 0 when there is none, at most 256."""
    return max(0, min(WIDTH, (size >> (8 * level)) - index * WIDTH))


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """An entry bundle: each entry after its length in two bytes. Raises ``OverflowError`` for one over 65,535 bytes."""
    return b"".join(len(each).to_bytes(2) + each for each in entries)


def unpack_entries(bundle: bytes) -> list[bytes]:
    """The entries of a bundle. Raises ``TileError``."""
    entries = []
    at = 0
    while at < len(bundle):
        start = at + 2
        at = start + int.from_bytes(bundle[at:start])
        if start > len(bundle) or at > len(bundle):
            raise TileError("the entry bundle ends within an entry")
        entries.append(bundle[start:at])
    return entries


class TileFolder:
    """The tiles under a folder, read as the tree of ``size`` leaves.

    ``node`` is what the proofs of ``tree.py`` ask for. Nothing is verified here: a proof from wrong tiles does not
    lead to the signed root.
    """

    def __init__(self, path: Path | str, size: int) -> None:
        self.path = Path(path)
        self.size = size
        self._tiles: dict[tuple[int, int], bytes] = {}

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree. Raises ``TileError`` when the tile is missing or too short."""
        tile_level, below = divmod(level, 8)
        first = index << below
        tile = self.tile(tile_level, first // WIDTH)
        start = first % WIDTH * HASH_SIZE
        end = start + (HASH_SIZE << below)
        if end > len(tile):
            raise TileError(f"node {level}/{index} is not within a tree of {self.size} leaves")
        return complete([tile[at : at + HASH_SIZE] for at in range(start, end, HASH_SIZE)])

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile, one after another: those within the size. Raises ``TileError``."""
        tile = self._tiles.get((level, index))
        if tile is None:
            length = tile_width(level, index, self.size) * HASH_SIZE
            tile = self._read(tile_path, (level, index), length // HASH_SIZE)
            if len(tile) < length:
                raise TileError(f"tile {level}/{index} is shorter than a tree of {self.size} leaves demands")
            if len(self._tiles) >= _KEPT:
                self._tiles.clear()
            tile = self._tiles[level, index] = tile[:length]
        return tile

    def entries(self, index: int) -> list[bytes]:
        """The entries of a bundle: those within the size. Raises ``TileError``."""
        width = tile_width(0, index, self.size)
        entries = unpack_entries(self._read(entries_path, (index,), width))
        if len(entries) < width:
            raise TileError(f"entry bundle {index} is shorter than a tree of {self.size} leaves demands")
        return entries[:width]

    def _read(self, path: Callable[..., str], place: tuple[int, ...], width: int) -> bytes:
        """The full tile, or else the partial one of just this width.

        The partial one may go between the two looks, because the full one has come: then a third look finds that.
        """
        if width == 0:
            raise TileError(f"{path(*place)} is beyond a tree of {self.size} leaves")
        for each in (path(*place), path(*place, width), path(*place)):
            try:
                return (self.path / each).read_bytes()
            except FileNotFoundError:
                continue
        raise TileError(f"{path(*place, width)} is missing")


def _index(index: int) -> str:
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03}")
    return "/".join(reversed(parts))


def _partial(width: int) -> str:
    if not 1 <= width <= WIDTH:
        raise ValueError(f"a tile is 1 to {WIDTH} wide, not {width}")
    return "" if width == WIDTH else f".p/{width}"
