"""What can be done to a bundle's checkpoints, proofs, manifest and members."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from coupon_ledger_audit.bundle import write_coupon
from coupon_ledger_audit.note import SigningKey, sign
from coupon_ledger_audit.proof import Proof
from coupon_ledger_audit.tree import consistency_proof, inclusion_proof
from tests.audit.logs import KEY, ORIGIN, Sealed
from tests.audit.worlds import Case, World, lines, listed, opened

OTHER_KEY = SigningKey(ORIGIN, bytes(reversed(range(32))))


def a_manifest_that_lies(world: World) -> Case:
    is_whole = world.chance.random() < 0.5
    members = dict(world.whole if is_whole else world.coupon)
    changes: list[dict[str, Any]] = [
        {"size": world.size + 1},
        {"size": world.size - 1},
        {"origin": "other.example"},
        {"kind": "coupon" if is_whole else "whole"},
        {"kind": "some"},
        {"streams": ["coupon-9999"]},
        {"more": 1},
        {"format": "coupon-ledger-audit@v0"},
    ]
    listed(members, **world.chance.choice(changes))
    return Case(members, kept=True)


def balances_that_lie(world: World) -> Case:
    members = dict(world.whole)
    balances = json.loads(members["manifest.json"])["balances"]
    batch = balances["batches"]["b"]
    name = world.chance.choice(sorted(batch))
    how = world.chance.randrange(5)
    if how == 0:
        balances["batches"]["b2"] = batch
    elif how == 1:
        balances["batches"] = {}
    elif how == 2:
        balances["position"] = world.chance.randrange(world.size)
    else:
        batch[name] += world.chance.choice([-1, 1])
    listed(members, balances=balances)
    return Case(members, kept=True)


def another_key(world: World) -> Case:
    note = sign(world.sealed.checkpoint(), OTHER_KEY)
    return Case(world.whole | {"checkpoint": note.encode()})


def another_origin(world: World) -> Case:
    other = Sealed(world.sealed.rows, origin="ledger.example/other")
    if world.chance.random() < 0.5:
        return Case(opened(other.whole()))
    return Case(dict(world.whole), origin="ledger.example/other")


def a_checkpoint_from_before(world: World) -> Case:
    """The bundle's own, replaced by an older one that is signed as well."""
    return Case(world.whole | {"checkpoint": world.sealed.note(world.chance.randrange(world.size)).encode()})


def the_log_taken_back(world: World) -> Case:
    """An older backup, honest in itself; the auditor has seen more."""
    size = world.chance.randrange(3, world.size)
    older = Sealed(world.sealed.rows[:size])
    bundle = older.whole() if world.chance.random() < 0.5 else older.coupon(older.rows[-1].stream)
    return Case(opened(bundle), [world.sealed.note(world.chance.randint(size + 1, world.size))], size + 1)


def another_history(world: World) -> Case:
    """Signed by the right key, and not what the auditor saw: no event of it is bad by itself."""
    at = world.place() - 1
    rows = list(world.sealed.rows)
    rows[at] = rows[at]._replace(recorded_at_us=rows[at].recorded_at_us + 1)
    other = Sealed(rows)
    last = world.chance.randint(at + 1, world.size)
    if world.chance.random() < 0.5:
        return Case(opened(other.whole()), [world.sealed.note(last)])
    return Case(opened(other.coupon(world.stream, earlier=[last])), [world.sealed.note(last)])


def an_earlier_checkpoint_forged(world: World) -> Case:
    members = dict(world.chance.choice([world.whole, world.coupon]))
    name = world.chance.choice([name for name in members if name.startswith("checkpoints/")])
    size = int(name.removeprefix("checkpoints/"))
    rows = world.sealed.rows
    other = Sealed([rows[0]._replace(recorded_at_us=0), *rows[1:]])
    forged = [
        sign(world.sealed.checkpoint(size), OTHER_KEY),
        sign(other.checkpoint(size), KEY),
        world.sealed.note(size - 1),
        "",
    ]
    return Case(members | {name: world.chance.choice(forged).encode()})


def no_proof_from_the_last_checkpoint(world: World) -> Case:
    known = {int(name.partition("/")[2]) for name in world.coupon if name.startswith("checkpoints/")}
    size = world.chance.choice([size for size in range(1, world.size) if size not in known])
    return Case(dict(world.coupon), [world.sealed.note(size)])


def a_consistency_proof_forged(world: World) -> Case:
    members = dict(world.coupon)
    found = json.loads(members["consistency.json"])
    size = world.chance.choice(sorted(found))
    hashes = found[size]
    at = world.chance.randrange(len(hashes))
    other = consistency_proof(world.sealed.node, world.size, world.size)
    how: list[Callable[[], object]] = [
        lambda: hashes.pop(at),
        lambda: hashes.insert(at, hashes[at]),
        lambda: hashes.__setitem__(at, "A" * 43 + "="),
        lambda: found.__setitem__(size, other),
        lambda: found.__setitem__("0", hashes),
        lambda: found.pop(size),
    ]
    world.chance.choice(how)()
    members["consistency.json"] = json.dumps(found, separators=(",", ":"), sort_keys=True).encode()
    if found == json.loads(world.coupon["consistency.json"]):
        return a_consistency_proof_forged(world)
    return Case(members)


def a_proof_forged(world: World) -> Case:
    """Any field of an inclusion proof."""
    members = dict(world.coupon)
    names = [name for name in members if name.startswith("proofs/")]
    name = world.chance.choice(names)
    position = int(name.removeprefix("proofs/"))
    head, _, note = members[name].decode().partition("\n\n")
    first, index, *hashes = head.split("\n")
    at = world.chance.randrange(len(hashes))
    other = world.chance.choice([place for place in range(1, world.size + 1) if place != position])
    foreign = inclusion_proof(world.sealed.node, other - 1, world.size)
    sealed = Sealed([*world.sealed.rows, world.sealed.rows[-1]._replace(position=world.size + 1)])
    forged = [
        (f"index {other - 1}", hashes, note),
        ("index 00", hashes, note),
        (index, hashes[:at] + hashes[at + 1 :], note),
        (index, hashes[:at] + [hashes[at]] * 2 + hashes[at + 1 :], note),
        (index, [*hashes[:at], "A" * 43 + "=", *hashes[at + 1 :]], note),
        (index, hashes, sealed.note()),
        (index, hashes, ""),
    ]
    changed = world.chance.randrange(len(forged) + 2)
    if changed < len(forged):
        index, hashes, note = forged[changed]
        text = "\n".join([first, index, *hashes]) + "\n\n" + note
    elif changed == len(forged):  # that of another leaf, honest in itself
        text = Proof(other - 1, foreign, note).text()
    else:
        text = world.coupon[world.chance.choice([each for each in names if each != name])].decode()
    return Case(members | {name: text.encode()}, position=position)


def an_event_of_a_coupon_edited(world: World) -> Case:
    members = dict(world.coupon)
    changed = lines(members)
    at = world.chance.randrange(len(changed))
    row = json.loads(changed[at])
    name = world.chance.choice(["stream", "version", "topic", "recorded_at", "state"])
    row[name] = row[name] + 1 if type(row[name]) is int else row[name] + "1"
    changed[at] = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return Case(members | {"events.ndjson": b"".join(changed)}, position=row["position"])


def events_of_a_coupon_swapped(world: World) -> Case:
    """Each with its proof still: which of the two is out of place is a matter of taste."""
    changed = lines(world.coupon)
    a, b = sorted(world.chance.sample(range(len(changed)), 2))
    changed[a], changed[b] = changed[b], changed[a]
    return Case(world.coupon | {"events.ndjson": b"".join(changed)})


def small_members_written_otherwise(world: World) -> Case:
    """They say the same, with other blanks."""
    members = dict(world.coupon)
    if world.chance.random() < 0.5:
        members["consistency.json"] = members["consistency.json"].replace(b":", b": ", 1)
        return Case(members)
    members["manifest.json"] += b"\n"
    return Case(members, kept=True)


def an_event_of_a_coupon_left_out(world: World) -> Case:
    """With its proof, and the manifest agrees: the versions tell. A stream's end alone cannot tell that it is one."""
    rows = [row for row in world.sealed.rows if row.stream in (world.stream, "batch-b", "template-t")]
    last = {row.stream: row.position for row in rows}
    inner = [row for row in rows if row.position != last[row.stream]]
    dropped = world.chance.choice(inner)
    kept = [row for row in rows if row is not dropped]
    after = next(row for row in kept if row.stream == dropped.stream and row.version == dropped.version + 1)
    file = io.BytesIO()
    proofs = [inclusion_proof(world.sealed.node, row.position - 1, world.size) for row in kept]
    write_coupon(file, world.sealed.note(), kept, proofs)
    return Case(opened(file.getvalue()), position=after.position)


def a_member_missing(world: World) -> Case:
    members = dict(world.chance.choice([world.whole, world.coupon]))
    del members[world.chance.choice(sorted(members))]
    return Case(members, kept=True)


def a_member_missing_from_the_manifest_too(world: World) -> Case:
    members = dict(world.chance.choice([world.whole, world.coupon]))
    names = [name for name in members if name not in ("manifest.json", "events.ndjson")]
    del members[world.chance.choice([name for name in names if not name.startswith("checkpoints/")])]
    return Case(members)


def a_member_added(world: World) -> Case:
    members = dict(world.chance.choice([world.whole, world.coupon]))
    name = world.chance.choice(["notes.txt", "proofs/9999", "checkpoints/x", "../checkpoint", "checkpoints/9999"])
    members[name] = b"{}"
    return Case(members, kept=world.chance.random() < 0.5)
