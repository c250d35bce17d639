"""POST /v1/batches/{id}/submit."""

from __future__ import annotations

import pytest

BODY = None


@pytest.fixture
def path(scene):
    return scene.call("submit_batch")[0]


def test_goes_from_draft_to_in_review(operator, path):
    before = operator.get(path.removesuffix("/submit")).ok()
    assert before["state"] == "DRAFT"
    answer = operator.post(path, BODY)
    after = answer.ok()
    assert after["state"] == "IN_REVIEW"
    assert after["version"] == before["version"] + 1
    assert answer.headers["ETag"] == f'"{after["version"]}"'
    assert operator.get(path.removesuffix("/submit")).ok()["state"] == "IN_REVIEW"


def test_is_refused_the_second_time(operator, path):
    operator.post(path, BODY).ok()
    problem = operator.post(path, BODY).refused(409, "batch_state_conflict")
    assert problem["facts"]["state"] == "IN_REVIEW"


def test_honours_if_match(operator, path):
    version = operator.get(path.removesuffix("/submit")).ok()["version"]
    operator.post(path, BODY, headers={"If-Match": f'"{version - 1}"'}).refused(412, "version_conflict")
    operator.post(path, BODY, headers={"If-Match": f'"{version}"'}).ok()


def test_an_unknown_one_is_not_found(operator):
    operator.post("/v1/batches/nowhere/submit", BODY).refused(404, "batch_not_found")


def test_a_batch_in_review_is_left_as_it_is(operator, path):
    operator.post(path).ok()
    batch = path.removesuffix("/submit")
    operator.post(f"{batch}/quantity", {"expected": 100, "target": 200}).refused(409, "batch_state_conflict")
    operator.post(f"{batch}/start").refused(409, "batch_state_conflict")
