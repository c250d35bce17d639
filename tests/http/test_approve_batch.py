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


@pytest.fixture
def planned(as_role, shop):
    """The address of a batch that needs approval, and its planner."""
    planner = as_role("operator")
    plan = {"name": "June", "quantity": 10, "valid_for_seconds": 3_600, "budget_minor": 5_000, "needs_approval": True}
    template_id = planner.get(f"/v1/batches/{shop.batch()}").ok()["template_id"]
    made = planner.post("/v1/batches", {"template_id": template_id, **plan}).ok(201)
    return f"/v1/batches/{made['batch_id']}", planner


def test_who_planned_it_does_not_approve_what_another_submitted(planned, operator, as_role):
    batch, planner = planned
    operator.post(f"{batch}/submit").ok()
    planner.post(f"{batch}/approve").refused(409, "self_approval")
    operator.post(f"{batch}/approve").refused(409, "self_approval")
    as_role("operator").post(f"{batch}/approve").ok()


MORE, DEARER = {"expected": 10, "target": 1_000_000}, {"expected_minor": 5_000, "target_minor": 10**12}


@pytest.mark.parametrize(("change", "body"), [("quantity", MORE), ("budget", DEARER)])
def test_nobody_alone_raises_what_was_approved(change, body, planned, operator):
    """The approver raises it, and would start it without anybody's word."""
    batch, planner = planned
    planner.post(f"{batch}/submit").ok()
    operator.post(f"{batch}/approve").ok()
    raised = operator.post(f"{batch}/{change}", body)
    assert raised.ok()["state"] == "DRAFT"
    assert raised.headers["ETag"] == '"5"'
    operator.post(f"{batch}/start").refused(409, "batch_state_conflict")
    operator.post(f"{batch}/submit").ok()
    operator.post(f"{batch}/approve").refused(409, "self_approval")
    planner.post(f"{batch}/approve").refused(409, "self_approval")


def test_what_runs_is_raised_in_a_pause_and_reviewed_again(planned, operator, project):
    batch, planner = planned
    planner.post(f"{batch}/submit").ok()
    operator.post(f"{batch}/approve").ok()
    operator.post(f"{batch}/start").ok()
    operator.post(f"{batch}/claims", {"user_id": "user-1"}).ok(201)
    for change, body in (("quantity", MORE), ("budget", DEARER)):
        problem = operator.post(f"{batch}/{change}", body).refused(409, "batch_state_conflict")
        assert problem["facts"]["state"] == "RUNNING"
    operator.post(f"{batch}/quantity", {"expected": 10, "target": 9}).ok()
    operator.post(f"{batch}/budget", {"expected_minor": 5_000, "target_minor": 4_500}).ok()
    operator.post(f"{batch}/pause", {"reason": "more"}).ok()
    assert planner.post(f"{batch}/quantity", {"expected": 9, "target": 20}).ok()["state"] == "DRAFT"
    project()
    assert operator.get(f"{batch}/balance").ok()["state"] == "DRAFT"
    operator.post(f"{batch}/resume").refused(409, "batch_state_conflict")
    planner.post(f"{batch}/budget", {"expected_minor": 4_500, "target_minor": 10_000}).ok()
    planner.post(f"{batch}/submit").ok()
    operator.post(f"{batch}/approve").ok()
    operator.post(f"{batch}/start").ok()
    operator.post(f"{batch}/claims", {"user_id": "user-2"}).ok(201)
    project()
    assert operator.get(f"{batch}/balance").ok()["issued"] == 2
