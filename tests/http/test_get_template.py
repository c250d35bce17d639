"""GET /v1/templates/{id}."""

from __future__ import annotations


def test_shows_the_newest_version(operator, as_role, scene):
    body = scene.template() | {"description": "Off any tea.\nNot off mugs."}
    id = operator.post("/v1/templates", body).ok(201)["template_id"]
    operator.post(f"/v1/templates/{id}/revisions", {**body, "name": "Six off", "description": "Off it all."}).ok(201)
    answer = as_role("analyst").get(f"/v1/templates/{id}")
    shown = answer.ok()
    assert (shown["template_id"], shown["version"], shown["name"]) == (id, 2, "Six off")
    assert shown["description"] == "Off it all."
    assert shown["terms"]["benefit"]["value_minor"] == 500
    assert answer.headers["ETag"] == '"2"'
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_unknown_one_is_not_found(operator):
    problem = operator.get("/v1/templates/nowhere").refused(404, "template_not_found")
    assert problem["facts"] == {"id": "nowhere"}


def test_an_id_has_a_form(operator):
    for id in ("x" * 129, "%00", "%20padded", "line%0Afeed", "right%E2%80%AEleft"):
        answer = operator.get(f"/v1/templates/{id}")
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["template_id"]


def test_takes_no_parameters(operator, scene):
    path, _ = scene.call("get_template")
    answer = operator.get(path, version="1")
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["version"]
