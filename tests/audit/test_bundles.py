"""Whatever is changed in a bundle is found, with the first bad position where there is one; and nothing else is."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.audit import changed_events, changed_proofs
from tests.audit.alone import Auditor, copied
from tests.audit.logs import KEY, ORIGIN, Sealed
from tests.audit.worlds import Case, World, listed, made, opened

SEEDS = 40
ROUNDS = 10_000
HONEST = 1_000

MUTATIONS: list[Callable[[World], Case]] = [
    changed_events.a_bit,
    changed_events.a_bit_by_a_forger,
    changed_events.a_bit_of_a_row,
    changed_events.a_row_dropped,
    changed_events.a_row_dropped_and_the_rest_moved_up,
    changed_events.two_rows_swapped,
    changed_events.two_events_swapped,
    changed_events.a_row_twice,
    changed_events.rows_shuffled,
    changed_events.the_tail_cut_off,
    changed_events.an_event_added,
    changed_events.an_event_after_the_end,
    changed_events.a_column_edited,
    changed_events.a_state_edited,
    changed_events.a_state_written_otherwise,
    changed_events.the_seal_edited,
    changed_events.the_seal_cut_off,
    changed_events.the_seal_goes_on,
    changed_events.seal_and_row_edited,
    changed_events.nodes_as_entries,
    changed_proofs.a_manifest_that_lies,
    changed_proofs.balances_that_lie,
    changed_proofs.another_key,
    changed_proofs.another_origin,
    changed_proofs.a_checkpoint_from_before,
    changed_proofs.the_log_taken_back,
    changed_proofs.another_history,
    changed_proofs.an_earlier_checkpoint_forged,
    changed_proofs.no_proof_from_the_last_checkpoint,
    changed_proofs.a_consistency_proof_forged,
    changed_proofs.a_proof_forged,
    changed_proofs.an_event_of_a_coupon_edited,
    changed_proofs.events_of_a_coupon_swapped,
    changed_proofs.small_members_written_otherwise,
    changed_proofs.an_event_of_a_coupon_left_out,
    changed_proofs.a_member_missing,
    changed_proofs.a_member_missing_from_the_manifest_too,
    changed_proofs.a_member_added,
]
ANY_BIT = (changed_events.a_bit, changed_events.a_bit_by_a_forger)
# Any bit of any member is worth more rounds than the rest.
WEIGHTS = [
    9 if mutation in ANY_BIT else 3 if mutation is changed_proofs.a_proof_forged else 1 for mutation in MUTATIONS
]


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    """An auditor who has the package and nothing of the server."""
    with Auditor(copied(tmp_path_factory.mktemp("auditor"))) as auditor:
        yield auditor


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [made(seed) for seed in range(SEEDS)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_every_change_is_found(mutation: Callable[[World], Case], worlds: list[World], auditor: Auditor) -> None:
    """Ten thousand over all kinds."""
    rounds = -(-ROUNDS * WEIGHTS[MUTATIONS.index(mutation)] // sum(WEIGHTS))
    for number in range(rounds):
        world = replace(worlds[number % SEEDS], chance=random.Random(f"{mutation.__name__} {number}"))
        case = mutation(world)
        finding = case.ask(auditor)
        assert finding is not None, f"{mutation.__name__} {number} was not found"
        if case.position is not None:
            assert finding["position"] == case.position, (mutation.__name__, number, finding)


def test_honest_bundles_are_right(auditor: Auditor) -> None:
    for number in range(HONEST // 2):
        world = made(f"honest {number}")
        chance = world.chance
        known = sorted(int(name.partition("/")[2]) for name in world.coupon if name.startswith("checkpoints/"))
        for members in (world.whole, world.coupon):
            anywhere = [chance.randint(0, world.size)] if members is world.whole else [chance.choice(known), world.size]
            last = [world.sealed.note(size) for size in anywhere]
            case = Case(dict(members), last, kept=True)
            asked = [world.stream.removeprefix("coupon-")]
            finding = auditor.ask(case.bundle(), str(KEY.verifier()), ORIGIN, last, asked)
            assert finding is None, (number, finding)


def test_nothing_is_not_right(auditor: Auditor, worlds: list[World]) -> None:
    sealed = worlds[0].sealed
    for bundle in (Sealed([]).whole(), sealed.coupon(), sealed.coupon("batch-b", "template-t")):
        finding = Case(opened(bundle)).ask(auditor)
        assert finding is not None
        assert finding["step"] == "rows"


@pytest.mark.parametrize("left_out", ["batch-b", "template-t"])
def test_a_coupons_batch_and_template_go_with_it(auditor: Auditor, worlds: list[World], left_out: str) -> None:
    world = worlds[0]
    streams = {world.stream, "batch-b", "template-t"} - {left_out}
    finding = Case(opened(world.sealed.coupon(*streams))).ask(auditor)
    assert finding is not None
    assert "is not in the bundle" in finding["text"]


@pytest.mark.parametrize("positions", [lambda at: at + 5 * (at > 4), lambda _: 7, lambda at: at - 1])
def test_events_lie_at_their_positions(auditor: Auditor, positions: Callable[[int], int]) -> None:
    """Though they are honestly sealed elsewhere."""
    rows = [row._replace(position=positions(row.position)) for row in made(1).sealed.rows]
    finding = Case(opened(Sealed(rows).whole())).ask(auditor)
    assert finding is not None
    assert finding["step"] == "rows"
    assert finding["position"] == next(place for place, row in enumerate(rows, 1) if row.position != place)


def test_a_member_named_for_no_size_and_too_many_of_them(auditor: Auditor, worlds: list[World]) -> None:
    whole = worlds[0].whole
    assert _found(auditor, whole | {f"checkpoints/{'1' * 5_000}": b""}) == "bundle"
    assert _found(auditor, whole | {f"checkpoints/{size}": b"" for size in range(101)}) == "bundle"
    note = worlds[0].sealed.note(1).encode()
    assert _found(auditor, whole | {"checkpoints/1": note + bytes(300_000)}) == "bundle"
    assert _found(auditor, whole | {"checkpoint": bytes(300_000)}) == "bundle"
    sizes = json.dumps({"1" * 5_000: []}, separators=(",", ":")).encode()
    assert _found(auditor, worlds[0].coupon | {"consistency.json": sizes}) == "bundle"


@pytest.mark.parametrize(
    "changes",
    [
        {"size": float},
        {"size": str},
        {"origin": lambda _: None},
        {"members": lambda of: {name: {"bytes": 1.0, "sha256": ""} for name in of}},
        {"members": lambda of: dict.fromkeys(of, 1)},
        {"balances": lambda of: of | {"position": 0, "batches": {}}},
        {"balances": lambda of: of | {"position": True}},
        {"balances": lambda of: of | {"batches": []}},
    ],
)
def test_a_manifest_of_other_types(auditor: Auditor, worlds: list[World], changes: dict[str, Any]) -> None:
    members = dict(worlds[0].whole)
    listed(members)
    said = json.loads(members["manifest.json"])
    said |= {name: change(said[name]) for name, change in changes.items()}
    members["manifest.json"] = json.dumps(said, ensure_ascii=False, indent=1, sort_keys=True).encode()
    finding = Case(members, kept=True).ask(auditor)
    assert finding is not None
    assert finding["step"] == "bundle"


def test_a_balance_without_its_counters(auditor: Auditor, worlds: list[World]) -> None:
    for batch in ({}, {"issued": None}, {"quantity": 1_000_000}):
        members = dict(worlds[0].whole)
        balances = json.loads(members["manifest.json"])["balances"]
        told = {name: balances["batches"]["b"][name] for name in batch}
        listed(members, balances=balances | {"batches": {"b": told}})
        finding = Case(members, kept=True).ask(auditor)
        assert finding is not None
        assert finding["step"] == "balances"


def test_a_bundle_packed_in_another_way(auditor: Auditor, worlds: list[World]) -> None:
    members = dict(worlds[0].whole)
    listed(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    bundle = bytearray(file.getvalue())
    bundle[200] ^= 1
    finding = auditor.ask(bytes(bundle), str(KEY.verifier()), ORIGIN, [], [])
    assert finding is not None
    assert finding["step"] == "bundle"


def _found(auditor: Auditor, members: dict[str, bytes]) -> str:
    finding = Case(dict(members)).ask(auditor)
    assert finding is not None
    step: str = finding["step"]
    return step
