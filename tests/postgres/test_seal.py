"""The sealer: what it signs, what it refuses to sign, and how it goes on wherever it was stopped."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from coupon_ledger_audit.entry import parse
from coupon_ledger_audit.note import SigningKey, VerifierKey, open_checkpoint
from coupon_ledger_audit.tiles import TileFolder, entries_path, tile_path
from coupon_ledger_audit.tree import Frontier, consistency_proof, leaf_hash, verify_consistency
from ledger.application import Ledger
from ledger.database import APP_ROLE, PROJECTOR_ROLE, Database
from projections.seal import checkpoints, leaves
from projections.seal.check import check
from projections.seal.errors import SealBroken
from projections.seal.folder import SealFolder
from projections.seal.sealer import SEALER_ROLE
from projections.seal.standing import standing
from tests.conftest import Shop
from tests.postgres.lives import Lives
from tests.postgres.seals import KEY, ORIGIN, last_of, leading, seal, sealer_of, superuser

FILES = SealFolder.write
"""As it is, for tests that put something in its place."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "seal"


@pytest.fixture
def lives(shop: Any) -> Lives:
    return Lives(shop, seed=7)


def grow(lives: Lives, events: int) -> None:
    """Let at least so many events happen."""
    head = lives.store.head()
    while lives.store.head() < head + events:
        lives.go_on(max(1, events // 4))


def stored(database: Database) -> list[checkpoints.Signed]:
    with database.connect() as connection:
        return list(checkpoints.all_until(connection, 10**9))


def findings(database: Database, folder: Path) -> list[Any]:
    with database.connect() as connection:
        return check(connection, folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_covers_the_stored_bytes_of_every_event(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 600)
    signed = seal(database, folder)
    assert signed is not None
    assert signed.size == lives.store.head()
    opened = open_checkpoint(signed.note, KEY.verifier(), ORIGIN)
    frontier = Frontier()
    with database.connect() as connection:
        rows = list(leaves.whole(connection, signed.size))
    for row in rows:
        frontier.append(leaf_hash(row.entry()))
    assert (opened.size, opened.root) == (signed.size, frontier.root())
    assert (folder / "checkpoint").read_text("utf-8") == signed.note
    entries = [entry for index in range(3) for entry in TileFolder(folder, signed.size).entries(index)]
    assert entries[:600] == [row.entry() for row in rows][:600]
    for number, entry in enumerate(entries[:600], 1):
        assert parse(entry).position == number
    recorded = {each.position: each for each in lives.store.history(rows[-1].stream)}[rows[-1].position]
    assert rows[-1].recorded_at_us == round(recorded.recorded_at.timestamp() * 1_000_000)


def test_each_checkpoint_extends_the_one_before_it(database: Database, lives: Lives, folder: Path) -> None:
    for events in (1, 300, 5, 700, 2):
        grow(lives, events)
        seal(database, folder)
    known = stored(database)
    assert len(known) == 5
    newest = known[-1]
    node = TileFolder(folder, newest.size).node
    for old in known:
        proof = consistency_proof(node, old.size, newest.size)
        verify_consistency(old.size, old.root, newest.size, newest.root, proof)
    assert findings(database, folder) == []


def test_nothing_new_is_not_signed_again(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 10)
    assert seal(database, folder)
    assert seal(database, folder) is None
    assert len(stored(database)) == 1


def test_an_empty_log_has_no_checkpoint(database: Database, folder: Path) -> None:
    assert seal(database, folder) is None
    with database.connect() as connection:
        assert standing(connection).state == "RUNNING"


def test_partial_tiles_go_when_the_full_one_comes_and_older_checkpoints_are_still_proven(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 20)
    first = seal(database, folder)
    assert first is not None
    assert (folder / tile_path(0, 0, first.size)).exists()
    grow(lives, 300)
    newest = seal(database, folder)
    assert newest is not None
    assert not (folder / tile_path(0, 0, first.size)).exists()
    assert not (folder / entries_path(0, first.size)).exists()
    assert TileFolder(folder, first.size).tile(0, 0) == (folder / tile_path(0, 0)).read_bytes()[: 32 * first.size]


def test_only_the_sealer_adds_and_nobody_changes_what_was_signed(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 10)
    seal(database, folder)
    before = stored(database)
    add = "insert into checkpoints (size, root, note, vkey) select size + 1, root, note, vkey from checkpoints"
    writes = [
        "update checkpoints set note = ''",
        "delete from checkpoints",
        "truncate checkpoints cascade",
        "update seal_keys set vkey = 'mine'",
        "update cosignatures set lines = ''",
        "delete from cosignatures",
    ]
    for role in (APP_ROLE, PROJECTOR_ROLE, SEALER_ROLE, ""):
        with Database(database.url, database.schema, role).connect() as connection:
            for statement in [add] * (role in (APP_ROLE, PROJECTOR_ROLE)) + writes:
                if role or "cosignatures" not in statement:  # of no rows there is nothing to refuse
                    with pytest.raises(pg.InsufficientPrivilege):
                        connection.execute(statement)
    with Database(database.url, database.schema, SEALER_ROLE).connect() as connection:
        with pytest.raises(pg.IntegrityConstraintViolation):
            connection.execute(add.replace("+ 1", "- 1"))
        for statement in ("delete from events", "insert into events values ('a', 1, 't', '', 99)"):
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(statement)
    assert stored(database) == before


def test_one_sealer_works_and_another_takes_over(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 10)
    first, second = sealer_of(database, folder), sealer_of(database, folder)
    with leading(first) as (_, connection), second.database.connect() as waiting:
        assert not second.lead(waiting)
        first.step(connection)
        first.sign(connection)
    with leading(second) as (_, connection):
        grow(lives, 10)
        second.step(connection)
        assert second.sign(connection)
    assert [each.size for each in stored(database)] == sorted(each.size for each in stored(database))
    assert findings(database, folder) == []


def test_a_sealer_that_was_frozen_while_another_took_over_signs_nothing(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 10)
    frozen = sealer_of(database, folder)
    with frozen.database.connect() as connection:
        assert frozen.lead(connection)
        frozen.step(connection)
        with psycopg.connect(database.url, autocommit=True) as killer:
            killer.execute("select pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        grow(lives, 10)
        newer = seal(database, folder)
        with pytest.raises(psycopg.OperationalError):
            frozen.sign(connection)
    assert newer is not None
    assert [each.size for each in stored(database)] == [newer.size]
    assert (folder / "checkpoint").read_text("utf-8") == newer.note
    assert findings(database, folder) == []


class Killed(BaseException):
    """The process is no more."""


STEPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def step(name: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    def keep(kill: Callable[[pytest.MonkeyPatch], None]) -> None:
        STEPS[name] = kill

    return keep


def dies(*_: Any) -> Any:
    raise Killed


@step("before tiles are brought to disk")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("projections.seal.folder._to_disk", dies)


@step("half way through writing a tile")
def _(patch: pytest.MonkeyPatch) -> None:
    def half(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise Killed

    patch.setattr("projections.seal.folder._to_disk", half)


@step("when some tiles are there and others not")
def _(patch: pytest.MonkeyPatch) -> None:
    def some(self: SealFolder, files: Any) -> None:
        FILES(self, list(files)[:2])
        raise Killed

    patch.setattr(SealFolder, "write", some)


@step("before partial tiles are cleared away")
def _(patch: pytest.MonkeyPatch) -> None:
    real = shutil.rmtree

    def rmtree(path: Path, **options: Any) -> None:
        if str(path).endswith(".p"):
            raise Killed
        real(path, **options)

    patch.setattr("projections.seal.folder.shutil.rmtree", rmtree)


@step("before signing")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("projections.seal.signer.sign", dies)


@step("before what was signed is beside the key")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("projections.seal.signer.write_whole", dies)


@step("before the checkpoint is stored")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("projections.seal.checkpoints.store", dies)


@step("before the checkpoint is in the folder")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SealFolder, "write_checkpoint", dies)


@pytest.mark.parametrize("where", STEPS)
def test_killed_anywhere_it_goes_on_and_rewrites_nothing(
    where: str, database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 100)
    seal(database, folder)
    grow(lives, 500)
    with pytest.MonkeyPatch.context() as patch:
        STEPS[where](patch)
        with pytest.raises(Killed):
            seal(database, folder)
    written = {path: data for path, data in files(folder).items() if path.startswith("tile/") and ".p/" not in path}
    grow(lives, 1)
    signed = seal(database, folder)
    assert signed is not None
    assert signed.size == lives.store.head()
    assert written.items() <= files(folder).items()
    assert findings(database, folder) == []


def test_it_stops_where_the_log_lost_its_tail(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 50)
    with leading(sealer_of(database, folder)) as (sealer, connection):
        sealer.step(connection)
        signed = sealer.sign(connection)
        assert signed is not None
        with superuser(database) as owner:
            owner.execute("delete from events where notification_id >= %s", (signed.size,))
        with pytest.raises(SealBroken, match=f"position {signed.size}"):
            sealer.step(connection)
    stop = threading.Event()
    with pytest.raises(SealBroken, match=f"position {signed.size}"):
        sealer_of(database, folder).run(stop)
    with database.connect() as connection:
        told = standing(connection)
    assert told.state == "STOPPED"
    assert str(signed.size) in (told.fault or "")


def test_it_stops_where_the_last_event_is_another_one(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 50)
    signed = seal(database, folder)
    assert signed is not None
    with superuser(database) as owner:
        owner.execute("update events set recorded_at = recorded_at + interval '1 us' where notification_id = %s",
                      (signed.size,))  # fmt: skip
    with leading(sealer_of(database, folder)) as (sealer, connection), pytest.raises(SealBroken):
        sealer.step(connection)


def test_it_stops_at_a_hole(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 50)
    with superuser(database) as owner:
        owner.execute("delete from events where notification_id = 20")
    with pytest.raises(SealBroken, match="position 20 is missing"):
        seal(database, folder)


def test_it_stops_where_the_database_is_older_than_what_was_signed(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 50)
    first = seal(database, folder)
    grow(lives, 50)
    second = seal(database, folder)
    assert first is not None
    assert second is not None
    with superuser(database) as owner:  # as a backup of before has it
        owner.execute("delete from events where notification_id > %s", (first.size,))
        owner.execute("delete from checkpoints where size > %s", (first.size,))
    grow(lives_again(lives), 70)
    with pytest.raises(SealBroken, match=f"checkpoint over {second.size} events, and the database does not"):
        seal(database, folder)


def lives_again(lives: Lives) -> Lives:
    """Others, for those of before are not in the log any more."""

    class Again(Shop):
        def request(self, request_id: str | None = None, **options: Any) -> Any:
            return super().request(request_id or f"again-{next(self._numbers)}", **options)

    return Lives(Again(Ledger(lives.store)), seed=8)


def test_it_stops_where_the_stored_checkpoint_was_edited(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 50)
    seal(database, folder)
    with superuser(database) as owner:
        owner.execute("update checkpoints set root = sha256('other')")
    with pytest.raises(SealBroken, match="another one"):
        seal(database, folder)


def test_it_stops_where_a_tile_of_its_edge_was_changed(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 50)
    signed = seal(database, folder)
    assert signed is not None
    path = folder / tile_path(0, 0, signed.size)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(SealBroken, match="is not what the log says now"):
        seal(database, folder)


def test_it_does_not_sign_what_the_disk_did_not_keep(
    database: Database, lives: Lives, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(lives, 300)
    seal(database, folder)
    grow(lives, 300)
    before = stored(database)

    def write(self: SealFolder, files: Any) -> None:
        FILES(self, [(path, bytes(32) + data[32:] if path == tile_path(0, 1) else data) for path, data in files])

    monkeypatch.setattr(SealFolder, "write", write)
    with pytest.raises(SealBroken, match="do not extend"):
        seal(database, folder)
    assert stored(database) == before


def test_a_lost_folder_is_made_again_from_a_log_that_is_what_was_signed(
    database: Database, lives: Lives, folder: Path
) -> None:
    for events in (100, 300, 200):
        grow(lives, events)
        seal(database, folder)
    before = files(folder)
    shutil.rmtree(folder)
    seal(database, folder)
    assert files(folder).items() <= before.items()
    grow(lives, 10)
    assert seal(database, folder)
    assert findings(database, folder) == []


def test_a_lost_folder_is_not_made_again_from_another_log(database: Database, lives: Lives, folder: Path) -> None:
    for events in (100, 300, 200):
        grow(lives, events)
        seal(database, folder)
    first, second, _ = stored(database)
    shutil.rmtree(folder)
    with superuser(database) as owner:
        owner.execute("update events set topic = 'coupon.voided' where notification_id = %s", (first.size + 9,))
    with pytest.raises(SealBroken, match=f"positions {first.size + 1} to {second.size} are not those"):
        seal(database, folder)
    assert not [path for path in files(folder) if path == tile_path(0, 1)]


def test_a_clock_that_goes_back_changes_nothing(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 20)
    with superuser(database) as owner:
        owner.execute("update events set recorded_at = recorded_at - interval '40 years' where notification_id = 15")
    assert seal(database, folder)
    with superuser(database) as owner:
        owner.execute("update checkpoints set signed_at = signed_at + interval '1 year'")
    grow(lives, 20)
    assert seal(database, folder)
    assert findings(database, folder) == []


def test_a_new_key_goes_on_where_the_old_one_ended(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 20)
    old = seal(database, folder)
    grow(lives, 20)
    other = SigningKey.generate(ORIGIN)
    with pytest.raises(SealBroken, match="none of ours"):  # nobody said that there was another key before
        seal(database, folder, other)
    new = seal(database, folder, other, [KEY])
    assert old is not None
    assert new is not None
    assert (VerifierKey.parse(old.vkey), VerifierKey.parse(new.vkey)) == (KEY.verifier(), other.verifier())
    assert open_checkpoint(new.note, other.verifier(), ORIGIN).size == new.size
    assert findings(database, folder) == []
    shutil.rmtree(folder)  # made again, with the checkpoints of both keys
    assert seal(database, folder, other, [KEY]) is None
    with pytest.raises(SealBroken, match="of the log"):
        seal(database, folder, SigningKey.generate("elsewhere.example/coupons"), [KEY, other])


def test_a_new_key_signs_the_newest_checkpoint_again(database: Database, lives: Lives, folder: Path) -> None:
    """An auditor who has the new key alone finds its signature though nothing happened since."""
    grow(lives, 20)
    old = seal(database, folder)
    assert old is not None
    before = stored(database)
    other = SigningKey.generate(ORIGIN)
    for _ in range(2):
        assert seal(database, folder, other, [KEY]) is None
        with database.connect() as connection:
            note = checkpoints.cosigned(connection, old)
        assert note.startswith(old.note)
        assert note.count("\n— ") == 2
        for key in (KEY, other):
            opened = open_checkpoint(note, key.verifier(), ORIGIN)
            assert (opened.size, opened.root) == (old.size, old.root)
        assert open_checkpoint(last_of(folder).read_bytes(), other.verifier(), ORIGIN).size == old.size
    assert stored(database) == before
    assert findings(database, folder) == []
    grow(lives, 20)
    new = seal(database, folder, other, [KEY])
    assert new is not None
    assert findings(database, folder) == []


def test_a_new_key_signs_nothing_again_that_is_not_what_was_signed(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 20)
    first = seal(database, folder)
    grow(lives, 20)
    newest = seal(database, folder)
    assert first is not None
    assert newest is not None
    shutil.rmtree(folder)
    with superuser(database) as owner:  # the newest is beside the key alone, and the log is another one
        owner.execute("delete from checkpoints where size > %s", (first.size,))
        owner.execute("update events set topic = 'coupon.voided' where notification_id = %s", (newest.size,))
    with pytest.raises(SealBroken):
        seal(database, folder, SigningKey.generate(ORIGIN), [KEY])
    with database.connect() as connection:
        assert checkpoints.cosigned(connection, first) == first.note
    assert last_of(folder).read_text("utf-8") == newest.note


def test_a_machine_that_has_the_key_alone_goes_on(database: Database, lives: Lives, folder: Path) -> None:
    grow(lives, 20)
    seal(database, folder)
    last_of(folder).unlink()
    grow(lives, 20)
    assert seal(database, folder)
    assert findings(database, folder) == []


def test_a_note_beside_the_key_that_the_key_did_not_sign_is_not_gone_on_from(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 20)
    signed = seal(database, folder)
    assert signed is not None
    for note in (b"", b"\xff", signed.note.replace("\n", "\n1", 1).encode()):
        last_of(folder).write_bytes(note)
        with pytest.raises(SealBroken, match=r"seal\.last"):
            seal(database, folder)


def test_an_older_backup_is_begun_anew_as_the_documentation_says(
    database: Database, lives: Lives, folder: Path
) -> None:
    grow(lives, 20)
    seal(database, folder)
    with superuser(database) as owner:
        owner.execute("delete from events where notification_id > 10")
        owner.execute("truncate checkpoints, cosignatures, seal_keys, seal_anchors")
    folder, other = folder.with_name("anew"), SigningKey.generate("shop.example/coupons-2")
    assert seal(database, folder, other)
    assert findings(database, folder) == []


def test_a_full_disk_is_waited_for(
    database: Database, lives: Lives, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    asked = threading.Event()

    def write(self: SealFolder, files: Any) -> None:
        if full.is_set():
            asked.set()
            raise OSError(28, os.strerror(28))
        FILES(self, files)

    monkeypatch.setattr(SealFolder, "write", write)
    grow(lives, 20)
    stop = threading.Event()
    thread = threading.Thread(target=sealer_of(database, folder).run, args=(stop,))
    thread.start()
    try:
        assert asked.wait(20)
        assert stored(database) == []
        full.clear()
        until(lambda: bool(stored(database)))
    finally:
        stop.set()
        thread.join(10)
    assert findings(database, folder) == []


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
