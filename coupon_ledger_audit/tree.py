"""The Merkle tree of RFC 6962: hashes, proofs and their checks.

A *node* is named by its level and its index: level 0 holds the leaf hashes, and node (L, i) covers the leaves
``i * 2**L`` to ``(i + 1) * 2**L``. Builders of roots and proofs are given a function that answers with the hash of a
node; only complete subtrees are ever asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

Node = Callable[[int, int], bytes]

EMPTY_ROOT = sha256(b"").digest()
HASH_SIZE = 32


class ProofError(ValueError):
    """A proof does not show what it should; the text says why."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf. Its 0x00 keeps an entry from passing for an inner node (RFC 6962, section 2.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """All that a growing tree must remember: the roots of its complete subtrees, the largest first.

    ``Frontier(size, hashes)`` goes on where another stopped. Raises ``ValueError`` when there is not one hash for each
    bit set in the size.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if size < 0 or len(self.hashes) != size.bit_count() or any(len(each) != HASH_SIZE for each in self.hashes):
            raise ValueError(f"{len(self.hashes)} hashes are not the frontier of a tree of {size} leaves")

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        hashes = self.hashes
        size = self.size
        while size & 1:
            leaf = sha256(b"\x01" + hashes.pop() + leaf).digest()
            size >>= 1
        hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root hash of the tree as it is now."""
        if not self.hashes:
            return EMPTY_ROOT
        right = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            right = node_hash(left, right)
        return right


def complete(hashes: Sequence[bytes]) -> bytes:
    """The root of a complete subtree from the hashes of one level of it; their number is a power of two."""
    if not hashes or len(hashes) & (len(hashes) - 1):
        raise ValueError(f"{len(hashes)} hashes make no complete subtree")
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def root(node: Node, size: int) -> bytes:
    """The root hash of the first ``size`` leaves."""
    return _span(node, 0, size) if size else EMPTY_ROOT


def inclusion_proof(node: Node, index: int, size: int) -> list[bytes]:
    """The proof that leaf ``index`` (from 0) is in the tree of ``size`` leaves, from the leaf's sibling upwards."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    start, end = 0, size
    proof = []
    while end - start > 1:
        middle = start + _left_part(end - start)
        if index < middle:
            proof.append(_span(node, middle, end))
            end = middle
        else:
            proof.append(_span(node, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(node: Node, old_size: int, size: int) -> list[bytes]:
    """The proof that the tree of ``size`` leaves begins with the tree of ``old_size``; empty for 0 and for equals."""
    if not 0 <= old_size <= size:
        raise ValueError(f"a tree of {size} leaves cannot begin with {old_size}")
    if old_size in {0, size}:
        return []
    start, end = 0, size
    proof = []
    while old_size < end:
        middle = start + _left_part(end - start)
        if old_size <= middle:
            proof.append(_span(node, middle, end))
            end = middle
        else:
            proof.append(_span(node, start, middle))
            start = middle
    if start:
        proof.append(_span(node, start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with this hash is number ``index`` under the root (RFC 9162, section 2.1.3.2).

    Raises ``ProofError``.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    _check_hashes([leaf, *proof])
    _, found = _climb(index, size - 1, leaf, proof)
    if found != root:
        raise ProofError(f"the inclusion proof of leaf {index} does not lead to the root")


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the larger tree begins with the smaller one, leaf by leaf (RFC 9162, section 2.1.4.2).

    Raises ``ProofError``.
    """
    if not 0 <= old_size <= size:
        raise ProofError(f"a tree of {size} leaves cannot begin with {old_size}")
    _check_hashes(proof)
    if old_size in {0, size}:
        if proof:
            raise ProofError("the proof is too long")
        if old_root != (root if old_size else EMPTY_ROOT):
            raise ProofError(f"two roots are given for a tree of {old_size} leaves")
        return
    path = list(proof)
    if not old_size & (old_size - 1):  # a complete tree is its own first hash, and is not repeated in the proof
        path.insert(0, old_root)
    if not path:
        raise ProofError("the consistency proof is empty")
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    found_old, found_new = _climb(at, last, path[0], path[1:])
    if found_old != old_root:
        raise ProofError(f"the consistency proof does not lead to the old root of {old_size} leaves")
    if found_new != root:
        raise ProofError(f"the consistency proof does not lead to the root of {size} leaves")


def _left_part(size: int) -> int:
    """The largest power of two below the size: where RFC 6962 splits a tree."""
    return 1 << ((size - 1).bit_length() - 1)


def _span(node: Node, start: int, end: int) -> bytes:
    """The hash of a subtree that a split left behind: complete ones are asked for, others are put together."""
    size = end - start
    if not size & (size - 1):
        level = size.bit_length() - 1
        return node(level, start >> level)
    middle = start + _left_part(size)
    return node_hash(_span(node, start, middle), _span(node, middle, end))


def _climb(at: int, last: int, start: bytes, siblings: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Two roots above node ``at``, where ``last`` is the last node of its level: with left siblings alone, and all."""
    before = whole = start
    for sibling in siblings:
        if last == 0:
            raise ProofError("the proof is too long")
        if at & 1 or at == last:
            before = node_hash(sibling, before)
            whole = node_hash(sibling, whole)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            whole = node_hash(whole, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    return before, whole


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(each) != HASH_SIZE for each in hashes):
        raise ProofError("a hash of the proof is not 32 bytes long")
