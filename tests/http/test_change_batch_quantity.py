"""POST /v1/batches/{id}/quantity."""

from __future__ import annotations

import pytest


@pytest.fixture
def batch(shop):
    return f"/v1/batches/{shop.batch(quantity=100, per_user_limit=None)}"


def test_sets_the_target(operator, batch):
    answer = operator.post(f"{batch}/quantity", {"expected": 100, "target": 50})
    assert (answer.ok()["quantity"], answer.ok()["version"]) == (50, 3)
    assert answer.headers["ETag"] == '"3"'


def test_is_refused_when_the_quantity_is_another(operator, batch):
    problem = operator.post(f"{batch}/quantity", {"expected": 99, "target": 50}).refused(409, "quantity_conflict")
    assert problem["facts"] == {"expected": 99, "quantity": 100}


def test_is_refused_below_what_is_issued(operator, batch):
    operator.post(f"{batch}/coupons", {"user_ids": ["u"] * 3}).ok(201)
    answer = operator.post(f"{batch}/quantity", {"expected": 100, "target": 2})
    assert answer.refused(409, "quantity_conflict")["facts"] == {"issued": 3}
    operator.post(f"{batch}/quantity", {"expected": 100, "target": 3}).ok()
    operator.post(f"{batch}/claims", {"user_id": "u"}).refused(409, "sold_out")


def test_is_refused_for_a_stopped_batch(operator, batch):
    operator.post(f"{batch}/stop", {"reason": "over"}).ok()
    operator.post(f"{batch}/quantity", {"expected": 100, "target": 101}).refused(409, "batch_state_conflict")


def test_honours_if_match(operator, batch):
    body = {"expected": 100, "target": 101}
    operator.post(f"{batch}/quantity", body, headers={"If-Match": '"1"'}).refused(412, "version_conflict")
    operator.post(f"{batch}/quantity", body, headers={"If-Match": '"2"'}).ok()


@pytest.mark.parametrize("field", ["expected", "target"])
def test_a_quantity_is_a_whole_number(operator, batch, field):
    for value in (0, -1, 1.5, 2.0, "1", True, None, 10**18):
        answer = operator.post(f"{batch}/quantity", {"expected": 100, "target": 101, field: value})
        answer.refused(422, "invalid_quantity")
        assert answer.pointers() == [f"/{field}"]


def test_an_unknown_one_is_not_found(operator):
    operator.post("/v1/batches/nowhere/quantity", {"expected": 1, "target": 2}).refused(404, "batch_not_found")
