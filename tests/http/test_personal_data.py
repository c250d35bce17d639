"""POST and GET /v1/users/{user_id}/notes, DELETE /v1/users/{user_id}/personal-data."""

from __future__ import annotations

import pytest

from api.app import create_app
from tests.http.conftest import Caller

PATH = "/v1/users/user-1/notes"
TEXT = "Called about the voucher.\nIs Quokka Nightingale."


def test_an_operator_reads_what_was_noted(operator):
    made = operator.post(PATH, {"text": TEXT}).ok(201)
    assert made.keys() == {"note_id", "user_id"}
    [note] = operator.get(PATH).ok()["notes"]
    assert (note["note_id"], note["state"], note["text"]) == (made["note_id"], "readable", TEXT)


def test_an_auditor_sees_that_it_is_there(operator, auditor):
    operator.post(PATH, {"text": TEXT}).ok(201)
    [note] = auditor.get(PATH).ok()["notes"]
    assert (note["state"], note["text"]) == ("sealed", None)
    assert note["ciphertext"]
    operator.delete("/v1/users/user-1/personal-data").ok()
    [erased] = auditor.get(PATH).ok()["notes"]
    assert erased == note | {"state": "erased"}


def test_to_erase_is_done_once_and_answered_alike(operator):
    operator.post(PATH, {"text": TEXT}).ok(201)
    first = operator.delete("/v1/users/user-1/personal-data").ok()
    assert operator.delete("/v1/users/user-1/personal-data").ok() == first
    assert [note["text"] for note in operator.get(PATH).ok()["notes"]] == [None]


def test_another_merchant_has_no_part_in_it(operator, stranger):
    operator.post(PATH, {"text": TEXT}).ok(201)
    other = stranger("operator")
    assert other.get(PATH).ok()["notes"] == []
    other.delete("/v1/users/user-1/personal-data").ok()
    assert operator.get(PATH).ok()["notes"][0]["text"] == TEXT


def test_the_feed_has_no_word_of_it(operator, auditor):
    operator.post(PATH, {"text": TEXT}).ok(201)
    events = auditor.get("/v1/events").ok()
    assert "subject.noted" in str(events)
    assert "Quokka" not in str(events)


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "x" * 1_001}, {"text": "a\x07b"}, {"text": 1}])
def test_what_is_no_note(body, operator):
    operator.post(PATH, body).refused(422, "invalid_field")


def test_without_a_personal_key_nothing_is_kept(ledger, operator):
    bare = Caller(create_app(ledger), operator.token)
    bare.post(PATH, {"text": TEXT}).refused(503, "unavailable")
    assert bare.get(PATH).ok()["notes"] == []
    bare.delete("/v1/users/user-1/personal-data").ok()
