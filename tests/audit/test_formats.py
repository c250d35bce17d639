"""Notes, keys, entries, tiles and proofs: the published forms, byte for byte, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from coupon_ledger_audit import note, tiles
from coupon_ledger_audit.entry import Entry, EntryError, entry, parse
from coupon_ledger_audit.note import Checkpoint, NoteError, SigningKey, VerifierKey, open_checkpoint, sign
from coupon_ledger_audit.proof import Proof
from coupon_ledger_audit.tiles import TileError, TileFolder
from coupon_ledger_audit.tree import Frontier, ProofError, complete, inclusion_proof, leaf_hash, root

# The example of golang.org/x/mod/sumdb/note.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of c2sp.org/signed-note.
C2SP_VERIFIER = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_TEXT = "This is an example message.\n"
C2SP_SIGNATURE = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="

ORIGIN = "ledger.example/shop"
KEY = SigningKey(ORIGIN, bytes(range(32)))
CHECKPOINT = Checkpoint(ORIGIN, 20_852_163, bytes(range(32)))
NOTE = sign(CHECKPOINT, KEY)


def test_signs_the_example_of_go_byte_for_byte() -> None:
    key = SigningKey.parse(GO_SIGNER + "\n")
    assert key.line(GO_TEXT.encode()) == GO_LINE
    assert str(key.verifier()) == GO_VERIFIER
    assert key.text() == GO_SIGNER
    assert VerifierKey.parse(GO_VERIFIER) == key.verifier()
    assert "AYEK" not in repr(key)


def test_verifies_the_example_of_the_specification() -> None:
    key = VerifierKey.parse(C2SP_VERIFIER)
    signature = note.decoded(C2SP_SIGNATURE)
    assert signature[:4] == key.id
    key.verify(signature[4:], C2SP_TEXT.encode())
    with pytest.raises(NoteError):
        key.verify(signature[4:], C2SP_TEXT.encode() + b" ")


def test_a_checkpoint_comes_back_from_its_note() -> None:
    assert open_checkpoint(NOTE, KEY.verifier(), ORIGIN) == CHECKPOINT
    assert open_checkpoint(NOTE.encode(), KEY.verifier(), ORIGIN) == CHECKPOINT
    assert NOTE.split("\n")[:3] == [ORIGIN, "20852163", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
    empty = Checkpoint(ORIGIN, 0, bytes(32))
    assert open_checkpoint(sign(empty, KEY), KEY.verifier(), ORIGIN) == empty


def test_every_changed_bit_of_a_checkpoint_is_found() -> None:
    data = NOTE.encode()
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NoteError):
            open_checkpoint(bytes(changed), KEY.verifier(), ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        ORIGIN,
        f"{ORIGIN}\n1\n",
        f"\n1\n{'A' * 43}=\n",
        f"{ORIGIN}\n01\n{'A' * 43}=\n",
        f"{ORIGIN}\n-1\n{'A' * 43}=\n",
        f"{ORIGIN}\n1 \n{'A' * 43}=\n",
        f"{ORIGIN}\n\N{ARABIC-INDIC DIGIT ONE}\n{'A' * 43}=\n",
        f"{ORIGIN}\n1\n{'A' * 43}\n",
        f"{ORIGIN}\n1\n{'A' * 42}B=\n",
        f"{ORIGIN}\n1\n{'A' * 4}\n",
        f"{ORIGIN}\n1\n{'A' * 43}=\nextension\n",
    ],
)
def test_what_is_no_checkpoint_is_refused_though_it_is_signed(text: str) -> None:
    signed = f"{text}\n{KEY.line(text.encode())}"
    with pytest.raises(NoteError):
        open_checkpoint(signed, KEY.verifier(), ORIGIN)


def test_only_the_named_key_and_origin_will_do() -> None:
    other = SigningKey.generate(ORIGIN)
    with pytest.raises(NoteError, match="not signed by"):
        open_checkpoint(sign(CHECKPOINT, other), KEY.verifier(), ORIGIN)
    with pytest.raises(NoteError, match="not of"):
        open_checkpoint(NOTE, KEY.verifier(), "ledger.example/other")
    both = sign(CHECKPOINT, other, KEY)
    assert open_checkpoint(both, KEY.verifier(), ORIGIN) == open_checkpoint(both, other.verifier(), ORIGIN)
    wrong = SigningKey(ORIGIN, KEY.seed).line(b"something else")
    with pytest.raises(NoteError, match="wrong"):
        open_checkpoint(NOTE + wrong, KEY.verifier(), ORIGIN)


def test_a_witness_signs_the_time_too() -> None:
    witness = SigningKey.generate("witness.example/w", note.WITNESS)
    seen = note.cosign(NOTE, witness, 1_679_315_147)
    assert open_checkpoint(seen, KEY.verifier(), ORIGIN) == CHECKPOINT
    assert note.cosigned_at(seen, witness.verifier()) == 1_679_315_147
    assert VerifierKey.parse(str(witness.verifier())) == witness.verifier()
    with pytest.raises(NoteError):
        note.cosigned_at(NOTE, witness.verifier())
    line = seen.removeprefix(NOTE)
    with pytest.raises(NoteError):
        note.cosigned_at(sign(Checkpoint(ORIGIN, 1, bytes(32)), KEY) + line, witness.verifier())
    with pytest.raises(NoteError):
        note.cosign(NOTE, KEY, 1)
    with pytest.raises(NoteError):
        sign(CHECKPOINT, witness)
    with pytest.raises(NoteError):
        open_checkpoint(NOTE, SigningKey(ORIGIN, KEY.seed, note.WITNESS).verifier(), ORIGIN)


def test_the_note_of_the_specification_for_witnesses_can_be_read() -> None:
    text = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zy"
        "WE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo"
        "0xUe+mbIUBkBIfZ+qnA==\n"
    )
    assert note.unverified(text).size == 20_852_163


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
        "PeterNeumann+c74f20a3+",
        "PeterNeumann+c74f20a3+ARpc",
    ],
)
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)
    with pytest.raises(NoteError) as refused:
        SigningKey.parse(f"PRIVATE+KEY+{text}")
    assert "ARpc" not in str(refused.value)
    with pytest.raises(NoteError):
        SigningKey.generate("two words")


def test_an_entry_is_written_and_read() -> None:
    data = entry(7, "coupon-é", 2, "coupon.locked", 1_700_000_000_000_001, b"{}")
    assert data == (
        b"\x01\0\0\0\0\0\0\0\x07\0\x09coupon-\xc3\xa9\0\0\0\0\0\0\0\x02\0\x0dcoupon.locked"
        + (1_700_000_000_000_001).to_bytes(8)
        + bytes.fromhex("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
    )
    found = parse(data)
    assert found == Entry(7, "coupon-é", 2, "coupon.locked", 1_700_000_000_000_001, data[-32:])
    for bad in [data[:end] for end in range(len(data))] + [
        data + b"\0",
        b"\x02" + data[1:],
        data.replace(b"\xc3", b"a"),
    ]:
        with pytest.raises(EntryError):
            parse(bad)


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("tile/0/000", tiles.tile_path(0, 0)),
        ("tile/3/x001/x234/067", tiles.tile_path(3, 1_234_067)),
        ("tile/3/x001/x234/067.p/8", tiles.tile_path(3, 1_234_067, 8)),
        ("tile/0/999", tiles.tile_path(0, 999)),
        ("tile/0/x001/000.p/255", tiles.tile_path(0, 1000, 255)),
        ("tile/entries/x001/x234/067", tiles.entries_path(1_234_067)),
        ("tile/entries/000.p/1", tiles.entries_path(0, 1)),
    ],
)
def test_paths_of_tiles(path: str, made: str) -> None:
    assert made == path


def test_tiles_of_the_specification() -> None:
    """A tree of 70,000: 273 full tiles and one of 112; then a full one and one of 17; then one of 1."""
    widths = [[tiles.tile_width(level, index, 70_000) for index in range(275)] for level in range(4)]
    assert widths[0] == [256] * 273 + [112, 0]
    assert widths[1] == [256, 17] + [0] * 273
    assert widths[2] == [1] + [0] * 274
    assert widths[3] == [0] * 275
    for width in (0, 257):
        with pytest.raises(ValueError):
            tiles.tile_path(0, 0, width)


def test_a_folder_of_tiles_answers_with_nodes(tmp_path: Path) -> None:
    size = 256 * 256 + 300
    entries = [str(number).encode() for number in range(size)]
    leaves = [leaf_hash(each) for each in entries]
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    _write_tiles(tmp_path, leaves, entries)
    for at in (size, 65_536, 300, 256, 255, 1):
        folder = TileFolder(tmp_path, at)
        assert root(folder.node, at) == root(lambda level, i: complete(leaves[i << level : (i + 1) << level]), at)
    folder = TileFolder(tmp_path, size)
    assert root(folder.node, size) == tree.root()
    assert folder.entries(0) == entries[:256]
    assert folder.entries(257) == entries[-44:]
    with pytest.raises(TileError):
        TileFolder(tmp_path, size + 1).node(0, size)
    with pytest.raises(TileError):
        folder.node(0, size)
    with pytest.raises(TileError):
        folder.node(1, size // 2)
    (tmp_path / "tile/0/005").write_bytes(b"short")
    with pytest.raises(TileError, match="shorter"):
        TileFolder(tmp_path, size).node(0, 5 * 256)


@pytest.mark.parametrize("ask", [lambda folder: folder.tile(0, 0), lambda folder: folder.entries(0)])
def test_a_tile_may_become_full_between_two_looks(
    tmp_path: Path, ask: Callable[[TileFolder], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [str(number).encode() for number in range(256)]
    leaves = [leaf_hash(each) for each in entries]
    _write_tiles(tmp_path, leaves[:200], entries[:200])
    found = ask(TileFolder(tmp_path, 200))
    read = Path.read_bytes

    def read_and_grow(path: Path) -> bytes:
        """What the reader sees while a sealer fills the tile."""
        try:
            return read(path)
        finally:
            if not path.match("*.p/*"):
                _write_tiles(tmp_path, leaves, entries)
                for partial in tmp_path.rglob("*.p"):
                    shutil.rmtree(partial)

    monkeypatch.setattr(Path, "read_bytes", read_and_grow)
    assert ask(TileFolder(tmp_path, 200)) == found


def _write_tiles(path: Path, leaves: list[bytes], entries: list[bytes]) -> None:
    hashes, level = leaves, 0
    while hashes:
        for index in range(-(-len(hashes) // 256)):
            tile = hashes[index * 256 : (index + 1) * 256]
            _write(path / tiles.tile_path(level, index, len(tile)), b"".join(tile))
            if level == 0:
                packed = tiles.pack_entries(entries[index * 256 : (index + 1) * 256])
                _write(path / tiles.entries_path(index, len(tile)), packed)
        full = len(hashes) // 256
        hashes = [complete(hashes[index * 256 : (index + 1) * 256]) for index in range(full)]
        level += 1


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_entry_bundles_that_end_early_are_refused() -> None:
    data = tiles.pack_entries([b"", b"ab", b"c" * 300])
    assert tiles.unpack_entries(data) == [b"", b"ab", b"c" * 300]
    for end in (1, 3, 5, len(data) - 1):
        with pytest.raises(TileError):
            tiles.unpack_entries(data[:end])
    with pytest.raises(OverflowError):
        tiles.pack_entries([bytes(65_536)])


def test_a_proof_is_written_and_read() -> None:
    leaves = [leaf_hash(bytes([each])) for each in range(7)]
    hashes = inclusion_proof(lambda level, i: complete(leaves[i << level : (i + 1) << level]), 5, 7)
    proof = Proof(5, hashes, NOTE)
    lines = proof.text().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 5"]
    assert len(lines[2]) == 44
    assert lines[5:] == ["", *NOTE.split("\n")]
    assert Proof.parse(proof.text()) == proof
    assert Proof.parse(Proof(0, [], NOTE).text()) == Proof(0, [], NOTE)
    text = proof.text()
    for bad in ["", text.replace("@v1", "@v2"), text.replace("index 5", "index 05"), text.replace("\n\n", "\n", 1)]:
        with pytest.raises(ProofError):
            Proof.parse(bad)
    with pytest.raises(ProofError):
        Proof.parse(text.replace(lines[2], lines[2][:-5] + "="))
