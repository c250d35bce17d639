"""The check of the seal against the log: every change is found, at the first position that it touched."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from coupon_ledger_audit.tiles import tile_path
from coupon_ledger_audit.tree import leaf_hash
from ledger.application import Ledger
from ledger.database import Database
from projections.seal.check import Finding, check
from projections.seal.errors import NotSealed
from projections.seal.leaves import rows
from tests.conftest import Shop
from tests.postgres.lives import Lives
from tests.postgres.seals import seal, superuser

SIZES = (100, 200, 256, 400, 512, 600)
"""At least so many events had happened at each checkpoint."""
ROUNDS = 2_000


@dataclass
class Sealed:
    """A sealed log of a few hundred events, and somebody who owns the database."""

    owner: psycopg.Connection[Any]
    folder: Path
    size: int

    def first(self) -> int | None:
        """The position of the first finding; ``None`` where there is no finding."""
        found = check(self.owner, self.folder)
        return found[0].position if found else None


@pytest.fixture(scope="module")
def sealed(
    shared_database: Database, shared_ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sealed]:
    folder = tmp_path_factory.mktemp("seal")
    lives = Lives(Shop(shared_ledger), seed=3)
    for size in SIZES:
        while shared_ledger.store.head() < size:
            lives.go_on(20)
        seal(shared_database, folder)
    with superuser(shared_database) as owner:
        # Those on what is inside an event would refuse some changes; who owns the table owns them too.
        for (name,) in owner.execute("select indexrelid::regclass from pg_index where indrelid = 'events'::regclass"
                                     " and not indisunique").fetchall():  # fmt: skip
            owner.execute(f"drop index {name}")
        yield Sealed(owner, folder, shared_ledger.store.head())


@pytest.fixture
def kept(sealed: Sealed) -> Iterator[Sealed]:
    """What is done to the database or the folder is undone in the end."""
    before = sealed.folder.with_name(f"{sealed.folder.name}-before")
    shutil.copytree(sealed.folder, before)
    with sealed.owner.transaction(force_rollback=True):
        yield sealed
    shutil.rmtree(sealed.folder)
    before.rename(sealed.folder)


def update(owner: psycopg.Connection[Any], position: int, what: str) -> None:
    owner.execute(sql.SQL("update events set {} where notification_id = {}").format(sql.SQL(what), position))  # type: ignore[arg-type]


def renumber(owner: psycopg.Connection[Any], moves: dict[int, int]) -> None:
    """Give events other positions, through ones that nobody has."""
    for old, new in moves.items():
        update(owner, old, f"notification_id = {-10_000_000 - new}")
    for new in moves.values():
        update(owner, -10_000_000 - new, f"notification_id = {new}")


def pair(chance: random.Random, size: int) -> tuple[int, int]:
    first, second = sorted(chance.sample(range(1, size + 1), 2))
    return first, second


def flip_state(owner: Any, size: int, chance: random.Random) -> int:
    at = chance.randint(1, size)
    (state,) = owner.execute("select state from events where notification_id = %s", (at,)).fetchone()
    byte = chance.randrange(len(state))
    changed = state[:byte] + bytes([state[byte] ^ (1 << chance.randrange(8))]) + state[byte + 1 :]
    owner.execute("update events set state = %s where notification_id = %s", (changed, at))
    return at


def lengthen_state(owner: Any, size: int, chance: random.Random) -> int:
    at = chance.randint(1, size)
    update(owner, at, chance.choice(["state = state || ' '", "state = ''", "state = substr(state, 2)"]))
    return at


def retell(owner: Any, size: int, chance: random.Random) -> int:
    at = chance.randint(1, size)
    what = ["topic = topic || 'x'", "topic = 'coupon.void'", "originator_version = originator_version + 1000",
            "originator_id = '~' || originator_id", "recorded_at = recorded_at + interval '1 us'",
            "recorded_at = 'infinity'", "recorded_at = '-infinity'", "recorded_at = '1969-01-01'",
            "originator_version = -1"]  # fmt: skip
    update(owner, at, chance.choice(what))
    return at


def swap_times(owner: Any, size: int, chance: random.Random) -> int:
    first, second = pair(chance, size)
    owner.execute(
        "update events e set recorded_at = o.recorded_at from events o"
        " where (e.notification_id, o.notification_id) in ((%(a)s, %(b)s), (%(b)s, %(a)s))",
        {"a": first, "b": second},
    )
    return first


def swap(owner: Any, size: int, chance: random.Random) -> int:
    first, second = pair(chance, size)
    renumber(owner, {first: second, second: first})
    return first


def rotate(owner: Any, size: int, chance: random.Random) -> int:
    first = chance.randint(1, size - 5)
    renumber(owner, {first + at: first + (at + 1) % 5 for at in range(5)})
    return first


def delete(owner: Any, size: int, chance: random.Random) -> int:
    at = chance.randint(1, size)
    owner.execute("delete from events where notification_id = %s", (at,))
    return at


def delete_some(owner: Any, size: int, chance: random.Random) -> int:
    gone = chance.sample(range(1, size + 1), chance.randint(2, 30))
    owner.execute("delete from events where notification_id = any(%s)", (gone,))
    return min(gone)


def close_up(owner: Any, size: int, chance: random.Random) -> int:
    """Delete one and move all that follow, as somebody would who knows that positions have no holes."""
    at = delete(owner, size, chance)
    owner.execute("update events set notification_id = -notification_id where notification_id > %s", (at,))
    owner.execute("update events set notification_id = -notification_id - 1 where notification_id < 0")
    return at


def insert(owner: Any, size: int, chance: random.Random) -> int:
    """Put one in and move all that follow."""
    at = chance.randint(1, size)
    owner.execute("update events set notification_id = -notification_id where notification_id >= %s", (at,))
    owner.execute("update events set notification_id = -notification_id + 1 where notification_id < 0")
    owner.execute("insert into events values ('coupon-forged', 1, 'coupon.issued', '{}', %s)", (at,))
    return at


def insert_before_all(owner: Any, size: int, chance: random.Random) -> int:
    at = chance.choice([0, -1, -(2**40)])
    owner.execute("insert into events values ('coupon-forged', 1, 'coupon.issued', '{}', %s)", (at,))
    return at


def truncate_tail(owner: Any, size: int, chance: random.Random) -> int:
    at = chance.randint(1, size)
    owner.execute("delete from events where notification_id >= %s", (at,))
    return at


def replace_one(owner: Any, size: int, chance: random.Random) -> int:
    first, second = pair(chance, size)
    owner.execute(
        "update events e set state = o.state || '', topic = o.topic, originator_version = -7 from events o"
        " where e.notification_id = %s and o.notification_id = %s", (first, second),
    )  # fmt: skip
    return first


MUTATIONS: list[Callable[[Any, int, random.Random], int]] = [
    flip_state, lengthen_state, retell, swap_times, swap, rotate, delete, delete_some, close_up, insert,
    insert_before_all, truncate_tail, replace_one,
]  # fmt: skip


@pytest.mark.timeout(600)
def test_whatever_is_done_to_the_log_is_found_at_its_first_position(sealed: Sealed) -> None:
    owner, chance = sealed.owner, random.Random(11)
    for number in range(ROUNDS):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        with owner.transaction(force_rollback=True):
            state = chance.getstate()
            at = mutate(owner, sealed.size, chance)
            assert sealed.first() == at, (mutate.__name__, number, state[1][-1])
    assert sealed.first() is None


def test_honest_logs_are_never_suspected(database: Database, shop: Shop, tmp_path: Path) -> None:
    lives, chance = Lives(shop, seed=5), random.Random(5)
    for _ in range(40):
        lives.go_on(chance.randint(1, 60))
        seal(database, tmp_path)
        lives.go_on(chance.randint(0, 3))  # not sealed yet
        with database.connect() as connection:
            assert check(connection, tmp_path) == []


def test_each_change_is_told_once_and_the_first_comes_first(kept: Sealed) -> None:
    update(kept.owner, 300, "topic = 'x'")
    update(kept.owner, 20, "topic = 'x'")
    kept.owner.execute("delete from events where notification_id = 450")
    assert [found.position for found in check(kept.owner, kept.folder)] == [20, 300, 450]


def test_an_older_backup_that_was_put_back_is_found(kept: Sealed) -> None:
    owner = kept.owner
    owner.execute("create table backup as select * from events where notification_id <= 350")
    owner.execute("delete from events")
    owner.execute("insert into events select * from backup")
    assert kept.first() == 351


def test_a_backup_with_its_own_checkpoints_is_found_by_the_folder(kept: Sealed, shared_database: Database) -> None:
    owner = kept.owner
    owner.execute("delete from events where notification_id > 300")
    owner.execute("delete from checkpoints where size > 300")
    [found] = check(owner, kept.folder)
    assert found.position is None
    assert f"checkpoint over {kept.size} events" in found.what


@pytest.mark.parametrize("level", [0, 1])
def test_a_tile_that_was_changed_is_named_and_the_log_is_not_suspected(kept: Sealed, level: int) -> None:
    path = tile_path(0, 1) if level == 0 else tile_path(1, 0, 2)
    data = bytearray((kept.folder / path).read_bytes())
    data[40] ^= 1
    (kept.folder / path).write_bytes(data)
    first = 258 if level == 0 else 257
    assert check(kept.owner, kept.folder) == [Finding(first, f"{path} was changed at hash 1")]


@pytest.mark.parametrize(
    ("change", "word"),
    [(lambda data: data[:-1], "was changed"), (lambda data: data + b"x", "was changed"), (None, "is missing")],
    ids=["short", "long", "gone"],
)
def test_every_file_of_the_seal_is_looked_at(kept: Sealed, change: Callable[[bytes], bytes] | None, word: str) -> None:
    needed = [path for path in kept.folder.rglob("*") if path.is_file() and is_needed(path, kept)]
    assert len(needed) == 7
    for path in needed:
        data = path.read_bytes()
        path.unlink()
        if change:
            path.write_bytes(change(data))
        name = str(path.relative_to(kept.folder))
        found = check(kept.owner, kept.folder)
        assert any(name in each.what and word in each.what for each in found), (name, found)
        assert not any("not the one that was sealed" in each.what for each in found)
        path.write_bytes(data)
    assert kept.first() is None


def is_needed(path: Path, sealed: Sealed) -> bool:
    """Whether the newest checkpoint needs it: full files, and partial ones of its own width."""
    if "tile" not in path.parts:
        return False
    edge = (str(sealed.size % 256), str(sealed.size // 256))
    return not path.parent.name.endswith(".p") or path.name == edge[path.parts[-3] == "1"]


def test_an_entry_bundle_that_was_changed_is_named(kept: Sealed) -> None:
    path = kept.folder / "tile/entries/000"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert check(kept.owner, kept.folder) == [Finding(1, "tile/entries/000 was changed at entry 0")]


def test_an_event_and_its_tile_changed_together_are_found(kept: Sealed) -> None:
    update(kept.owner, 300, "topic = 'coupon.void'")
    path = kept.folder / tile_path(0, 1)
    data = bytearray(path.read_bytes())
    [row] = rows(kept.owner, 299, 1)
    data[32 * 43 : 32 * 44] = leaf_hash(row.entry())
    path.write_bytes(data)
    sizes = [size for (size,) in kept.owner.execute("select size from checkpoints order by 1")]
    before = max(size for size in sizes if size < 300)
    found = check(kept.owner, kept.folder)
    assert [each.position for each in found] == [before + 1]
    assert f"positions {before + 1} to" in found[0].what


@pytest.mark.parametrize(
    "change",
    [
        "update checkpoints set root = sha256('x') where size = (select max(size) from checkpoints)",
        "update checkpoints set root = sha256('x') where size = (select min(size) from checkpoints)",
        "update checkpoints set note = 'none' where size = (select min(size) from checkpoints)",
        "update checkpoints set note = replace(note, 'coupons', 'others')",
        "update checkpoints set note = (select min(note) from checkpoints) where size > 500",
        "delete from checkpoints where size = (select max(size) from checkpoints)",
        "delete from checkpoints",
        "update checkpoints set vkey = 'shop.example/coupons+00000000+AAAA'",
    ],
)
def test_checkpoints_that_were_changed_are_found(kept: Sealed, change: Any) -> None:
    kept.owner.execute(change)
    assert check(kept.owner, kept.folder)


def test_a_checkpoint_of_the_folder_that_was_changed_is_found(kept: Sealed) -> None:
    path = kept.folder / "checkpoint"
    note = path.read_text("utf-8")
    for changed in (note.replace("coupons", "others"), "", note[:-10], "\udcff", note.replace(str(kept.size), "1")):
        path.write_bytes(changed.encode("utf-8", "surrogateescape"))
        assert check(kept.owner, kept.folder), changed


def test_what_was_never_sealed_is_not_wrong(database: Database, tmp_path: Path) -> None:
    with database.connect() as connection, pytest.raises(NotSealed):
        check(connection, tmp_path)


def test_a_snapshot_is_checked_while_the_seal_goes_on(database: Database, shop: Shop, tmp_path: Path) -> None:
    lives = Lives(shop, seed=9)
    lives.go_on(50)
    seal(database, tmp_path)
    with database.connect() as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select from events limit 1")
        lives.go_on(50)
        seal(database, tmp_path)
        seen: list[tuple[int, int]] = []
        assert check(connection, tmp_path, lambda done, total: seen.append((done, total))) == []
        assert seen[-1][0] == seen[-1][1] < lives.store.head()
