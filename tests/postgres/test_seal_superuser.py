"""A superuser of the database who has not the key: whatever they do, the sealer does not sign another history."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from coupon_ledger_audit.note import Checkpoint, NoteError, SigningKey, open_checkpoint, sign
from coupon_ledger_audit.tiles import WIDTH
from coupon_ledger_audit.tree import leaf_hash
from ledger.database import Database
from projections.seal import checkpoints, leaves, rereading
from projections.seal.errors import SealBroken
from projections.seal.sealer import Sealer
from projections.seal.tree import GrowingTree
from tests.conftest import Shop
from tests.postgres.lives import Lives
from tests.postgres.seals import KEY, ORIGIN, leading, seal, sealer_of, superuser

OWN = SigningKey.generate(ORIGIN)
"""A key that the superuser made, under the log's name."""
LOCK = "'checkpoints'::regclass::oid::int, 1"


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Running:
    """A sealer's process."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.fault: BaseException | None = None
        self.stop = threading.Event()
        self._sealer = sealer_of(database, folder)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._sealer.run(self.stop)
        except SealBroken as fault:
            self.fault = fault

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        self.stop.set()
        self._thread.join(20)
        assert self.ended()


@dataclass
class Ledger:
    """A ledger that is sealed by a process."""

    database: Database
    lives: Lives
    folder: Path
    sealer: Running

    def grow(self, events: int) -> int:
        head = self.lives.store.head()
        while self.lives.store.head() < head + events:
            self.lives.go_on(max(1, events // 4))
        return self.lives.store.head()

    def signed(self) -> list[checkpoints.Signed]:
        with self.database.connect() as connection:
            return list(checkpoints.all_until(connection, 10**9))

    def signed_with_the_key(self) -> list[int]:
        """The sizes of what the log's own key signed, whatever else the columns say."""
        found = []
        for each in self.signed():
            try:
                found.append(open_checkpoint(each.note, KEY.verifier(), ORIGIN).size)
            except NoteError:
                continue
        return found


@pytest.fixture
def ledger_(database: Database, shop: Shop, tmp_path: Path) -> Iterator[Ledger]:
    lives, folder = Lives(shop, seed=5), tmp_path / "seal"
    lives.go_on(50)
    running = Running(database, folder)
    ledger = Ledger(database, lives, folder, running)
    try:
        head = ledger.grow(100)
        until(lambda: [each for each in ledger.signed() if each.size == head])
        yield ledger
    finally:
        running.end()


@contextmanager
def keeping_it_out(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who threw the sealer out and holds its lock; in the end it comes back by itself."""
    with superuser(database) as owner:
        holder = (
            "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory'"
            " and classid = 'checkpoints'::regclass::oid and granted and pid <> pg_backend_pid()"
        )

        def alone() -> bool:
            owner.execute(holder)
            row = owner.execute(f"select pg_try_advisory_lock({LOCK})").fetchone()
            return row is not None and bool(row[0])

        until(alone)
        yield owner


def root_of(connection: psycopg.Connection[Any], size: int) -> bytes:
    tree = GrowingTree()
    for row in leaves.whole(connection, size):
        tree.add_leaf(leaf_hash(row.entry()))
    return tree.root()


def edit(owner: psycopg.Connection[Any], position: int) -> None:
    owner.execute(
        "update events set recorded_at = recorded_at + interval '1 us' where notification_id = %s", (position,)
    )


def forge(owner: psycopg.Connection[Any], size: int) -> None:
    """A checkpoint of the superuser's own over the log as it is now."""
    checkpoint = Checkpoint(ORIGIN, size, root_of(owner, size))
    checkpoints.store(owner, checkpoint, sign(checkpoint, OWN), str(OWN.verifier()))


def with_a_checkpoint_of_ones_own(owner: psycopg.Connection[Any], size: int, head: int) -> None:
    owner.execute("update checkpoints set root = %s where size = %s", (root_of(owner, size), size))
    forge(owner, head)


def with_another_root_beside_the_note(owner: psycopg.Connection[Any], size: int, head: int) -> None:
    owner.execute("update checkpoints set root = %s where size = %s", (root_of(owner, size), size))


def with_the_columns_of_another_key(owner: psycopg.Connection[Any], size: int, head: int) -> None:
    owner.execute("delete from checkpoints")
    forge(owner, size)


def with_no_checkpoint_at_all(owner: psycopg.Connection[Any], size: int, head: int) -> None:
    owner.execute("delete from checkpoints")


def with_an_older_checkpoint(owner: psycopg.Connection[Any], size: int, head: int) -> None:
    owner.execute("delete from checkpoints where size > (select min(size) from checkpoints)")


WAYS: list[Callable[[psycopg.Connection[Any], int, int], None]] = [
    with_a_checkpoint_of_ones_own,
    with_another_root_beside_the_note,
    with_the_columns_of_another_key,
    with_no_checkpoint_at_all,
    with_an_older_checkpoint,
]


@pytest.mark.parametrize("folder_too", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_sealer_that_is_made_to_begin_again_signs_no_other_history(
    way: Callable[[psycopg.Connection[Any], int, int], None], folder_too: bool, ledger_: Ledger
) -> None:
    before = ledger_.signed_with_the_key()
    size = max(before)
    with keeping_it_out(ledger_.database) as owner:
        head = ledger_.grow(WIDTH)  # so that the last tile of before is a full one now
        edit(owner, size - 3)
        way(owner, size, head)
        if folder_too:
            shutil.rmtree(ledger_.folder)
    until(lambda: ledger_.sealer.ended() or max(ledger_.signed_with_the_key(), default=0) > size)
    assert isinstance(ledger_.sealer.fault, SealBroken)
    assert set(ledger_.signed_with_the_key()) <= set(before)


def test_it_comes_back_where_nothing_was_changed(ledger_: Ledger) -> None:
    with keeping_it_out(ledger_.database):
        head = ledger_.grow(WIDTH)
    until(lambda: ledger_.sealer.ended() or max(ledger_.signed_with_the_key()) == head)
    assert ledger_.sealer.fault is None


def test_a_lost_folder_and_another_history_are_not_begun_anew(database: Database, shop: Shop, tmp_path: Path) -> None:
    """Nothing is left of the seal but what lies beside the key."""
    lives, folder = Lives(shop, seed=6), tmp_path / "seal"
    lives.go_on(300)
    signed = seal(database, folder)
    assert signed is not None
    shutil.rmtree(folder)
    with superuser(database) as owner:
        owner.execute("delete from checkpoints")
        edit(owner, 7)
    with pytest.raises(SealBroken, match=f"over {signed.size} events"):
        seal(database, folder)


def test_what_the_database_kept_otherwise_is_not_gone_on_from(database: Database, shop: Shop, tmp_path: Path) -> None:
    """A trigger of the superuser's writes another root than the sealer gave."""
    Lives(shop, seed=6).go_on(30)
    with superuser(database) as owner:
        owner.execute("create function other() returns trigger language plpgsql as"
                      " $$ begin new.root = sha256('other'); return new; end $$")  # fmt: skip
        owner.execute("create trigger other before insert on checkpoints for each row execute function other()")
    with pytest.raises(SealBroken, match="did not keep"):
        seal(database, tmp_path / "seal")


def test_an_event_of_long_ago_that_is_changed_is_met_by_itself(ledger_: Ledger) -> None:
    with superuser(ledger_.database) as owner:
        edit(owner, 5)
    until(ledger_.sealer.ended)
    assert "position 5" in str(ledger_.sealer.fault)


def reread_all(sealer: Sealer, connection: psycopg.Connection[Any], size: int) -> None:
    for _ in range(2 + size // rereading.PART_EVENTS):
        sealer.reread(connection)


def test_a_seal_that_grows_is_reread_again_and_again(database: Database, shop: Shop, tmp_path: Path) -> None:
    lives, chance = Lives(shop, seed=8), random.Random(8)
    with leading(sealer_of(database, tmp_path / "seal")) as (sealer, connection):
        for _ in range(40):
            lives.go_on(chance.randint(1, 60))
            while sealer.step(connection):
                pass
            sealer.sign(connection)
            for _ in range(chance.randint(0, 3)):
                sealer.reread(connection)
        with superuser(database) as owner:
            edit(owner, WIDTH + 1)
        with pytest.raises(SealBroken, match=f"position {WIDTH + 1} "):
            reread_all(sealer, connection, lives.store.head())


def test_an_event_of_long_ago_that_is_gone_is_met_by_itself(ledger_: Ledger) -> None:
    with superuser(ledger_.database) as owner:
        owner.execute("delete from events where notification_id = 17")
    until(ledger_.sealer.ended)
    assert "position 17" in str(ledger_.sealer.fault)
