"""GET /v1/coupons/{id}/till-code and POST /v1/redemptions: a coupon used in a shop."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ledger import code_store, till, use_cases
from ledger.benefit import Benefit
from ledger.codes import CodeKeys
from ledger.scope import Scope, UseHours
from tests.http.conftest import CODE_KEYS
from tests.unit.specs import TERMS

PATH = "/v1/redemptions"


@pytest.fixture
def phone(as_role):
    """The shopper's app."""
    return as_role("shopper-app")


@pytest.fixture
def coupon_id(shop):
    return shop.coupon()


def asked(phone, coupon_id, user_id="user-1"):
    """The codes that the app shows for a user."""
    return phone.get(f"/v1/coupons/{coupon_id}/till-code", user_id=user_id).ok()


def static_of(shop, coupon_id, user_id="user-1", keys=CODE_KEYS):
    return till.static_code(keys, shop.merchant_id, coupon_id, user_id)


def shown(code, order_id="till-1", **more):
    return {"code": code, "order_id": order_id, "discount_minor": 500, **more}


def test_what_the_phone_shows_is_used_at_the_till(phone, orders, coupon_id):
    found = asked(phone, coupon_id)
    assert found.keys() == {"coupon_id", "code", "changes_at", "static_code"}
    used = orders.post(PATH, shown(found["code"].lower())).ok()
    assert used["order_id"] == "till-1"
    assert used["redemptions"][0]["coupon_id"] == coupon_id
    assert phone.get(f"/v1/coupons/{coupon_id}").ok()["state"] == "USED"


def test_it_is_used_once(phone, orders, coupon_id):
    """A second scan under its own key is refused; the same scan again is answered as it was, even much later."""
    found = asked(phone, coupon_id)
    first = orders.post(PATH, shown(found["code"]), key="scan")
    for code in (found["code"], found["static_code"]):
        orders.post(PATH, shown(code)).refused(409, "coupon_used")
        orders.post(PATH, shown(code, "till-2")).refused(409, "coupon_used")
    again = orders.post(PATH, shown(found["code"]), key="scan")
    assert again.ok() == first.ok()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_stale_code_is_refused_but_its_repeat_answered(orders, coupon_id, ledger, shop, monkeypatch):
    code = till.till_code(
        CODE_KEYS, shop.merchant_id, coupon_id, "user-1", ledger.store.now() - timedelta(minutes=2)
    ).code
    orders.post(PATH, shown(code)).refused(409, "redemption_code_invalid")
    with monkeypatch.context() as patched:
        patched.setattr(till, "WINDOWS", 10)
        first = orders.post(PATH, shown(code), key="scan").ok()
    assert orders.post(PATH, shown(code), key="scan").ok() == first


def test_the_static_code_is_longer_and_stays(phone, orders, coupon_id):
    found = asked(phone, coupon_id)
    assert asked(phone, coupon_id)["static_code"] == found["static_code"]
    assert len(found["static_code"]) > len(found["code"])
    orders.post(PATH, shown(found["static_code"], coupon_id=coupon_id)).ok()


def test_the_code_must_be_the_named_coupons(phone, orders, shop, coupon_id):
    other = shop.coupon("user-2")
    found = asked(phone, coupon_id)
    orders.post(PATH, shown(found["static_code"], coupon_id=other)).refused(409, "redemption_code_invalid")
    orders.post(PATH, shown(found["code"], coupon_id=other)).refused(409, "redemption_code_invalid")


def test_every_other_code_is_refused_alike(orders, stranger, shop, coupon_id, ledger):
    head = ledger.store.head()
    static = static_of(shop, coupon_id)
    forged = static_of(shop, coupon_id, keys=CodeKeys.parse("test=" + "x" * 32))
    unknown = static_of(shop, "0" * 26)
    answers = [orders.post(PATH, shown(code)) for code in ("nonsense", static[:-1] + "2", forged, unknown)]
    answers.append(stranger("orders").post(PATH, shown(static)))
    bodies = [answer.refused(409, "redemption_code_invalid") for answer in answers]
    assert all(body == bodies[0] for body in bodies)
    assert ledger.store.head() == head


def test_the_coupon_decides(orders, shop, coupon_id, ledger):
    static = static_of(shop, coupon_id)
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


IN_SCOPE = replace(
    TERMS,
    min_spend_minor=1_000,
    scope=Scope(shops=("shop-1",), categories=("tea",)),
    use_hours=(UseHours(from_minute=0, until_minute=1_440),),
)


def bought(*prices, **line):
    line = {"product_id": "p", "categories": ["tea"], "shop_id": "shop-1"} | line
    lines = [{**line, "line_id": str(n), "unit_price_minor": price} for n, price in enumerate(prices, 1)]
    return {"lines": lines, "currency": "EUR"}


def at_till(shop, terms, basket, **more):
    """What a till sends of a new coupon on these terms, without a discount unless one is named."""
    coupon_id = shop.coupon(batch_id=shop.batch(terms=terms))
    code = static_of(shop, coupon_id)
    return coupon_id, {"code": code, "order_id": "till-1", "basket": basket, **more}


def test_a_basket_is_priced_at_the_till(orders, shop, ledger):
    coupon_id, body = at_till(shop, IN_SCOPE, bought(900, 600))
    (redeemed,) = orders.post(PATH, body).ok()["redemptions"]
    assert redeemed["discount_minor"] == 500
    assert [(part["line_id"], part["discount_minor"]) for part in redeemed["allocation"]] == [("1", 300), ("2", 200)]
    locked, used = (entry.event for entry in ledger.store.history(f"coupon-{coupon_id}")[-2:])
    assert (locked.order_total_minor, locked.discount_minor, len(locked.quote_digest)) == (1_500, 500, 64)
    assert (used.channel, used.order_total_minor, used.allocation) == ("in_store", 1_500, redeemed["allocation"])


REFUSED_AT_TILL = [
    (IN_SCOPE, bought(900), "below_min_spend"),
    (IN_SCOPE, bought(900, 600, shop_id="shop-2"), "out_of_scope"),
    (IN_SCOPE, bought(900, 600, categories=["mugs"]), "out_of_scope"),
    (IN_SCOPE, bought(900, 600) | {"currency": "USD"}, "out_of_scope"),
    (replace(TERMS, scope=Scope(channels=("online",))), bought(900), "out_of_scope"),
]


@pytest.mark.parametrize(("terms", "basket", "code"), REFUSED_AT_TILL)
def test_every_term_holds_at_the_till(terms, basket, code, orders, shop, ledger):
    coupon_id, body = at_till(shop, terms, basket)
    orders.post(PATH, body).refused(422, code)
    orders.post(PATH, body | {"discount_minor": 1}).refused(422, code)
    assert len(ledger.store.history(f"coupon-{coupon_id}")) == 1


def test_hours_hold_at_the_till(orders, shop, ledger):
    another_day = (ledger.store.now() + timedelta(days=2)).isoweekday()
    closed = replace(TERMS, use_hours=(UseHours(weekdays=(another_day,)),))
    _, body = at_till(shop, closed, bought(900))
    orders.post(PATH, body).refused(422, "out_of_hours")


def test_a_till_may_take_less_off_than_was_found_and_never_more(orders, shop, ledger):
    coupon_id, body = at_till(shop, IN_SCOPE, bought(900, 600))
    problem = orders.post(PATH, body | {"discount_minor": 501}).refused(422, "not_applicable")
    assert problem["facts"]["most_minor"] == 500
    (redeemed,) = orders.post(PATH, body | {"discount_minor": 499}).ok()["redemptions"]
    assert redeemed["discount_minor"] == 499
    assert [(part["line_id"], part["discount_minor"]) for part in redeemed["allocation"]] == [("1", 299), ("2", 200)]
    used = ledger.store.history(f"coupon-{coupon_id}")[-1].event
    assert (used.discount_minor, used.allocation) == (499, redeemed["allocation"])


def scanned(orders, shop, basket, *terms, **more):
    """Coupons of these terms, one scan after the other for one order; answers the last."""
    for each in terms:
        _, body = at_till(shop, each, basket, **more)
        answer = orders.post(PATH, body)
    return answer


def test_a_till_is_judged_with_what_the_order_used_before(orders, shop):
    eight = replace(TERMS, benefit=Benefit(kind="amount_off", value_minor=800))
    scanned(orders, shop, bought(1_000), eight, eight).refused(422, "exclusive_conflict")
    stacking = replace(eight, stacking_mode="stackable")
    again = scanned(orders, shop, bought(1_000), stacking, stacking, order_id="till-2")
    assert again.refused(422, "not_applicable")["facts"] == {
        "order_id": "till-2",
        "line_id": "1",
        "discount_minor": 1_600,
        "most_minor": 1_000,
    }
    _, body = at_till(shop, stacking, bought(1_000), order_id="till-2", discount_minor=200)
    orders.post(PATH, body).ok()


@pytest.mark.parametrize("code", ["code", "static_code"])
def test_either_code_is_judged_with_what_the_order_used_before(code, phone, orders, shop):
    stacking = shop.batch(terms=replace(TERMS, stacking_mode="stackable"), per_user_limit=None)
    alone = shop.batch(terms=TERMS)
    first, second, third = [shop.coupon(batch_id=batch) for batch in (stacking, stacking, alone)]
    orders.post(PATH, shown(asked(phone, first)[code])).ok()
    orders.post(PATH, shown(asked(phone, second)[code])).ok()
    orders.post(PATH, shown(asked(phone, third)[code])).refused(422, "exclusive_conflict")


@pytest.mark.parametrize(
    "benefit", [Benefit(kind="fixed_price", value_minor=5_000), Benefit(kind="free_shipping")], ids=lambda it: it.kind
)
def test_a_till_spends_no_coupon_for_nothing(benefit, orders, shop, ledger):
    coupon_id, body = at_till(shop, replace(TERMS, benefit=benefit), bought(1_000, 1_000))
    assert orders.post(PATH, body).refused(422, "not_applicable")["facts"] == {"coupon_id": coupon_id}
    assert len(ledger.store.history(f"coupon-{coupon_id}")) == 1


def test_a_till_that_takes_less_off_may_split_it_by_itself(orders, shop, ledger):
    parts = [{"line_id": "1", "discount_minor": 100}, {"line_id": "2", "discount_minor": 200}]
    coupon_id, body = at_till(shop, IN_SCOPE, bought(900, 600), discount_minor=300, allocation=parts)
    assert "allocation" not in orders.post(PATH, body).ok()["redemptions"][0]
    kept = ledger.store.history(f"coupon-{coupon_id}")[-1].event.allocation
    assert [part["discount_minor"] for part in kept] == [100, 200]


def test_a_till_puts_no_more_on_a_line_than_was_found(orders, shop):
    parts = [{"line_id": "1", "discount_minor": 49}, {"line_id": "2", "discount_minor": 201}]
    coupon_id, body = at_till(shop, IN_SCOPE, bought(900, 600), discount_minor=250, allocation=parts)
    problem = orders.post(PATH, body).refused(422, "not_applicable")
    assert problem["facts"] == {"coupon_id": coupon_id, "line_id": "2", "discount_minor": 201, "most_minor": 200}


def given_away(shop, coupon_id, to_user_id="user-2", user_id="user-1"):
    """The coupon is another user's from now on."""
    shop.ledger.do(use_cases.transfer(shop.request(), coupon_id, user_id=user_id, to_user_id=to_user_id))


def shared(shop, coupon_id, *friends):
    shop.ledger.do(use_cases.share(shop.request(), coupon_id, user_id="user-1", with_user_ids=friends))


def test_a_transfer_ends_the_codes_of_who_gave_it_away(phone, orders, shop, ledger):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, transferable=True)))
    before = asked(phone, coupon_id)
    given_away(shop, coupon_id)
    phone.get(f"/v1/coupons/{coupon_id}/till-code", user_id="user-1").refused(404, "coupon_not_found")
    for code in (before["static_code"], before["code"]):
        orders.post(PATH, shown(code)).refused(409, "redemption_code_invalid")
        orders.post(PATH, shown(code, user_id="user-2")).refused(409, "redemption_code_invalid")
    orders.post(PATH, shown(asked(phone, coupon_id, "user-2")["code"])).ok()
    assert ledger.store.history(f"coupon-{coupon_id}")[-1].event.holder_id == "user-2"


def test_a_transfer_while_the_till_looks_is_seen(phone, orders, shop, monkeypatch):
    """Between the look-up of the code and the decision."""
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, transferable=True)))
    static = asked(phone, coupon_id)["static_code"]

    def late(*arguments, **named):
        given_away(shop, coupon_id)
        return use_cases.redeem(*arguments, **named)

    monkeypatch.setattr("ledger.typed_codes.redeem", late)
    orders.post(PATH, shown(static)).refused(409, "redemption_code_invalid")


def test_a_friend_uses_a_shared_coupon_with_a_code_of_the_friends_own(phone, orders, shop, ledger):
    coupon_id, body = at_till(shop, replace(TERMS, shareable=True), bought(900))
    phone.get(f"/v1/coupons/{coupon_id}/till-code", user_id="user-2").refused(404, "coupon_not_found")
    shared(shop, coupon_id, "user-2")
    codes = asked(phone, coupon_id, "user-2")
    assert codes["static_code"] != asked(phone, coupon_id)["static_code"]
    body["code"] = codes["static_code"]
    orders.post(PATH, body | {"user_id": "user-1"}).refused(409, "redemption_code_invalid")
    orders.post(PATH, body | {"user_id": "user-2"}).ok()
    assert ledger.store.history(f"coupon-{coupon_id}")[-1].event.holder_id == "user-2"


def test_the_end_of_sharing_ends_the_friends_codes_and_no_other(phone, orders, shop, ledger):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, shareable=True)))
    shared(shop, coupon_id, "user-2", "user-3")
    of_one, of_other = asked(phone, coupon_id, "user-2"), asked(phone, coupon_id, "user-3")
    shared(shop, coupon_id, "user-3")
    for code in of_one["static_code"], of_one["code"]:
        orders.post(PATH, shown(code)).refused(409, "redemption_code_invalid")
    phone.get(f"/v1/coupons/{coupon_id}/qr.svg", user_id="user-2").refused(404, "coupon_not_found")
    orders.post(PATH, shown(of_other["static_code"])).ok()
    assert ledger.store.history(f"coupon-{coupon_id}")[-1].event.holder_id == "user-3"


def test_whose_code_it_is_must_be_said(phone, coupon_id):
    answer = phone.get(f"/v1/coupons/{coupon_id}/till-code")
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["user_id"]


def test_a_voucher_pays_a_basket_as_far_as_it_goes(orders, shop):
    voucher = replace(TERMS, benefit=Benefit(kind="cash_voucher", value_minor=2_000, leaves_balance=True))
    _, body = at_till(shop, voucher, bought(900, 600))
    (redeemed,) = orders.post(PATH, body).ok()["redemptions"]
    assert (redeemed["discount_minor"], redeemed["balance_minor"]) == (1_500, 500)
    (redeemed,) = orders.post(PATH, body | {"order_id": "till-2"}).ok()["redemptions"]
    assert (redeemed["discount_minor"], redeemed["balance_minor"]) == (500, 0)
    orders.post(PATH, body | {"order_id": "till-3"}).refused(409, "coupon_used")


def test_a_till_states_the_discount_of_a_coupon_whose_terms_leave_it_to_the_till(orders, shop):
    _, body = at_till(shop, replace(TERMS, benefit=Benefit(kind="order_stated")), bought(900))
    answer = orders.post(PATH, body)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/discount_minor"]
    assert orders.post(PATH, body | {"discount_minor": 300}).ok()["redemptions"][0]["discount_minor"] == 300


def test_a_basket_of_a_till_is_bought_in_the_store(orders, shop):
    _, body = at_till(shop, TERMS, bought(900) | {"channel": "online"})
    answer = orders.post(PATH, body)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/basket/channel"]
    body["basket"]["channel"] = "in_store"
    orders.post(PATH, body).ok()


def test_a_void_coupon_is_gone(orders, shop, coupon_id, ledger):
    ledger.do(use_cases.void(shop.request(), coupon_id, reason="fraud"))
    static = static_of(shop, coupon_id)
    orders.post(PATH, shown(static)).refused(410, "coupon_void")


def test_trying_codes_of_one_coupon_ends(orders, shop, coupon_id):
    forged = static_of(shop, coupon_id, keys=CodeKeys.parse("test=" + "x" * 32))
    for _ in range(code_store.USER_MISSES):
        orders.post(PATH, shown(forged)).refused(409, "redemption_code_invalid")
    answer = orders.post(PATH, shown(static_of(shop, coupon_id)))
    answer.refused(429, "too_many_misses")
    other = shop.coupon("user-2")
    orders.post(PATH, shown(static_of(shop, other, "user-2"))).ok()


@pytest.mark.parametrize(
    ("member", "value"),
    [("discount_minor", -1), ("discount_minor", None), ("order_id", ""), ("allocation", [{"line_id": "1"}])],
)
def test_what_makes_no_sense(member, value, orders, shop, coupon_id):
    body = shown(static_of(shop, coupon_id)) | {member: value}
    orders.post(PATH, body).refused(422, "invalid_field")


def test_an_allocation_sums_to_the_discount(orders, shop, coupon_id):
    parts = [{"line_id": "1", "discount_minor": 300}]
    static = static_of(shop, coupon_id)
    orders.post(PATH, shown(static, allocation=parts)).refused(422, "invalid_field")


def test_only_the_merchants_coupons_have_codes(phone, stranger, coupon_id):
    phone.get(f"/v1/coupons/{'0' * 26}/till-code", user_id="user-1").refused(404, "coupon_not_found")
    theirs = stranger("shopper-app").get(f"/v1/coupons/{coupon_id}/till-code", user_id="user-1")
    theirs.refused(404, "coupon_not_found")
