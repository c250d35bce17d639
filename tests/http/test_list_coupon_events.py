"""GET /v1/coupons/{id}/events."""

from __future__ import annotations


def test_shows_every_event_in_its_published_shape(auditor, scene, shop):
    coupon_id = scene.used()
    page = auditor.get(f"/v1/coupons/{coupon_id}/events").ok()
    assert page["coupon_id"] == coupon_id
    assert page["next_cursor"] is None
    assert [event["topic"] for event in page["events"]] == ["coupon.issued", "coupon.locked", "coupon.used"]
    assert [event["version"] for event in page["events"]] == [1, 2, 3]
    issued = page["events"][0]
    assert issued.keys() == {"position", "recorded_at", "occurred_at", "stream", "version", "topic", "payload"}
    assert issued["stream"] == f"coupon-{coupon_id}"
    payload = issued["payload"]
    assert (payload["user_id"], payload["actor"], payload["merchant_id"]) == ("user-1", "test", "merchant-1")
    assert payload["valid_until"].endswith("Z")
    assert "originator_id" not in payload


def test_pages_continue_where_they_ended(auditor, scene):
    path = f"/v1/coupons/{scene.used()}/events"
    first = auditor.get(path, limit=2).ok()
    second = auditor.get(path, limit=2, cursor=first["next_cursor"]).ok()
    assert [event["version"] for event in first["events"] + second["events"]] == [1, 2, 3]
    assert second["next_cursor"] is None


def test_a_cursor_is_good_for_its_list_and_its_caller(auditor, as_role, scene):
    path = f"/v1/coupons/{scene.used()}/events"
    cursor = auditor.get(path, limit=1).ok()["next_cursor"]
    auditor.get(path, limit=1, cursor=cursor).ok()
    other = f"/v1/coupons/{scene.used('order-2')}/events"
    auditor.get(other, cursor=cursor).refused(400, "bad_cursor")
    as_role("operator").get(path, cursor=cursor).refused(400, "bad_cursor")
    as_role("auditor", "merchant-2").get(path, cursor=cursor).refused(400, "bad_cursor")
    for place in range(0, len(cursor), 3):
        forged = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        auditor.get(path, cursor=forged).refused(400, "bad_cursor")
    for forged in ("A", "AAAA", cursor[:-4], cursor * 2):
        auditor.get(path, cursor=forged).refused(400, "bad_cursor")


def test_refuses_what_is_no_page(auditor, scene):
    path = f"/v1/coupons/{scene.used()}/events"
    for query in ({"limit": 0}, {"limit": 201}, {"limit": 10**9}, {"limit": "ten"}, {"cursor": "not/a/cursor"}):
        answer = auditor.get(path, **query)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == list(query)


def test_an_unknown_one_is_not_found(auditor):
    auditor.get("/v1/coupons/nowhere/events").refused(404, "coupon_not_found")
