"""What probes and metrics tell of the seal."""

from __future__ import annotations

import pytest

from ledger.database import Database
from projections.seal.anchoring import note_places, put_newest
from projections.seal.anchors import FileAnchor
from projections.seal.errors import SealBroken
from projections.seal.folder import SealFolder
from projections.seal.sealer import SEALER_ROLE
from tests.postgres.seals import seal, superuser


def figures(client):
    lines = client.get("/metrics").response.text.splitlines()
    return {name: float(value) for line in lines if "seal" in line and line[0] != "#"
            for name, value in [line.rsplit(" ", 1)]}  # fmt: skip


def test_before_anything_was_sealed(nobody, shop):
    shop.coupon()
    told = figures(nobody)
    assert told["coupon_ledger_seal_position"] == 0
    assert told["coupon_ledger_seal_lag_events"] == shop.ledger.store.head()
    assert told["coupon_ledger_seal_lag_seconds"] > 0
    assert told["coupon_ledger_seal_stopped"] == 0
    probe = nobody.get("/readyz").ok()["checks"]["seal"]
    assert (probe["ok"], probe["state"], probe["size"]) == (True, "NONE", 0)


def test_while_it_runs(nobody, shop, database, seal_folder):
    shop.coupon()
    signed = seal(database, seal_folder)
    told = figures(nobody)
    assert (told["coupon_ledger_seal_position"], told["coupon_ledger_seal_lag_events"]) == (signed.size, 0)
    assert told["coupon_ledger_seal_lag_seconds"] == 0
    probe = nobody.get("/readyz").ok()["checks"]["seal"]
    assert probe == {"ok": True, "state": "RUNNING", "size": signed.size, "unsealed_seconds": 0}


def test_a_seal_that_stopped_is_told_and_the_service_stays_ready(nobody, shop, database, seal_folder):
    shop.coupon()
    seal(database, seal_folder)
    with superuser(database) as owner:
        owner.execute("update checkpoints set root = sha256('x')")
    with pytest.raises(SealBroken):
        seal(database, seal_folder)
    assert figures(nobody)["coupon_ledger_seal_stopped"] == 1
    answer = nobody.get("/readyz").ok()
    assert (answer["status"], answer["checks"]["seal"]["state"]) == ("ok", "STOPPED")
    assert "checkpoint" not in str(answer["checks"]["seal"])  # probes are public


def test_places_that_lack_checkpoints_are_told_with_their_age(nobody, shop, database, seal_folder, tmp_path):
    shop.coupon()
    seal(database, seal_folder)
    good, bad = FileAnchor(tmp_path / "good"), FileAnchor(tmp_path / "nowhere" / "bad")
    with Database(database.url, database.schema, SEALER_ROLE).connect() as connection:
        note_places(connection, [good, bad])
        assert put_newest(connection, SealFolder(seal_folder), good)
        assert not put_newest(connection, SealFolder(seal_folder), bad)
    told = figures(nobody)
    assert told[f'coupon_ledger_seal_unanchored_seconds{{place="{good.place}"}}'] == 0
    assert told[f'coupon_ledger_seal_unanchored_seconds{{place="{bad.place}"}}'] > 0
