"""The growing tree: its right edge in memory, and the files that each part of it becomes."""

from __future__ import annotations

from collections.abc import Iterator

from coupon_ledger_audit.tiles import WIDTH, TileError, TileFolder, entries_path, pack_entries, tile_path, tile_width
from coupon_ledger_audit.tree import HASH_SIZE, Frontier, leaf_hash

File = tuple[str, bytes]
"""A path under the seal's folder, and what is in it for ever."""


class _Edge:
    """The last tile of one level, while it is not full."""

    def __init__(self) -> None:
        self.index = 0
        self.hashes = bytearray()
        self.frontier = Frontier()

    def add(self, hash: bytes) -> None:
        self.hashes += hash
        self.frontier.append(hash)


class GrowingTree:
    """A tree that entries are added to. ``full`` takes the files that are full, until they are taken from it."""

    def __init__(self) -> None:
        self.size = 0
        self.full: list[File] = []
        self._edges = [_Edge()]
        self._entries: list[bytes] = []

    @classmethod
    def resumed(cls, folder: TileFolder) -> GrowingTree:
        """The tree that a folder's tiles are, at the folder's size. Raises ``TileError``.

        Its root is of the hashes in the last tiles, so who compares the root has checked all that is taken over.
        """
        tree = cls()
        tree.size = folder.size
        level = 0
        while count := folder.size >> 8 * level:
            edge = tree._edge(level)
            edge.index, width = divmod(count, WIDTH)
            if width:
                tile = folder.tile(level, edge.index)
                for at in range(0, len(tile), HASH_SIZE):
                    edge.add(tile[at : at + HASH_SIZE])
            level += 1
        if folder.size % WIDTH:
            tree._entries = folder.entries(folder.size // WIDTH)
            if b"".join(map(leaf_hash, tree._entries)) != tree._edges[0].hashes:
                raise TileError(
                    f"{entries_path(folder.size // WIDTH, folder.size % WIDTH)} is not what its tile covers"
                )
        return tree

    def add(self, entry: bytes) -> None:
        """Add the next entry."""
        self._entries.append(entry)
        if len(self._entries) == WIDTH:
            self.full.append((entries_path(self.size // WIDTH), pack_entries(self._entries)))
            self._entries = []
        self.add_leaf(leaf_hash(entry))

    def add_leaf(self, leaf: bytes) -> None:
        """Add the hash of the next entry alone: for who needs no entry bundles."""
        self.size += 1
        self._add(0, leaf)

    def root(self) -> bytes:
        """The root hash of the tree as it is now."""
        hashes = [hash for edge in reversed(self._edges) for hash in edge.frontier.hashes]
        return Frontier(self.size, hashes).root()

    def partial(self) -> Iterator[File]:
        """The files of the right edge, which a checkpoint of this size needs."""
        for level, edge in enumerate(self._edges):
            if width := tile_width(level, edge.index, self.size):
                yield tile_path(level, edge.index, width), bytes(edge.hashes)
        if self._entries:
            yield entries_path(self.size // WIDTH, len(self._entries)), pack_entries(self._entries)

    def _add(self, level: int, hash: bytes) -> None:
        edge = self._edge(level)
        edge.add(hash)
        if edge.frontier.size == WIDTH:
            self.full.append((tile_path(level, edge.index), bytes(edge.hashes)))
            [above] = edge.frontier.hashes
            edge.hashes, edge.frontier = bytearray(), Frontier()
            edge.index += 1
            self._add(level + 1, above)

    def _edge(self, level: int) -> _Edge:
        if level == len(self._edges):
            self._edges.append(_Edge())
        return self._edges[level]
