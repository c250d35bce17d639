"""POST /v1/coupons/{id}/void."""

from __future__ import annotations

from ledger import use_cases


def _void(operator, coupon_id, reason="fraud", **headers):
    return operator.post(f"/v1/coupons/{coupon_id}/void", {"reason": reason}, headers=headers)


def test_withdraws_the_coupon(operator, shop):
    coupon_id = shop.coupon()
    assert _void(operator, coupon_id).ok() == {"coupon_id": coupon_id, "state": "VOIDED"}
    assert operator.get(f"/v1/coupons/{coupon_id}").ok()["state"] == "VOIDED"


def test_ends_a_live_lock(operator, scene):
    coupon_id, _ = scene.locked()
    _void(operator, coupon_id).ok()
    events = operator.get(f"/v1/coupons/{coupon_id}/events").ok()["events"]
    assert [event["topic"] for event in events[2:]] == ["coupon.unlocked", "coupon.voided"]


def test_refuses_what_is_over(operator, scene, shop, long_ago):
    _void(operator, scene.used()).refused(409, "coupon_used")
    coupon_id = shop.coupon()
    _void(operator, coupon_id).ok()
    _void(operator, coupon_id).refused(410, "coupon_void")
    claim = use_cases.claim(shop.request(at=long_ago), shop.batch(valid_for_seconds=60), "user-1")
    _void(operator, shop.ledger.do(claim).answer["coupon_id"]).refused(410, "coupon_expired")
    _void(operator, "nowhere").refused(404, "coupon_not_found")


def test_what_can_be_voided_of_many_is(scene, shop, ledger):
    """What undoes a job or a batch, page by page (test_void_batch_coupons.py)."""
    (held, _), used, fresh = scene.locked("order-1"), scene.used("order-2"), shop.coupon()
    work = use_cases.void_all(shop.request(), [held, used, fresh, "nowhere"], reason="issued by mistake")
    answer = ledger.do(work).answer
    assert answer["voided"] == sorted([held, fresh])
    refused = {entry["coupon_id"]: entry["code"] for entry in answer["refused"]}
    assert refused == {used: "coupon_used", "nowhere": "coupon_not_found"}
    topics = [entry.event.TOPIC for entry in ledger.store.history(f"coupon-{held}")]
    assert topics == ["coupon.issued", "coupon.locked", "coupon.unlocked", "coupon.voided"]


def test_honours_if_match(operator, shop):
    coupon_id = shop.coupon()
    _void(operator, coupon_id, **{"If-Match": '"2"'}).refused(412, "version_conflict")
    _void(operator, coupon_id, **{"If-Match": '"1"'}).ok()


def test_a_reason_has_a_form(operator, shop):
    coupon_id = shop.coupon()
    for reason in ("", "x" * 201, "two\nlines", None, 5):
        answer = _void(operator, coupon_id, reason)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["/reason"]
