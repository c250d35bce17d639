"""POST /v1/batches/{id}/pause."""

from __future__ import annotations

import pytest

BODY = {"reason": "why"}


@pytest.fixture
def path(scene):
    return scene.call("pause_batch")[0]


def test_goes_from_running_to_paused(operator, path):
    before = operator.get(path.removesuffix("/pause")).ok()
    assert before["state"] == "RUNNING"
    answer = operator.post(path, BODY)
    after = answer.ok()
    assert after["state"] == "PAUSED"
    assert after["version"] == before["version"] + 1
    assert answer.headers["ETag"] == f'"{after["version"]}"'
    assert operator.get(path.removesuffix("/pause")).ok()["state"] == "PAUSED"


def test_is_refused_the_second_time(operator, path):
    operator.post(path, BODY).ok()
    problem = operator.post(path, BODY).refused(409, "batch_state_conflict")
    assert problem["facts"]["state"] == "PAUSED"


def test_honours_if_match(operator, path):
    version = operator.get(path.removesuffix("/pause")).ok()["version"]
    operator.post(path, BODY, headers={"If-Match": f'"{version - 1}"'}).refused(412, "version_conflict")
    operator.post(path, BODY, headers={"If-Match": f'"{version}"'}).ok()


def test_an_unknown_one_is_not_found(operator):
    operator.post("/v1/batches/nowhere/pause", BODY).refused(404, "batch_not_found")


def test_a_reason_has_a_form(operator, path):
    for reason in ("", "x" * 201, "two\nlines", " padded", None, 5):
        answer = operator.post(path, {"reason": reason})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["/reason"]
