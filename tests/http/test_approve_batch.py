"""POST /v1/batches/{id}/approve."""

from __future__ import annotations

import pytest

BODY = None


@pytest.fixture
def path(scene):
    return scene.call("approve_batch")[0]


def test_goes_from_in_review_to_approved(operator, path):
    before = operator.get(path.removesuffix("/approve")).ok()
    assert before["state"] == "IN_REVIEW"
    answer = operator.post(path, BODY)
    after = answer.ok()
    assert after["state"] == "APPROVED"
    assert after["version"] == before["version"] + 1
    assert answer.headers["ETag"] == f'"{after["version"]}"'
    assert operator.get(path.removesuffix("/approve")).ok()["state"] == "APPROVED"


def test_is_refused_the_second_time(operator, path):
    operator.post(path, BODY).ok()
    problem = operator.post(path, BODY).refused(409, "batch_state_conflict")
    assert problem["facts"]["state"] == "APPROVED"


def test_honours_if_match(operator, path):
    version = operator.get(path.removesuffix("/approve")).ok()["version"]
    operator.post(path, BODY, headers={"If-Match": f'"{version - 1}"'}).refused(412, "version_conflict")
    operator.post(path, BODY, headers={"If-Match": f'"{version}"'}).ok()


def test_an_unknown_one_is_not_found(operator):
    operator.post("/v1/batches/nowhere/approve", BODY).refused(404, "batch_not_found")


def test_needs_another_key_than_the_one_that_submitted(operator, as_role, shop):
    batch = f"/v1/batches/{shop.batch(start=False, needs_approval=True)}"
    operator.post(f"{batch}/start").refused(409, "batch_state_conflict")
    operator.post(f"{batch}/submit").ok()
    operator.post(f"{batch}/approve").refused(409, "self_approval")
    second = as_role("operator")
    second.post(f"{batch}/approve").ok()
    operator.post(f"{batch}/start").ok()
    assert operator.post(f"{batch}/claims", {"user_id": "user-1"}).ok(201)["user_id"] == "user-1"


def test_the_history_shows_both(operator, as_role, shop, ledger):
    batch_id = shop.batch(start=False)
    operator.post(f"/v1/batches/{batch_id}/submit").ok()
    second = as_role("operator")
    second.post(f"/v1/batches/{batch_id}/approve").ok()
    submitted, approved = (entry.event for entry in ledger.store.history(f"batch-{batch_id}")[1:])
    assert (submitted.TOPIC, approved.TOPIC) == ("batch.submitted", "batch.approved")
    keys = [f"key:{caller.token.partition('.')[0]}" for caller in (operator, second)]
    assert [submitted.actor, approved.actor] == keys


def test_what_was_approved_is_raised_by_another_than_who_submitted_it(operator, as_role, shop):
    batch = f"/v1/batches/{shop.batch(start=False, needs_approval=True, quantity=10, budget_minor=5_000)}"
    operator.post(f"{batch}/submit").ok()
    second = as_role("operator")
    second.post(f"{batch}/approve").ok()
    more, dearer = {"expected": 10, "target": 1_000_000_000}, {"expected_minor": 5_000, "target_minor": 10**14}
    for step in ("start", None):
        operator.post(f"{batch}/quantity", more).refused(409, "self_approval")
        operator.post(f"{batch}/budget", dearer).refused(409, "self_approval")
        if step:
            operator.post(f"{batch}/{step}").ok()
    operator.post(f"{batch}/quantity", {"expected": 10, "target": 9}).ok()
    operator.post(f"{batch}/budget", {"expected_minor": 5_000, "target_minor": 4_500}).ok()
    assert second.post(f"{batch}/quantity", {"expected": 9, "target": 20}).ok()["quantity"] == 20
    assert second.post(f"{batch}/budget", {"expected_minor": 4_500, "target_minor": 10_000}).ok()["version"] == 8
