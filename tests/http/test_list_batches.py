"""GET /v1/batches."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

MEMBERS = {
    "batch_id", "template_id", "template_version", "name", "campaign", "state", "quantity", "budget_minor", "issued",
    "claim_from", "claim_until", "created_at",
}  # fmt: skip


def _ids(page):
    return [each["batch_id"] for each in page["batches"]]


def test_lists_batches_by_id(auditor, shop, project):
    ids = [shop.batch(name=f"Batch {number}", campaign="june", budget_minor=50_000) for number in range(3)]
    shop.coupon(batch_id=ids[0])
    position = project()
    page = auditor.get("/v1/batches").ok()
    assert (page["next_cursor"], page["position"]) == (None, position)
    assert _ids(page) == sorted(ids)
    assert all(each.keys() == MEMBERS for each in page["batches"])
    first = next(each for each in page["batches"] if each["batch_id"] == ids[0])
    assert (first["name"], first["campaign"], first["state"]) == ("Batch 0", "june", "RUNNING")
    assert (first["quantity"], first["budget_minor"], first["issued"]) == (100, 50_000, 1)
    assert (first["claim_from"], first["created_at"][-1]) == (None, "Z")


@pytest.mark.parametrize("state", ["DRAFT", "RUNNING", "ENDED", "STOPPED"])
def test_lists_batches_in_a_state(operator, shop, project, state):
    past = datetime.now(UTC) - timedelta(days=1)
    batches = {"DRAFT": shop.batch(start=False), "RUNNING": shop.batch(), "ENDED": shop.batch(claim_until=past)}
    project()
    assert _ids(operator.get("/v1/batches", state=state).ok()) == [batches[word] for word in batches if word == state]


def test_pages_neither_repeat_nor_miss(operator, shop, project):
    ids = [shop.batch(start=number % 2 == 0) for number in range(6)]
    project()
    seen, cursor = [], {}
    while cursor is not None:
        page = operator.get("/v1/batches", state="RUNNING", limit=2, **cursor).ok()
        seen += _ids(page)
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert seen == sorted(ids[::2])


def test_waits_for_a_position(operator, shop, project):
    project()
    body = {"name": "June", "quantity": 10, "valid_for_seconds": 3_600}
    template_id = shop.ledger.store.history(f"batch-{shop.batch()}")[0].event.template_id
    written = operator.post("/v1/batches", body | {"template_id": template_id})
    written.ok(201)
    position = int(written.headers["Ledger-Position"])
    operator.get("/v1/batches", at_least=position).refused(503, "not_caught_up")
    project()
    assert len(_ids(operator.get("/v1/batches", at_least=position).ok())) == 2


def test_lists_nothing_of_another_merchant(shop, stranger, project):
    shop.batch()
    project()
    assert _ids(stranger("auditor").get("/v1/batches").ok()) == []


def test_refuses_the_cursor_of_another_state(operator, shop, project):
    for _ in range(2):
        shop.batch()
    project()
    cursor = operator.get("/v1/batches", state="RUNNING", limit=1).ok()["next_cursor"]
    operator.get("/v1/batches", state="DRAFT", cursor=cursor).refused(400, "bad_cursor")
    operator.get("/v1/batches", state="SOLD").refused(422, "invalid_field")


def test_the_csv_has_every_batch_and_the_same_figures(operator, shop, project, monkeypatch):
    """GET /v1/batches.csv."""
    for name in ("=cmd|' /C calc'!A0", "two", "three"):
        shop.batch(name=name)
    shop.batch(start=False)
    project()
    with monkeypatch.context() as patch:
        patch.setattr("projections.listings.LIST_LIMIT", 2)  # two pieces
        answer = operator.get("/v1/batches.csv")
        text = answer.response.text
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="batches.csv"'
    rows = list(csv.DictReader(io.StringIO(text)))
    whole = operator.get("/v1/batches").ok()["batches"]
    assert len(rows) == 4
    shown = [{name: "" if value is None else str(value) for name, value in row.items()} for row in whole]
    assert rows == [row | {"name": "'" + row["name"]} if row["name"].startswith("=") else row for row in shown]
    drafts = csv.DictReader(io.StringIO(operator.get("/v1/batches.csv", state="DRAFT").response.text))
    assert [row["state"] for row in drafts] == ["DRAFT"]


def test_the_csv_has_nothing_of_another_merchant(shop, stranger, project):
    shop.batch()
    project()
    assert stranger("auditor").get("/v1/batches.csv").response.text.count("\n") == 1
