"""POST /v1/coupons/{id}/extensions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger import use_cases
from ledger.aggregate import text_of


def _extend(operator, coupon_id, valid_until, reason="sorry", **headers):
    body = {"valid_until": valid_until, "reason": reason}
    return operator.post(f"/v1/coupons/{coupon_id}/extensions", body, headers=headers)


def _until(operator, coupon_id):
    return operator.get(f"/v1/coupons/{coupon_id}").ok()["valid_until"]


def test_moves_the_end_of_validity(operator, shop):
    coupon_id = shop.coupon()
    before = _until(operator, coupon_id)
    answer = _extend(operator, coupon_id, "2031-06-01T00:00:00Z").ok()
    assert answer == {"coupon_id": coupon_id, "state": "UNUSED", "valid_until": "2031-06-01T00:00:00Z"}
    assert _until(operator, coupon_id) == "2031-06-01T00:00:00Z"
    last = operator.get(f"/v1/coupons/{coupon_id}/events").ok()["events"][-1]
    assert last["topic"] == "coupon.extended"
    assert last["payload"]["reason"] == "sorry"
    assert last["payload"]["valid_until_before"] == before


def test_a_time_in_another_zone_is_the_same_time(operator, shop):
    answer = _extend(operator, shop.coupon(), "2031-06-01T08:00:00+08:00").ok()
    assert answer["valid_until"] == "2031-06-01T00:00:00Z"


def test_never_moves_it_back(operator, shop):
    coupon_id = shop.coupon()
    before = _until(operator, coupon_id)
    for valid_until in (before, text_of(datetime.now(UTC) + timedelta(seconds=60)), "1999-01-01T00:00:00Z"):
        answer = _extend(operator, coupon_id, valid_until)
        answer.refused(422, "invalid_period")
        assert answer.pointers() == ["/valid_until"]
    assert _until(operator, coupon_id) == before


def test_extends_what_is_unused_only(operator, scene, shop, long_ago):
    until = "2031-06-01T00:00:00Z"
    held, _ = scene.locked()
    _extend(operator, held, until).refused(409, "coupon_locked")
    _extend(operator, scene.used("order-2"), until).refused(409, "coupon_used")
    expired = use_cases.claim(shop.request(at=long_ago), shop.batch(valid_for_seconds=60), "user-1")
    _extend(operator, shop.ledger.do(expired).answer["coupon_id"], until).refused(410, "coupon_expired")
    voided = shop.coupon()
    operator.post(f"/v1/coupons/{voided}/void", {"reason": "fraud"}).ok()
    _extend(operator, voided, until).refused(410, "coupon_void")
    _extend(operator, "nowhere", until).refused(404, "coupon_not_found")


def test_honours_if_match(operator, shop):
    coupon_id = shop.coupon()
    _extend(operator, coupon_id, "2031-06-01T00:00:00Z", **{"If-Match": '"2"'}).refused(412, "version_conflict")
    _extend(operator, coupon_id, "2031-06-01T00:00:00Z", **{"If-Match": '"1"'}).ok()


def test_refuses_what_is_no_extension(operator, ledger):
    for valid_until in ("2031-06-01", "2031-06-01T00:00:00", 1, None, "tomorrow", "9999-01-01T00:00:00Z"):
        answer = _extend(operator, "c", valid_until)
        answer.refused(422, "invalid_period")
        assert answer.pointers() == ["/valid_until"]
    answer = _extend(operator, "c", "2031-06-01T00:00:00Z", reason="")
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/reason"]
    assert ledger.store.head() == 0


def test_an_order_system_may_not(orders, shop):
    _extend(orders, shop.coupon(), "2031-06-01T00:00:00Z").refused(403, "forbidden_scope")
