"""POST /v1/batches/{id}/code-imports."""

from __future__ import annotations

import pytest


@pytest.fixture
def path(shop):
    return f"/v1/batches/{shop.batch()}/code-imports"


def test_takes_codes_over(operator, path, as_role):
    made = operator.post(path, {"codes": ["OLD-0001", "old 0002"]}).ok(201)
    assert (made["kind"], made["count"]) == ("imported", 2)
    app = as_role("shopper-app")
    app.post("/v1/codes/redemptions", {"code": "old-0002", "user_id": "user-1"}).ok(201)
    app.post("/v1/codes/redemptions", {"code": "old-0002", "user_id": "user-2"}).refused(404, "code_not_found")


def test_names_what_cannot_be_taken(operator, path, ledger):
    operator.post(path, {"codes": ["TAKEN-1"]}).ok(201)
    head = ledger.store.head()
    answer = operator.post(path, {"codes": ["NEW-1", "abc", "new1", "NEW-2"]})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/codes/1", "/codes/2"]
    answer = operator.post(path, {"codes": ["NEW-1", "taken1"]})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/codes/1"]
    assert ledger.store.head() == head


@pytest.mark.parametrize("codes", [[], ["C0DE"] * 10_001, [5], "CODE"], ids=["none", "many", "number", "text"])
def test_what_makes_no_sense(codes, operator, path):
    operator.post(path, {"codes": codes}).refused(422, "invalid_field")


def test_codes_of_nothing_but_spaces_are_none(operator, path):
    operator.post(path, {"codes": ["", "  "]}).refused(422, "invalid_quantity")


def test_ten_thousand_at_once(operator, path):
    codes = [f"CODE-{number:05}" for number in range(10_000)]
    assert operator.post(path, {"codes": codes}).ok(201)["count"] == 10_000
