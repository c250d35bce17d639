"""What can be done to the rows and entries of a bundle."""

from __future__ import annotations

import json

from tests.audit.worlds import Case, Members, World, lines, packed, rewritten


def a_bit(world: World) -> Case:
    """The disk changes one."""
    members = dict(world.chance.choice([world.whole, world.coupon]))
    return Case(_flipped(world, members), kept=True)


def a_bit_by_a_forger(world: World) -> Case:
    """The same, and the manifest agrees."""
    members = dict(world.chance.choice([world.whole, world.coupon]))
    del members["manifest.json"]
    changed = _flipped(world, members)
    changed["manifest.json"] = (world.coupon if "consistency.json" in members else world.whole)["manifest.json"]
    return Case(changed)


def _flipped(world: World, members: Members) -> Members:
    name = world.chance.choice(sorted(members))
    data = bytearray(members[name])
    data[world.chance.randrange(len(data))] ^= 1 << world.chance.randrange(8)
    return members | {name: bytes(data)}


def a_bit_of_a_row(world: World) -> Case:
    """Of a row alone, whose position is known."""
    position = world.place()
    changed = lines(world.whole)
    line = bytearray(changed[position - 1])
    line[world.chance.randrange(len(line) - 1)] ^= 1 << world.chance.randrange(8)
    if b"\n" in line[:-1]:
        line = bytearray(b"{}\n")
    changed[position - 1] = bytes(line)
    return Case(world.whole | {"events.ndjson": b"".join(changed)}, position=position)


def a_row_dropped(world: World) -> Case:
    rows = list(world.sealed.rows)
    del rows[world.place() - 1]
    return rewritten(world, rows)


def a_row_dropped_and_the_rest_moved_up(world: World) -> Case:
    rows = list(world.sealed.rows)
    del rows[world.place() - 1]
    return rewritten(world, [row._replace(position=at) for at, row in enumerate(rows, 1)])


def two_rows_swapped(world: World) -> Case:
    rows = list(world.sealed.rows)
    a, b = world.chance.sample(range(len(rows)), 2)
    rows[a], rows[b] = rows[b], rows[a]
    return rewritten(world, rows)


def two_events_swapped(world: World) -> Case:
    rows = list(world.sealed.rows)
    a, b = world.chance.sample(range(len(rows)), 2)
    rows[a], rows[b] = rows[b]._replace(position=a + 1), rows[a]._replace(position=b + 1)
    return rewritten(world, rows)


def a_row_twice(world: World) -> Case:
    rows = list(world.sealed.rows)
    at = world.place() - 1
    rows.insert(at, rows[at])
    return rewritten(world, rows)


def rows_shuffled(world: World) -> Case:
    rows = list(world.sealed.rows)
    while rows == world.sealed.rows:
        world.chance.shuffle(rows)
    return rewritten(world, rows)


def the_tail_cut_off(world: World) -> Case:
    return rewritten(world, world.sealed.rows[: world.chance.randrange(world.size)])


def an_event_added(world: World) -> Case:
    rows = list(world.sealed.rows)
    at = world.place() - 1
    forged = rows[at]._replace(stream="coupon-9999", version=1)
    rows[at:at] = [forged]
    return rewritten(world, [row._replace(position=place) for place, row in enumerate(rows, 1)])


def an_event_after_the_end(world: World) -> Case:
    rows = list(world.sealed.rows)
    return rewritten(world, [*rows, rows[-1]._replace(position=len(rows) + 1, stream="coupon-9999")])


def a_column_edited(world: World) -> Case:
    rows = list(world.sealed.rows)
    at = world.place() - 1
    row = rows[at]
    rows[at] = world.chance.choice(
        [
            row._replace(stream=row.stream + "0"),
            row._replace(version=row.version + 1),
            row._replace(topic="coupon.voided"),
            row._replace(recorded_at_us=row.recorded_at_us - 1),
            row._replace(position=row.position + 1),
            row._replace(version=-1),
            row._replace(recorded_at_us=1 << 64),
            row._replace(stream="x" * 70_000),
            row._replace(state="\ud800"),
        ][: 8 if world.chance.random() < 0.9 else 9]
    )
    if rows[at].state == "\ud800":
        data = [each.line() for each in world.sealed.rows]
        data[at] = data[at].replace(b'"state":"', b'"state":"\\ud800', 1)
        return Case(world.whole | {"events.ndjson": b"".join(data)}, position=at + 1)
    return rewritten(world, rows)


def a_state_edited(world: World) -> Case:
    rows = list(world.sealed.rows)
    at = world.place() - 1
    payload = json.loads(rows[at].state)
    name = world.chance.choice(sorted(payload))
    value = payload[name]
    payload[name] = value + 1 if type(value) is int else f"{value}1"
    rows[at] = rows[at]._replace(state=json.dumps(payload, ensure_ascii=False, separators=(",", ":")))
    return rewritten(world, rows)


def a_state_written_otherwise(world: World) -> Case:
    """The same JSON with other blanks: the stored bytes count, not what they mean."""
    rows = list(world.sealed.rows)
    at = world.place() - 1
    rows[at] = rows[at]._replace(state=rows[at].state.replace(",", ", ", 1))
    return rewritten(world, rows)


def the_seal_edited(world: World) -> Case:
    """Only the seal's entry: the row says where."""
    entries = list(world.sealed.entries)
    position = world.place()
    entry = bytearray(entries[position - 1])
    entry[world.chance.randrange(len(entry))] ^= 1
    entries[position - 1] = bytes(entry)
    return Case(world.whole | {"entries": packed(entries)}, position=position)


def the_seal_cut_off(world: World) -> Case:
    size = world.chance.randrange(world.size)
    return Case(world.whole | {"entries": packed(world.sealed.entries[:size])}, position=size + 1)


def the_seal_goes_on(world: World) -> Case:
    entries = [*world.sealed.entries, world.sealed.entries[-1]]
    return Case(world.whole | {"entries": packed(entries)}, position=world.size + 1)


def seal_and_row_edited(world: World) -> Case:
    """Both alike, so that only the signed root tells; no position can be named."""
    rows = list(world.sealed.rows)
    at = world.place() - 1
    rows[at] = rows[at]._replace(recorded_at_us=rows[at].recorded_at_us + 1)
    data = {"events.ndjson": b"".join(row.line() for row in rows), "entries": packed([row.entry() for row in rows])}
    return Case(world.whole | data)


def nodes_as_entries(world: World) -> Case:
    """Half as many entries, each the two leaves below a node: without the leaf's prefix the root would be the same."""
    leaves = world.sealed.leaves
    pairs = [leaves[at] + leaves[at + 1] for at in range(0, len(leaves) - 1, 2)]
    prefix = world.chance.choice([b"", b"\x01"])
    return Case(world.whole | {"entries": packed([prefix + each for each in pairs])}, position=1)
