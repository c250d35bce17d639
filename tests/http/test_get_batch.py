"""GET /v1/batches/{id}."""

from __future__ import annotations

from datetime import timedelta

from ledger import use_cases
from ledger.batch import BatchPlan

MEMBERS = {
    "batch_id", "state", "quantity", "version", "template_id", "template_version", "name", "campaign",
    "per_user_limit", "claim_from", "claim_until", "valid_from", "valid_until", "valid_delay_seconds",
    "valid_for_seconds",
}  # fmt: skip


def test_shows_the_batch_and_nothing_else(operator, shop):
    batch_id = shop.batch()
    answer = operator.get(f"/v1/batches/{batch_id}")
    shown = answer.ok()
    assert shown.keys() == MEMBERS
    assert (shown["batch_id"], shown["state"], shown["version"]) == (batch_id, "RUNNING", 2)
    assert answer.headers["ETag"] == '"2"'


def test_the_clock_ends_a_batch(operator, shop, long_ago):
    template_id = operator.get(f"/v1/batches/{shop.batch()}").ok()["template_id"]
    plan = BatchPlan(name="Old", quantity=1, claim_until=long_ago + timedelta(days=1), valid_for_seconds=60)
    made = shop.ledger.do(use_cases.create_batch(shop.request(at=long_ago), plan, template_id=template_id))
    batch_id = made.answer["batch_id"]
    shop.ledger.do(use_cases.start_batch(shop.request(at=long_ago), batch_id))
    assert operator.get(f"/v1/batches/{batch_id}").ok()["state"] == "ENDED"


def test_an_unknown_one_is_not_found(operator):
    operator.get("/v1/batches/nowhere").refused(404, "batch_not_found")
