"""POST /v1/batches/{id}/codes."""

from __future__ import annotations

import pytest


@pytest.fixture
def path(shop):
    return f"/v1/batches/{shop.batch()}/codes"


def test_makes_a_set(operator, path):
    answer = operator.post(path, {"kind": "unique", "count": 25})
    made = answer.ok(201)
    assert made.keys() == {"codes_id", "batch_id", "kind", "count", "exported", "revoked"}
    assert (made["kind"], made["count"], made["exported"], made["revoked"]) == ("unique", 25, False, False)
    assert answer.headers["Location"] == f"/v1/codes/{made['codes_id']}"
    assert operator.get(answer.headers["Location"]).ok() == made


def test_makes_a_word_for_many_users(operator, path, as_role):
    made = operator.post(path, {"kind": "generic", "code": "Summer 25"}).ok(201)
    assert (made["kind"], made["count"]) == ("generic", 1)
    for user_id in ("user-1", "user-2"):
        body = {"code": "SUMMER-25", "user_id": user_id}
        as_role("shopper-app").post("/v1/codes/redemptions", body).ok(201)
    operator.post(path, {"kind": "generic", "code": "summer25"}).refused(422, "invalid_field")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"count": 0},
        {"count": 1_000_001},
        {"count": 1.0},
        {"kind": "unique", "code": "SUMMER"},
        {"kind": "unique", "count": 1, "code": "SUMMER"},
        {"kind": "generic"},
        {"kind": "generic", "count": 1},
        {"kind": "generic", "code": "abc"},
        {"kind": "generic", "code": "- -"},
        {"kind": "generic", "code": "Grüße-25"},
        {"kind": "imported", "count": 1},
    ],
    ids=str,
)
def test_what_makes_no_sense(body, operator, path, ledger):
    head = ledger.store.head()
    operator.post(path, body).refused(422, "invalid_field")
    assert ledger.store.head() == head


def test_a_batch_that_is_over_gets_none(operator, path):
    operator.post(path.replace("/codes", "/stop"), {"reason": "over"}).ok()
    operator.post(path, {"count": 1}).refused(409, "batch_state_conflict")
