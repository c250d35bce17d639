"""POST /v1/batches/{id}/claim-reminders, and their cancellation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ledger import use_cases
from ledger.aggregate import text_of


@pytest.fixture
def opens_at():
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)


@pytest.fixture
def path(shop, opens_at):
    return f"/v1/batches/{shop.batch(claim_from=opens_at)}/claim-reminders"


def wishes(ledger):
    """The topics of all that was asked, in order."""
    with ledger.store.connection() as connection:
        return [
            each.event.TOPIC
            for each in ledger.store.read(connection, 0, 1_000)
            if each.event.TOPIC.startswith("reminder.")
        ]


@pytest.mark.parametrize("role", ["operator", "shopper-app"])
def test_records_the_wish_once(as_role, role, path, opens_at, ledger):
    caller = as_role(role)
    expected = {"batch_id": path.split("/")[3], "user_id": "user-1", "claim_from": text_of(opens_at)}
    assert caller.post(path, {"user_id": "user-1"}).ok() == expected
    assert caller.post(path, {"user_id": "user-1"}).ok() == expected
    assert wishes(ledger) == ["reminder.requested"]


def test_is_cancelled_and_asked_again(operator, path, ledger):
    for step in ("", "/cancel", "/cancel", ""):
        operator.post(path + step, {"user_id": "user-1"}).ok()
    assert wishes(ledger) == ["reminder.requested", "reminder.cancelled", "reminder.requested"]


def test_cancelling_what_nobody_asked_changes_nothing(operator, path, ledger):
    operator.post(f"{path}/cancel", {"user_id": "user-1"}).ok()
    assert wishes(ledger) == []


def test_a_batch_that_is_open_has_no_opening_ahead(operator, shop):
    for plan in ({}, {"claim_from": datetime.now(UTC) - timedelta(seconds=1)}):
        answer = operator.post(f"/v1/batches/{shop.batch(**plan)}/claim-reminders", {"user_id": "user-1"})
        assert answer.refused(409, "batch_state_conflict")["facts"]["state"] == "RUNNING"


def test_a_batch_that_never_opens_is_refused(operator, path, shop):
    batch_id = path.split("/")[3]
    shop.ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    assert (
        operator.post(path, {"user_id": "user-1"}).refused(409, "batch_state_conflict")["facts"]["state"] == "STOPPED"
    )


@pytest.mark.parametrize("step", ["", "/cancel"])
def test_an_unknown_batch_is_not_found(operator, step):
    path = f"/v1/batches/nowhere/claim-reminders{step}"
    operator.post(path, {"user_id": "user-1"}).refused(404, "batch_not_found")


@pytest.mark.parametrize("step", ["", "/cancel"])
@pytest.mark.parametrize("body", [{}, {"user_id": ""}, {"user_id": 5}, {"user_id": "u", "colour": "red"}])
def test_the_body_has_a_form(operator, path, step, body):
    operator.post(path + step, body).refused(422, "invalid_field")
