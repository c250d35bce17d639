"""POST /v1/batches/{id}/budget."""

from __future__ import annotations

import pytest


@pytest.fixture
def batch(shop):
    return f"/v1/batches/{shop.batch(budget_minor=10_000, per_user_limit=None)}"


def test_sets_the_target(operator, batch):
    answer = operator.post(f"{batch}/budget", {"expected_minor": 10_000, "target_minor": 5_000})
    assert (answer.ok()["budget_minor"], answer.ok()["version"]) == (5_000, 3)
    assert answer.headers["ETag"] == '"3"'
    assert operator.get(batch).ok()["budget_minor"] == 5_000


def test_is_refused_when_the_budget_is_another(operator, batch):
    body = {"expected_minor": 9_999, "target_minor": 5_000}
    problem = operator.post(f"{batch}/budget", body).refused(409, "budget_conflict")
    assert problem["facts"] == {"expected_minor": 9_999, "budget_minor": 10_000}


def test_is_refused_below_what_is_issued(operator, batch):
    operator.post(f"{batch}/coupons", {"user_ids": ["u"] * 3}).ok(201)
    answer = operator.post(f"{batch}/budget", {"expected_minor": 10_000, "target_minor": 1_499})
    assert answer.refused(409, "budget_conflict")["facts"] == {"budget_taken_minor": 1_500}
    operator.post(f"{batch}/budget", {"expected_minor": 10_000, "target_minor": 1_500}).ok()
    operator.post(f"{batch}/claims", {"user_id": "u"}).refused(409, "budget_spent")


def test_a_batch_without_one_gets_none(operator, shop):
    body = {"expected_minor": 1, "target_minor": 2}
    problem = operator.post(f"/v1/batches/{shop.batch()}/budget", body).refused(409, "budget_conflict")
    assert problem["facts"]["budget_minor"] is None


def test_honours_if_match(operator, batch):
    body = {"expected_minor": 10_000, "target_minor": 10_001}
    operator.post(f"{batch}/budget", body, headers={"If-Match": '"1"'}).refused(412, "version_conflict")
    operator.post(f"{batch}/budget", body, headers={"If-Match": '"2"'}).ok()


@pytest.mark.parametrize("field", ["expected_minor", "target_minor"])
def test_a_budget_is_a_whole_number(operator, batch, field):
    for value in (0, -1, 1.5, 2.0, "1", True, None, 10**15 + 1):
        answer = operator.post(f"{batch}/budget", {"expected_minor": 10_000, "target_minor": 10_001, field: value})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [f"/{field}"]


def test_an_unknown_one_is_not_found(operator):
    body = {"expected_minor": 1, "target_minor": 2}
    operator.post("/v1/batches/nowhere/budget", body).refused(404, "batch_not_found")
