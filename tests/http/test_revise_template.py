"""POST /v1/templates/{id}/revisions."""

from __future__ import annotations

import pytest


@pytest.fixture
def template(operator, scene):
    id = operator.post("/v1/templates", scene.template()).ok(201)["template_id"]
    return f"/v1/templates/{id}"


def test_makes_the_next_version(operator, scene, template):
    answer = operator.post(f"{template}/revisions", scene.template() | {"name": "Six off"})
    assert answer.ok(201) == {"template_id": template[14:], "version": 2, "warnings": []}
    assert answer.headers["ETag"] == '"2"'


def test_honours_if_match(operator, scene, template):
    operator.post(f"{template}/revisions", scene.template(), headers={"If-Match": '"1"'}).ok(201)
    problem = operator.post(f"{template}/revisions", scene.template(), headers={"If-Match": '"1"'})
    assert problem.refused(412, "version_conflict")["facts"] == {"expected": 1, "version": 2}
    operator.post(f"{template}/revisions", scene.template(), headers={"If-Match": "*"}).ok(201)


def test_a_tag_that_never_was_does_not_match(operator, scene, template):
    for tag in ('W/"1"', '"01x"', '"one"', '""', '"2"'):
        answer = operator.post(f"{template}/revisions", scene.template(), headers={"If-Match": tag})
        answer.refused(412, "version_conflict")


def test_what_is_not_one_tag_is_refused(operator, scene, template):
    for tag in ('"1", "2"', "1", '"1', "nonsense", ""):
        answer = operator.post(f"{template}/revisions", scene.template(), headers={"If-Match": tag})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["If-Match"]


def test_a_replay_needs_no_matching_version(operator, scene, template):
    first = operator.post(f"{template}/revisions", scene.template(), key="once", headers={"If-Match": '"1"'})
    again = operator.post(f"{template}/revisions", scene.template(), key="once", headers={"If-Match": '"1"'})
    assert again.ok(201) == first.ok(201)


def test_an_unknown_one_is_not_found(operator, scene):
    operator.post("/v1/templates/nowhere/revisions", scene.template()).refused(404, "template_not_found")


def test_refuses_terms_that_contradict_themselves(operator, scene, template):
    body = scene.template()
    body["terms"]["benefit"]["percent_permyriad"] = 100
    answer = operator.post(f"{template}/revisions", body)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/terms/benefit/percent_permyriad"]
