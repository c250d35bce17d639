"""GET /v1/templates."""

from __future__ import annotations

MEMBERS = {"template_id", "version", "name", "created_at", "revised_at"}


def _create(operator, scene, name):
    return operator.post("/v1/templates", scene.template() | {"name": name}).ok(201)["template_id"]


def test_lists_the_newest_versions_by_id(operator, auditor, scene):
    ids = [_create(operator, scene, f"Offer {number}") for number in range(3)]
    operator.post(f"/v1/templates/{ids[0]}/revisions", scene.template() | {"name": "Revised"}).ok(201)
    page = auditor.get("/v1/templates").ok()
    assert page.keys() == {"templates", "next_cursor"}
    assert page["next_cursor"] is None
    assert [each["template_id"] for each in page["templates"]] == sorted(ids)
    assert all(each.keys() == MEMBERS for each in page["templates"])
    found = {each["template_id"]: each for each in page["templates"]}
    assert [(found[id]["version"], found[id]["name"]) for id in ids] == [(2, "Revised"), (1, "Offer 1"), (1, "Offer 2")]
    assert found[ids[0]]["created_at"] < found[ids[0]]["revised_at"]
    assert found[ids[1]]["created_at"] == found[ids[1]]["revised_at"]


def test_pages_neither_repeat_nor_miss(operator, scene):
    ids = [_create(operator, scene, "Offer") for _ in range(5)]
    seen, cursor = [], {}
    while cursor is not None:
        page = operator.get("/v1/templates", limit=2, **cursor).ok()
        seen += [each["template_id"] for each in page["templates"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert seen == sorted(ids)


def test_lists_nothing_of_another_merchant(operator, stranger, scene):
    _create(operator, scene, "Mine")
    theirs = _create(stranger("operator"), scene, "Theirs")
    _create(operator, scene, "Mine too")
    page = stranger("auditor").get("/v1/templates", limit=1).ok()
    assert ([each["template_id"] for each in page["templates"]], page["next_cursor"]) == ([theirs], None)


def test_refuses_the_cursor_of_another_list(operator, stranger, scene):
    for _ in range(2):
        _create(operator, scene, "Offer")
    cursor = operator.get("/v1/templates", limit=1).ok()["next_cursor"]
    operator.get("/v1/batches", cursor=cursor).refused(400, "bad_cursor")
    stranger("operator").get("/v1/templates", cursor=cursor).refused(400, "bad_cursor")
