"""GET /v1/audit/checkpoint and its twin .txt."""

from __future__ import annotations

import base64

from coupon_ledger_audit.note import VerifierKey, open_checkpoint
from tests.postgres.seals import KEY, ORIGIN, seal, superuser

MEMBERS = {"note", "origin", "size", "root", "signed_at", "vkey"}


def test_shows_the_newest_checkpoint_and_nothing_else(auditor, shop, database, seal_folder):
    shop.coupon()
    seal(database, seal_folder)
    shop.coupon()
    newest = seal(database, seal_folder)
    shown = auditor.get("/v1/audit/checkpoint").ok()
    assert shown.keys() == MEMBERS
    assert (shown["origin"], shown["size"], shown["note"]) == (ORIGIN, shop.ledger.store.head(), newest.note)
    opened = open_checkpoint(shown["note"], KEY.verifier(), ORIGIN)
    assert (opened.size, opened.root) == (shown["size"], base64.b64decode(shown["root"]))
    assert VerifierKey.parse(shown["vkey"]) == KEY.verifier()
    assert shown["signed_at"].endswith("Z")


def test_its_twin_is_the_note_alone(auditor, shop, database, seal_folder):
    shop.coupon()
    signed = seal(database, seal_folder)
    answer = auditor.get("/v1/audit/checkpoint.txt")
    assert (answer.status, answer.response.text) == (200, signed.note)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_lines_of_witnesses_stand_under_it(auditor, shop, database, seal_folder, scene):
    scene.sealed()
    with superuser(database) as owner:
        owner.execute("insert into cosignatures (size, place, lines) select size, 'w', E'— w AAAA\\n' from checkpoints")
    assert auditor.get("/v1/audit/checkpoint").ok()["note"].endswith("— w AAAA\n")
    assert auditor.get("/v1/audit/checkpoint.txt").response.text.endswith("— w AAAA\n")


def test_before_the_first_there_is_none(auditor, shop):
    shop.coupon()
    auditor.get("/v1/audit/checkpoint").refused(404, "not_sealed")
    auditor.get("/v1/audit/checkpoint.txt").refused(404, "not_sealed")


def test_takes_no_parameters(auditor, scene):
    scene.sealed()
    auditor.get("/v1/audit/checkpoint", size=1).refused(422, "invalid_field")
