"""GET /v1/coupons/{id}/till-code and POST /v1/redemptions: a coupon used in a shop."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import code_store, till, use_cases
from ledger.codes import CodeKeys
from tests.http.conftest import CODE_KEYS

PATH = "/v1/redemptions"


@pytest.fixture
def phone(as_role):
    """The shopper's app."""
    return as_role("shopper-app")


@pytest.fixture
def coupon_id(shop):
    return shop.coupon()


def shown(code, order_id="till-1", **more):
    return {"code": code, "order_id": order_id, "discount_minor": 500, **more}


def test_what_the_phone_shows_is_used_at_the_till(phone, orders, coupon_id):
    found = phone.get(f"/v1/coupons/{coupon_id}/till-code").ok()
    assert found.keys() == {"coupon_id", "code", "changes_at", "static_code"}
    used = orders.post(PATH, shown(found["code"].lower())).ok()
    assert used["order_id"] == "till-1"
    assert used["redemptions"][0]["coupon_id"] == coupon_id
    assert phone.get(f"/v1/coupons/{coupon_id}").ok()["state"] == "USED"


def test_it_is_used_once(phone, orders, coupon_id):
    """A second scan under its own key is refused; the same scan again is answered as it was, even much later."""
    found = phone.get(f"/v1/coupons/{coupon_id}/till-code").ok()
    first = orders.post(PATH, shown(found["code"]), key="scan")
    for code in (found["code"], found["static_code"]):
        orders.post(PATH, shown(code)).refused(409, "coupon_used")
        orders.post(PATH, shown(code, "till-2")).refused(409, "coupon_used")
    again = orders.post(PATH, shown(found["code"]), key="scan")
    assert again.ok() == first.ok()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_stale_code_is_refused_but_its_repeat_answered(orders, coupon_id, ledger, shop, monkeypatch):
    code = till.till_code(CODE_KEYS, shop.merchant_id, coupon_id, ledger.store.now() - timedelta(minutes=2)).code
    orders.post(PATH, shown(code)).refused(409, "redemption_code_invalid")
    with monkeypatch.context() as patched:
        patched.setattr(till, "WINDOWS", 10)
        first = orders.post(PATH, shown(code), key="scan").ok()
    assert orders.post(PATH, shown(code), key="scan").ok() == first


def test_the_static_code_is_longer_and_stays(phone, orders, coupon_id):
    found = phone.get(f"/v1/coupons/{coupon_id}/till-code").ok()
    assert phone.get(f"/v1/coupons/{coupon_id}/till-code").ok()["static_code"] == found["static_code"]
    assert len(found["static_code"]) > len(found["code"])
    orders.post(PATH, shown(found["static_code"], coupon_id=coupon_id)).ok()


def test_the_code_must_be_the_named_coupons(phone, orders, shop, coupon_id):
    other = shop.coupon("user-2")
    found = phone.get(f"/v1/coupons/{coupon_id}/till-code").ok()
    orders.post(PATH, shown(found["static_code"], coupon_id=other)).refused(409, "redemption_code_invalid")
    orders.post(PATH, shown(found["code"], coupon_id=other)).refused(409, "redemption_code_invalid")


def test_every_other_code_is_refused_alike(orders, stranger, shop, coupon_id, ledger):
    head = ledger.store.head()
    static = till.static_code(CODE_KEYS, shop.merchant_id, coupon_id)
    forged = till.static_code(CodeKeys.parse("test=" + "x" * 32), shop.merchant_id, coupon_id)
    unknown = till.static_code(CODE_KEYS, shop.merchant_id, "0" * 26)
    answers = [orders.post(PATH, shown(code)) for code in ("nonsense", static[:-1] + "2", forged, unknown)]
    answers.append(stranger("orders").post(PATH, shown(static)))
    bodies = [answer.refused(409, "redemption_code_invalid") for answer in answers]
    assert all(body == bodies[0] for body in bodies)
    assert ledger.store.head() == head


def test_the_coupon_decides(orders, shop, coupon_id, ledger):
    static = till.static_code(CODE_KEYS, shop.merchant_id, coupon_id)
    orders.post(PATH, shown(static) | {"discount_minor": 501}).refused(422, "not_applicable")
    lock = use_cases.lock(shop.request(), "online-1", user_id="user-1", coupon_ids=[coupon_id])
    ledger.do(lock)
    orders.post(PATH, shown(static)).refused(409, "coupon_locked")
    ledger.do(use_cases.unlock(shop.request(), "online-1", coupon_ids=[coupon_id], reason="left"))
    parts = [{"line_id": "1", "discount_minor": 300}, {"line_id": "2", "discount_minor": 200}]
    orders.post(PATH, shown(static, order_total_minor=5_000, allocation=parts)).ok()
    used = ledger.store.history(f"coupon-{coupon_id}")[-1].event
    assert (used.TOPIC, used.channel, used.order_total_minor) == ("coupon.used", "in_store", 5_000)
    assert [part["line_id"] for part in used.allocation] == ["1", "2"]


def test_a_void_coupon_is_gone(orders, shop, coupon_id, ledger):
    ledger.do(use_cases.void(shop.request(), coupon_id, reason="fraud"))
    static = till.static_code(CODE_KEYS, shop.merchant_id, coupon_id)
    orders.post(PATH, shown(static)).refused(410, "coupon_void")


def test_trying_codes_of_one_coupon_ends(orders, shop, coupon_id):
    forged = till.static_code(CodeKeys.parse("test=" + "x" * 32), shop.merchant_id, coupon_id)
    for _ in range(code_store.USER_MISSES):
        orders.post(PATH, shown(forged)).refused(409, "redemption_code_invalid")
    answer = orders.post(PATH, shown(till.static_code(CODE_KEYS, shop.merchant_id, coupon_id)))
    answer.refused(429, "too_many_misses")
    other = shop.coupon("user-2")
    orders.post(PATH, shown(till.static_code(CODE_KEYS, shop.merchant_id, other))).ok()


@pytest.mark.parametrize(
    ("member", "value"),
    [("discount_minor", -1), ("discount_minor", None), ("order_id", ""), ("allocation", [{"line_id": "1"}])],
)
def test_what_makes_no_sense(member, value, orders, shop, coupon_id):
    body = shown(till.static_code(CODE_KEYS, shop.merchant_id, coupon_id)) | {member: value}
    orders.post(PATH, body).refused(422, "invalid_field")


def test_an_allocation_sums_to_the_discount(orders, shop, coupon_id):
    parts = [{"line_id": "1", "discount_minor": 300}]
    static = till.static_code(CODE_KEYS, shop.merchant_id, coupon_id)
    orders.post(PATH, shown(static, allocation=parts)).refused(422, "invalid_field")


def test_only_the_merchants_coupons_have_codes(phone, stranger, coupon_id):
    phone.get(f"/v1/coupons/{'0' * 26}/till-code").refused(404, "coupon_not_found")
    stranger("shopper-app").get(f"/v1/coupons/{coupon_id}/till-code").refused(404, "coupon_not_found")
