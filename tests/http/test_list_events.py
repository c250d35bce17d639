"""GET /v1/events."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest

from api import feed
from ledger.events import EVENTS
from tests.postgres.lives import Life


def test_follows_the_log_in_order(auditor, scene):
    scene.used()
    page = auditor.get("/v1/events").ok()
    assert [event["position"] for event in page["events"]] == list(range(1, 7))
    assert page["events"][0]["topic"] == "template.created"
    assert page["events"][-1]["topic"] == "coupon.used"
    assert (page["next"], page["more"]) == (6, False)
    empty = auditor.get("/v1/events", after=page["next"]).ok()
    assert empty == {"events": [], "next": 6, "more": False}


def test_pages_neither_repeat_nor_miss(auditor, scene):
    scene.used()
    after, seen, more = 0, [], True
    while more:
        page = auditor.get("/v1/events", after=after, limit=2).ok()
        seen += [event["position"] for event in page["events"]]
        after, more = page["next"], page["more"]
    assert seen == list(range(1, 7))


def test_passes_over_other_merchants(auditor, stranger, scene, shop):
    shop.batch()
    body = scene.template()
    mine = stranger("operator").post("/v1/templates", body).ok(201)
    shop.batch()
    page = stranger("auditor").get("/v1/events").ok()
    assert [event["stream"] for event in page["events"]] == [f"template-{mine['template_id']}"]
    assert (page["next"], page["more"]) == (7, False)
    assert len(auditor.get("/v1/events").ok()["events"]) == 6


def test_a_long_stretch_of_other_merchants_ends_a_page_early(stranger, scene, shop, monkeypatch):
    monkeypatch.setattr(feed, "CHUNK_EVENTS", 2)
    monkeypatch.setattr(feed, "SCAN_EVENTS", 4)
    shop.batch()
    shop.batch()
    mine = stranger("operator").post("/v1/templates", scene.template()).ok(201)
    follower = stranger("auditor")
    first = follower.get("/v1/events").ok()
    assert first == {"events": [], "next": 4, "more": True}
    second = follower.get("/v1/events", after=4).ok()
    assert [event["payload"]["name"] for event in second["events"]] == ["Five off"]
    assert second["events"][0]["stream"] == f"template-{mine['template_id']}"
    assert (second["next"], second["more"]) == (7, False)


def test_every_fact_of_a_coupon_is_told(auditor, shop):
    """Times as RFC 3339 with a Z, and every other field as it is stored."""
    life = Life(random.Random(1), shop.batch(), 1, "ann")
    for step in ("share", "transfer", "extend", "lock", "hold_longer", "debit", "credit", "lock", "unlock", "lock"):
        getattr(life, step)()
    for step in ("use", "return_", "return_", "return_", "return_"):
        if step == "use" or life.stored_state == "USED":
            getattr(life, step)()
    life.store(shop)
    events = auditor.get("/v1/events", limit=200).ok()["events"]
    told = {event["topic"]: event for event in events if event["topic"].startswith("coupon.")}
    ends = {"coupon.expired", "coupon.voided"}
    assert told.keys() == {topic for topic in EVENTS if topic.startswith("coupon.")} - ends
    for topic, event in told.items():
        shared = {"originator_id", "originator_version", "occurred_at"}
        assert event["payload"].keys() == EVENTS[topic].field_names - shared
        for name in {"occurred_at"} | set(EVENTS[topic].time_fields):
            moment = event["occurred_at"] if name == "occurred_at" else event["payload"][name]
            assert moment.endswith("Z")
            assert datetime.fromisoformat(moment).utcoffset() == timedelta(0)


def test_refuses_what_is_no_page(auditor):
    for query in ({"after": -1}, {"after": "x"}, {"after": 2**63}, {"limit": 0}, {"limit": 201}, {"topic": "x"}):
        answer = auditor.get("/v1/events", **query)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == list(query)


@pytest.mark.parametrize("after", [10**6, 2**63 - 1])
def test_a_position_that_is_not_reached_is_kept(auditor, after):
    assert auditor.get("/v1/events", after=after).ok() == {"events": [], "next": after, "more": False}
