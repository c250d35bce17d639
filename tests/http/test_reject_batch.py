"""POST /v1/batches/{id}/reject."""

from __future__ import annotations

import pytest

BODY = {"reason": "too much"}


@pytest.fixture
def path(scene):
    return scene.call("reject_batch")[0]


def test_goes_from_in_review_to_draft(operator, path):
    before = operator.get(path.removesuffix("/reject")).ok()
    assert before["state"] == "IN_REVIEW"
    answer = operator.post(path, BODY)
    after = answer.ok()
    assert after["state"] == "DRAFT"
    assert after["version"] == before["version"] + 1
    assert answer.headers["ETag"] == f'"{after["version"]}"'
    assert operator.get(path.removesuffix("/reject")).ok()["state"] == "DRAFT"


def test_is_refused_the_second_time(operator, path):
    operator.post(path, BODY).ok()
    problem = operator.post(path, BODY).refused(409, "batch_state_conflict")
    assert problem["facts"]["state"] == "DRAFT"


def test_honours_if_match(operator, path):
    version = operator.get(path.removesuffix("/reject")).ok()["version"]
    operator.post(path, BODY, headers={"If-Match": f'"{version - 1}"'}).refused(412, "version_conflict")
    operator.post(path, BODY, headers={"If-Match": f'"{version}"'}).ok()


def test_an_unknown_one_is_not_found(operator):
    operator.post("/v1/batches/nowhere/reject", BODY).refused(404, "batch_not_found")


def test_keeps_the_reason(operator, path, ledger):
    operator.post(path, BODY).ok()
    batch_id = path.split("/")[3]
    assert ledger.store.history(f"batch-{batch_id}")[-1].event.reason == "too much"


def test_whoever_submitted_it_may_withdraw_it(operator, shop):
    batch = f"/v1/batches/{shop.batch(start=False)}"
    operator.post(f"{batch}/submit").ok()
    operator.post(f"{batch}/reject", BODY).ok()


def test_a_reason_has_a_form(operator, path):
    for reason in ("", "x" * 201, "two\nlines", " padded", None, 5):
        answer = operator.post(path, {"reason": reason})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["/reason"]
