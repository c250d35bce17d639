"""The tree: the vectors of the Certificate Transparency project, and another implementation beside ours."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from coupon_ledger_audit.tree import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    complete,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves, their roots and the proofs of certificate-transparency's cpp/merkletree/merkle_tree_test.cc, which
# transparency-dev/merkle and Chromium test with too.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
LEAVES = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
    "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658",
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        LEAVES[1],
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [LEAVES[4], "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0", ROOTS[4]],
    (2, 3): [ROOTS[2]],
    (1, 5): [LEAVES[0], "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e", LEAVES[4]],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        ROOTS[4],
    ],
    (2, 5): ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e", LEAVES[4]],
}
SOME = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


class Leaves:
    """Leaf hashes, and the nodes above them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves

    def __call__(self, level: int, index: int) -> bytes:
        assert (index + 1) << level <= len(self.leaves), "an incomplete subtree is asked for"
        return complete(self.leaves[index << level : (index + 1) << level])


VECTORS = Leaves([bytes.fromhex(each) for each in LEAVES])


def test_leaves_and_roots_of_certificate_transparency() -> None:
    tree = Frontier()
    assert tree.root() == EMPTY_ROOT == bytes.fromhex(ROOTS[0])
    for size, (text, leaf) in enumerate(zip(INPUTS, LEAVES, strict=True), 1):
        assert leaf_hash(bytes.fromhex(text)).hex() == leaf
        tree.append(bytes.fromhex(leaf))
        assert tree.root().hex() == root(VECTORS, size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_of_certificate_transparency(index: int, size: int) -> None:
    proof = inclusion_proof(VECTORS, index, size)
    assert [each.hex() for each in proof] == INCLUSION[index, size]
    verify_inclusion(bytes.fromhex(LEAVES[index]), index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old_size", "size"), CONSISTENCY)
def test_consistency_proofs_of_certificate_transparency(old_size: int, size: int) -> None:
    proof = consistency_proof(VECTORS, old_size, size)
    assert [each.hex() for each in proof] == CONSISTENCY[old_size, size]
    verify_consistency(old_size, bytes.fromhex(ROOTS[old_size]), size, bytes.fromhex(ROOTS[size]), proof)


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_no_other_inclusion_proof_passes(index: int, size: int) -> None:
    leaf, proof, top = bytes.fromhex(LEAVES[index]), inclusion_proof(VECTORS, index, size), bytes.fromhex(ROOTS[size])
    wrong = [
        (leaf, index - 1, size, proof, top),
        (leaf, index + 1, size, proof, top),
        (leaf, index ^ 2, size, proof, top),
        (leaf, index, size * 2, proof, top),
        (leaf, index // 2, size // 2, proof, top),
        (leaf, index, size // 2, proof, top),
        (SOME, index, size, proof, top),
        (leaf, index, size, proof, EMPTY_ROOT),
        (leaf, index, size, proof, SOME),
    ]
    for bad in _wrong_proofs(proof, top):
        wrong.append((leaf, index, size, bad, top))
    for bad_leaf, bad_index, bad_size, bad_proof, bad_root in wrong:
        with pytest.raises(ProofError):
            verify_inclusion(bad_leaf, bad_index, bad_size, bad_proof, bad_root)


@pytest.mark.parametrize(("old_size", "size"), [key for key in CONSISTENCY if key != (1, 1)])
def test_no_other_consistency_proof_passes(old_size: int, size: int) -> None:
    proof = consistency_proof(VECTORS, old_size, size)
    old, new = bytes.fromhex(ROOTS[old_size]), bytes.fromhex(ROOTS[size])
    wrong = [
        (old_size - 1, old, size, new, proof),
        (old_size + 1, old, size, new, proof),
        (old_size ^ 2, old, size, new, proof),
        (old_size, old, size * 2, new, proof),
        (old_size, old, size // 2, new, proof),
        (old_size, SOME, size, new, proof),
        (old_size, old, size, SOME, proof),
        (old_size, new, size, old, proof),
        (size, new, old_size, old, proof),
        (old_size, old, size, new, []),
    ]
    for bad in _wrong_proofs(proof, new):
        wrong.append((old_size, old, size, new, bad))
    for bad_old_size, bad_old, bad_size, bad_new, bad_proof in wrong:
        with pytest.raises(ProofError):
            verify_consistency(bad_old_size, bad_old, bad_size, bad_new, bad_proof)


def _wrong_proofs(proof: list[bytes], top: bytes) -> list[list[bytes]]:
    changed = [[*proof[:at], EMPTY_ROOT, *proof[at + 1 :]] for at in range(len(proof))]
    added = [[*proof, b""], [*proof, top], [b"", *proof], [top, *proof]]
    return changed + added + ([proof[:-1]] if proof else [])


def test_roots_of_equal_sizes_are_equal_or_refused() -> None:
    verify_consistency(5, SOME, 5, SOME, [])
    verify_consistency(0, EMPTY_ROOT, 5, SOME, [])
    for old_size, old in [(5, EMPTY_ROOT), (0, SOME), (-1, SOME), (6, SOME)]:
        with pytest.raises(ProofError):
            verify_consistency(old_size, old, 5, SOME, [])
    with pytest.raises(ProofError):
        verify_consistency(5, SOME, 5, SOME, [SOME])


def test_a_node_does_not_pass_for_a_leaf() -> None:
    """The root of four leaves is also that of two nodes; only as entries these have other hashes."""
    nodes = [node_hash(VECTORS.leaves[at], VECTORS.leaves[at + 1]) for at in (0, 2)]
    assert node_hash(*nodes) == root(VECTORS, 4)
    forged = Frontier()
    for at in (0, 2):
        forged.append(leaf_hash(b"\x01" + VECTORS.leaves[at] + VECTORS.leaves[at + 1]))
    assert forged.root() != root(VECTORS, 4)
    with pytest.raises(ProofError):
        verify_inclusion(nodes[0], 0, 4, [nodes[1]], root(VECTORS, 4))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=150), st.data())
@settings(max_examples=150, deadline=None)
def test_another_implementation_finds_the_same(entries: list[bytes], data: st.DataObject) -> None:
    other = InmemoryTree(algorithm="sha256")
    for each in entries:
        other.append_entry(each)
    node = Leaves([leaf_hash(each) for each in entries])
    size = data.draw(st.integers(1, len(entries)), label="size")
    old_size = data.draw(st.integers(0, size), label="old size")
    index = data.draw(st.integers(0, size - 1), label="index")
    top = other.get_root(size)
    assert root(node, size) == top
    inclusion = inclusion_proof(node, index, size)
    verify_inclusion(node.leaves[index], index, size, inclusion, top)
    theirs = other.prove_inclusion(index + 1, size)
    assert len(theirs.path) == len(inclusion) + 1
    assert set(theirs.path) == {node.leaves[index], *inclusion}
    verify_consistency(old_size, root(node, old_size), size, top, consistency_proof(node, old_size, size))
    if old_size:
        assert other.get_root(old_size) == root(node, old_size)


@given(st.integers(1, 300), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_a_tree_goes_on_where_it_stopped(size: int, more: int) -> None:
    leaves = [leaf_hash(bytes([each % 256])) for each in range(size + more)]
    first = Frontier()
    for leaf in leaves[:size]:
        first.append(leaf)
    second = Frontier(first.size, first.hashes)
    for leaf in leaves[size:]:
        second.append(leaf)
    assert second.root() == root(Leaves(leaves), size + more)


def test_a_frontier_must_fit_its_size() -> None:
    for size, hashes in [(3, [SOME]), (1, [b"short"]), (-1, []), (0, [SOME])]:
        with pytest.raises(ValueError):
            Frontier(size, hashes)
    with pytest.raises(ValueError):
        complete([SOME] * 3)
    for index, size in [(-1, 3), (3, 3)]:
        with pytest.raises(ValueError):
            inclusion_proof(VECTORS, index, size)
    with pytest.raises(ValueError):
        consistency_proof(VECTORS, 4, 3)
