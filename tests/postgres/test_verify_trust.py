"""What verify finds with an auditor's own keys and checkpoints, where the database agrees with itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from coupon_ledger_audit.note import WITNESS, Checkpoint, SigningKey, cosign, open_checkpoint
from coupon_ledger_audit.tree import Frontier, leaf_hash
from ledger.database import Database
from projections.seal import checkpoints, leaves
from projections.seal.check import Finding
from projections.seal.checkpoints import Signed
from projections.seal.trust import Trust, check_trust
from projections.verify.report import GIVEN, OF_DATABASE, Outcome
from projections.verify.run import verify
from tests.conftest import Shop
from tests.postgres.lives import Lives
from tests.postgres.seals import KEY, ORIGIN, last_of, seal, superuser

FORGER = SigningKey.generate(ORIGIN)
NEW = SigningKey.generate(ORIGIN)
EDIT = "update events set recorded_at = recorded_at + interval '1 us' where notification_id = "


@dataclass
class Audited:
    """A ledger that was sealed three times, and what auditors kept of it."""

    database: Database
    lives: Lives
    folder: Path
    signed: list[Signed]

    def kept(self, *which: int) -> list[Checkpoint]:
        return [open_checkpoint(self.signed[each].note, KEY.verifier(), ORIGIN) for each in which]

    def asked(self, *keys: SigningKey, last: list[Checkpoint] | None = None) -> Outcome:
        """The answer about the seal, with these keys or, for none, with those of the database."""
        trust = Trust([key.verifier() for key in keys], last or []) if keys else None
        report = verify(self.database, seal=self.folder, trust=trust, only=["I15"])
        assert report.seal_keys == (GIVEN if keys else OF_DATABASE)
        [seal] = report.checks
        return seal

    def trusted(self, last: list[Checkpoint] | None = None) -> list[Finding]:
        """What the key and the kept checkpoints alone find."""
        with self.database.connect() as connection:
            return list(check_trust(connection, Trust([KEY.verifier()], last or [])))

    def sealed_anew(self, change: Callable[[psycopg.Connection[Any]], Any], key: SigningKey, keep: int = 0) -> None:
        """The log is changed, and everything after ``keep`` sealed events is sealed again with a key."""
        with superuser(self.database) as owner:
            change(owner)
            owner.execute("delete from checkpoints where size > %s", (keep,))
            if not keep:
                owner.execute("delete from seal_keys")
        shutil.rmtree(self.folder)
        last_of(self.folder).unlink()
        seal(self.database, self.folder, key, earlier=[KEY])

    def grow(self) -> Signed:
        self.lives.go_on(60)
        signed = seal(self.database, self.folder)
        assert signed is not None
        return signed


@pytest.fixture
def audited(database: Database, shop: Shop, tmp_path: Path) -> Audited:
    found = Audited(database, Lives(shop, seed=4), tmp_path / "seal", [])
    found.signed = [found.grow() for _ in range(3)]
    return found


def wrong(seal: Outcome) -> str:
    """What was found, which is something."""
    assert not seal.ok
    return "\n".join(finding.found for finding in seal.findings)


def test_what_is_right_passes(audited: Audited) -> None:
    assert audited.asked().ok
    assert audited.asked(KEY).ok
    for which in ([0], [2], [1, 0], [2, 2]):
        assert audited.asked(KEY, last=audited.kept(*which)).ok
    audited.grow()
    audited.lives.go_on(5)
    assert audited.asked(KEY, last=audited.kept(0, 2)).ok
    nothing = Checkpoint(ORIGIN, 0, bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
    assert audited.asked(KEY, last=[nothing]).ok


def test_another_key_than_the_given_does_not_pass(audited: Audited) -> None:
    seal = audited.asked(FORGER)
    assert f"is not signed by {ORIGIN}+{FORGER.verifier().id.hex()}" in wrong(seal)
    assert seal.first_bad_position is None
    assert not audited.asked(SigningKey.generate("other.example/log")).ok


def test_a_history_that_a_forger_sealed_from_the_first_event_on(audited: Audited) -> None:
    kept = audited.kept(1)
    audited.sealed_anew(lambda owner: owner.execute(EDIT + "7"), FORGER)
    assert audited.asked().ok, "who believes the database's keys sees nothing"
    assert "is not signed by" in wrong(audited.asked(KEY))
    found = wrong(audited.asked(KEY, last=kept))
    assert f"the events of the positions 1 to {kept[0].size} are not those of the checkpoint that was kept" in found


def test_a_history_that_a_forger_sealed_from_some_checkpoint_on(audited: Audited) -> None:
    first, second, _ = audited.signed
    audited.sealed_anew(lambda owner: owner.execute(EDIT + str(second.size + 3)), FORGER, keep=second.size)
    assert audited.asked().ok
    seal = audited.asked(KEY)
    assert f"those that are signed so cover {second.size}" in wrong(seal)
    assert seal.first_bad_position == second.size + 1
    found = wrong(audited.asked(KEY, last=audited.kept(0, 2)))
    assert f"the events of the positions {first.size + 1} to {audited.signed[2].size} are not those" in found


def test_a_tail_that_was_cut_off(audited: Audited) -> None:
    """The older checkpoint is as good as ever, so only who kept a newer one can know."""
    kept, left = audited.kept(2), audited.signed[1].size
    with superuser(audited.database) as owner:
        owner.execute("delete from events where notification_id > %s", (left,))
        owner.execute("delete from checkpoints where size > %s", (left,))
    (audited.folder / "checkpoint").write_text(audited.signed[1].note, "utf-8")
    assert audited.asked().ok
    assert audited.asked(KEY).ok
    assert audited.asked(KEY, last=audited.kept(1)).ok
    seal = audited.asked(KEY, last=kept)
    assert "the log has no event there" in wrong(seal)
    assert seal.first_bad_position == left + 1


def test_who_has_the_key_cannot_cut_off_what_an_auditor_kept(audited: Audited) -> None:
    left = audited.signed[1].size
    audited.sealed_anew(lambda owner: owner.execute("delete from events where notification_id > %s", (left,)), KEY)
    assert audited.asked(KEY, last=audited.kept(0)).ok
    assert audited.asked(KEY, last=audited.kept(0, 2)).first_bad_position == left + 1


def test_who_has_the_key_cannot_change_what_an_auditor_kept(audited: Audited) -> None:
    first, second, third = audited.signed
    audited.sealed_anew(lambda owner: owner.execute(EDIT + str(second.size)), KEY)
    assert audited.asked(KEY, last=audited.kept(0)).ok
    seal = audited.asked(KEY, last=audited.kept(0, 2))
    assert f"the positions {first.size + 1} to {third.size} are not those of" in wrong(seal)
    assert seal.first_bad_position is None


def test_checkpoints_that_were_taken_away_from_a_log_that_is_right(audited: Audited) -> None:
    with superuser(audited.database) as owner:
        owner.execute("delete from checkpoints where size > %s", (audited.signed[1].size,))
    (audited.folder / "checkpoint").write_text(audited.signed[1].note, "utf-8")
    assert audited.asked(KEY).ok
    found = wrong(audited.asked(KEY, last=audited.kept(2)))
    assert found == (
        f"the checkpoints in the database cover {audited.signed[1].size} events,"
        f" and one that was kept {audited.signed[2].size}"
    )


def test_a_seal_that_is_not_there_at_all(audited: Audited) -> None:
    with superuser(audited.database) as owner:
        owner.execute("delete from checkpoints")
    shutil.rmtree(audited.folder)
    seal = audited.asked()
    assert seal.ok and seal.note == "not sealed"
    assert wrong(audited.asked(KEY)) == "the database has no checkpoint"
    with superuser(audited.database) as owner:
        owner.execute(EDIT + "3")
    assert "the positions 1 to" in wrong(audited.asked(KEY, last=audited.kept(2)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("update checkpoints set note = (select min(note) from checkpoints)", "is of another one"),
        ("update checkpoints set root = sha256('x')", "is of another one"),
        ("update checkpoints set vkey = 'other'", ""),
        ("update checkpoints set note = 'none'", "no signatures"),
    ],
)
def test_a_newest_checkpoint_that_is_not_what_the_key_signed(audited: Audited, change: str, word: str) -> None:
    with superuser(audited.database) as owner:
        owner.execute(f"{change} where size = (select max(size) from checkpoints)")  # type: ignore[arg-type]
    assert word in wrong(audited.asked(KEY))
    assert [word in finding.what for finding in audited.trusted()] == ([True] if word else [])


def test_the_name_of_the_key_on_a_row_that_another_signed(audited: Audited) -> None:
    audited.sealed_anew(lambda owner: owner.execute(EDIT + "7"), FORGER)
    with superuser(audited.database) as owner:
        owner.execute("insert into seal_keys (vkey, first_size) values (%s, 1)", (str(KEY.verifier()),))
        owner.execute("update checkpoints set vkey = %s", (str(KEY.verifier()),))
    seal = audited.asked(KEY)
    assert "is not signed by" in wrong(seal)
    assert seal.first_bad_position is None


def test_a_changed_key_is_given_beside_the_old_one_or_alone(audited: Audited) -> None:
    audited.lives.go_on(60)
    signed = seal(audited.database, audited.folder, NEW, earlier=[KEY])
    assert signed is not None
    assert audited.asked(KEY, NEW, last=audited.kept(0)).ok
    assert audited.asked(NEW).ok
    old = audited.asked(KEY)
    assert f"those that are signed so cover {audited.signed[2].size}" in wrong(old)
    assert old.first_bad_position == audited.signed[2].size + 1


def test_a_changed_key_that_signed_the_newest_again(audited: Audited) -> None:
    assert seal(audited.database, audited.folder, NEW, earlier=[KEY]) is None
    for keys in ([KEY], [NEW], [KEY, NEW]):
        assert audited.asked(*keys).ok


def test_lines_of_witnesses_are_no_matter(audited: Audited) -> None:
    newest = audited.signed[2]
    seen = cosign(newest.note, SigningKey.generate("witness.example", WITNESS), 1_700_000_000)
    with superuser(audited.database) as owner:
        lines = seen.removeprefix(newest.note)
        owner.execute("insert into cosignatures (size, place, lines) values (%s, 'w', %s)", (newest.size, lines))
        assert checkpoints.cosigned(owner, newest) == seen
        assert audited.asked(KEY).ok
        owner.execute("update cosignatures set lines = 'nonsense'")
    assert audited.asked(KEY).ok


@pytest.mark.parametrize("change", ["delete from events where notification_id = 40", EDIT + "40"])
def test_an_event_that_was_changed_is_named_as_ever(audited: Audited, change: str) -> None:
    with superuser(audited.database) as owner:
        owner.execute(change)  # type: ignore[arg-type]
    assert audited.asked(KEY, last=audited.kept(0, 2)).first_bad_position == 40
    assert [found.position for found in audited.trusted(audited.kept(0, 2))] == [40 if "delete" in change else None]


def test_an_event_that_no_seal_could_hold_is_named(audited: Audited) -> None:
    with superuser(audited.database) as owner:
        owner.execute("update events set originator_version = -1 where notification_id = 40")
    assert [found.position for found in audited.trusted(audited.kept(2))] == [40]


def test_the_one_event_between_two_that_were_kept_is_named(audited: Audited) -> None:
    tree, kept = Frontier(), []
    with audited.database.connect() as connection:
        for row in leaves.whole(connection, 50):
            tree.append(leaf_hash(row.entry()))
            kept.append(Checkpoint(ORIGIN, tree.size, tree.root()))
    audited.sealed_anew(lambda owner: owner.execute(EDIT + "50"), KEY)
    assert audited.asked(KEY).ok
    assert audited.asked(KEY, last=kept[-2:]).first_bad_position == 50


def test_keys_are_of_no_use_where_no_seal_is_looked_at(audited: Audited) -> None:
    trust = Trust([KEY.verifier()])
    with pytest.raises(ValueError):
        verify(audited.database, trust=trust)
    with pytest.raises(ValueError):
        verify(audited.database, seal=audited.folder, trust=trust, only=["I1"])
    assert verify(audited.database, seal=audited.folder, only=["stock"]).seal_keys is None
