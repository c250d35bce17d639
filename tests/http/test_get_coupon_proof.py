"""GET /v1/coupons/{id}/proof and its twin .zip."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import threading
import zipfile

import pytest

from api.app import create_app
from coupon_ledger_audit.entry import entry
from coupon_ledger_audit.note import open_checkpoint
from coupon_ledger_audit.tree import leaf_hash, verify_consistency, verify_inclusion
from ledger import use_cases
from projections.seal.bundles import streams_of
from tests.http.conftest import CODE_KEYS
from tests.postgres.seals import KEY, ORIGIN, seal, superuser

MEMBERS = {"position", "stream", "version", "topic", "recorded_at_us", "state", "entry", "index", "proof"}


def bytes_of(texts):
    return [base64.b64decode(text) for text in texts]


def test_each_event_is_proven_at_the_newest_checkpoint(auditor, shop, scene, database, seal_folder):
    coupon_id = scene.used()
    for _ in range(3):
        shop.coupon()
    seal(database, seal_folder)
    shown = auditor.get(f"/v1/coupons/{coupon_id}/proof").ok()
    assert shown.keys() == {"coupon_id", "checkpoint", "events", "consistency"}
    checkpoint = open_checkpoint(shown["checkpoint"]["note"], KEY.verifier(), ORIGIN)
    assert checkpoint.size == shop.ledger.store.head()
    assert [event["topic"] for event in shown["events"]] == ["coupon.issued", "coupon.locked", "coupon.used"]
    for recorded, event in zip(shop.ledger.store.history(f"coupon-{coupon_id}"), shown["events"], strict=True):
        assert event.keys() == MEMBERS
        assert (event["position"], event["index"]) == (recorded.position, recorded.position - 1)
        columns = [event[name] for name in ("position", "stream", "version", "topic", "recorded_at_us")]
        assert base64.b64decode(event["entry"]) == entry(*columns, event["state"].encode())
        leaf = leaf_hash(base64.b64decode(event["entry"]))
        verify_inclusion(leaf, event["index"], checkpoint.size, bytes_of(event["proof"]), checkpoint.root)


def test_proves_that_the_log_only_grew(auditor, scene, database, seal_folder):
    coupon_id = scene.sealed()
    old = auditor.get("/v1/audit/checkpoint").ok()
    for _ in range(5):
        scene.sealed()
    shown = auditor.get(f"/v1/coupons/{coupon_id}/proof", since=old["size"]).ok()
    assert shown["consistency"]["size"] == old["size"]
    verify_consistency(
        old["size"],
        base64.b64decode(old["root"]),
        shown["checkpoint"]["size"],
        base64.b64decode(shown["checkpoint"]["root"]),
        bytes_of(shown["consistency"]["proof"]),
    )


@pytest.mark.parametrize("since", ["0", "2", "9999", "x", "-1"])
def test_refuses_what_is_the_size_of_no_checkpoint(auditor, scene, since):
    path = f"/v1/coupons/{scene.sealed()}/proof"
    for twin in (path, f"{path}.zip"):
        answer = auditor.get(twin, since=since)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["since"]


def test_waits_for_the_seal(auditor, scene, shop, database, seal_folder):
    scene.sealed()
    coupon_id = shop.coupon()
    later = threading.Timer(0.3, seal, (database, seal_folder))
    later.start()
    shown = auditor.get(f"/v1/coupons/{coupon_id}/proof").ok()
    later.join()
    assert [event["topic"] for event in shown["events"]] == ["coupon.issued"]


def test_does_not_wait_for_ever(auditor, scene, shop):
    scene.sealed()
    answer = auditor.get(f"/v1/coupons/{shop.coupon()}/proof")
    assert answer.refused(503, "not_sealed_yet")["facts"].keys() == {"size"}
    assert answer.headers["Retry-After"] == "1"


def test_before_the_first_checkpoint(auditor, shop):
    coupon_id = shop.coupon()
    for path in ("proof", "proof.zip"):
        auditor.get(f"/v1/coupons/{coupon_id}/{path}").refused(503, "not_sealed_yet")


def test_an_unknown_one_is_not_found(auditor, scene):
    scene.sealed()
    for path in ("proof", "proof.zip"):
        auditor.get(f"/v1/coupons/nowhere/{path}").refused(404, "coupon_not_found")


def test_the_bundle_of_a_damaged_coupon_is_not_an_empty_one(auditor, scene, database, shop, tmp_path):
    coupon_id = scene.used()
    scene.sealed()
    with superuser(database) as owner:
        owner.execute(
            "delete from events where topic = 'coupon.issued' and originator_id = %s", (f"coupon-{coupon_id}",)
        )
    with shop.ledger.store.connection() as connection:
        assert streams_of(connection, coupon_id)[0] == f"coupon-{coupon_id}"
        assert streams_of(connection, "nowhere") == []
    path = tmp_path / "bundle.zip"
    path.write_bytes(auditor.get(f"/v1/coupons/{coupon_id}/proof.zip").response.data)
    audit = [sys.executable, "-m", "coupon_ledger_audit", str(path), "--key", str(KEY.verifier())]
    found = subprocess.run([*audit, "--coupon", coupon_id], capture_output=True, text=True)
    assert found.returncode == 1
    assert f"version 2 of coupon-{coupon_id} follows version 0" in found.stdout
    assert "all is right" not in found.stdout


@pytest.mark.parametrize("path", ["proof", "proof.zip"])
def test_without_the_folder_there_is_no_proof(path, ledger, as_role, auditor, scene, seal_folder):
    coupon_id = scene.sealed()
    auditor.client = create_app(ledger, CODE_KEYS).test_client()
    auditor.get(f"/v1/coupons/{coupon_id}/{path}").refused(503, "unavailable")
    auditor.client = create_app(ledger, CODE_KEYS, seal_folder=seal_folder / "elsewhere").test_client()
    auditor.get(f"/v1/coupons/{coupon_id}/{path}").refused(503, "unavailable")


def test_the_bundle_convinces_an_auditor_who_has_the_key(auditor, scene, shop, database, seal_folder, tmp_path):
    scene.sealed()
    since = auditor.get("/v1/audit/checkpoint").ok()
    last = tmp_path / "last"
    last.write_text(since["note"], "utf-8")
    coupon_id = scene.used()
    shop.ledger.do(use_cases.claim(shop.request(), shop.batch(), "user-2"))
    seal(database, seal_folder)
    answer = auditor.get(f"/v1/coupons/{coupon_id}/proof.zip", since=since["size"])
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="coupon-{coupon_id}.zip"'
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(answer.response.data)
    audit = [sys.executable, "-m", "coupon_ledger_audit", str(bundle), "--key", str(KEY.verifier())]
    found = subprocess.run([*audit, "--last", str(last), "--coupon", coupon_id], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"coupon-{coupon_id} 3 coupon.used" in found.stdout
    data = bytearray(answer.response.data)
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    assert subprocess.run(audit, capture_output=True, text=True).returncode == 1


def test_an_earlier_checkpoint_has_the_lines_that_came_later(auditor, shop, database, scene, seal_folder):
    """Of witnesses, and of a changed key: an auditor may have nothing else to know it by."""
    scene.sealed()
    since = auditor.get("/v1/audit/checkpoint").ok()["size"]
    with superuser(database) as owner:
        owner.execute(
            "insert into cosignatures (size, place, lines) values (%s, 'w', E'— w AAAAAAAAAAAAAAAA\n')", (since,)
        )
    coupon_id = shop.coupon()
    seal(database, seal_folder)
    answer = auditor.get(f"/v1/coupons/{coupon_id}/proof.zip", since=since)
    with zipfile.ZipFile(io.BytesIO(answer.response.data)) as bundle:
        notes = [bundle.read(name).decode() for name in bundle.namelist() if "checkpoint" in name]
    assert [note.splitlines()[1] for note in notes if note.endswith("— w AAAAAAAAAAAAAAAA\n")] == [str(since)]
