"""POST /v1/orders/{id}/quotes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger import errors, use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.scope import Scope
from ledger.terms import Terms
from ledger.work import Receipt, Work

LINES = [
    {"line_id": "1", "product_id": "tea", "unit_price_minor": 1_000, "quantity": 2, "categories": ["food"]},
    {"line_id": "2", "product_id": "cup", "unit_price_minor": 1_001, "shop_id": "shop-1"},
]
BASKET = {"lines": LINES, "currency": "EUR", "shipping_minor": 490}
PATH = "/v1/orders/order-1/quotes"


def ask(**body):
    return {"user_id": "user-1", "basket": BASKET, **body}


@pytest.fixture
def offer(shop):
    """Makes a coupon of user-1 with such terms."""

    def make(user_id="user-1", *, mode="stackable", currency="EUR", benefit=None, **terms):
        own = {"benefit": benefit or Benefit(kind="amount_off", value_minor=500), "currency": currency, **terms}
        return shop.coupon(user_id, shop.batch(terms=Terms(stacking_mode=mode, **own)))

    return make


def test_answers_the_best_combination_of_the_wallet_and_writes_nothing(orders, offer, shop, project, ledger):
    five = offer()
    tenth = offer(benefit=Benefit(kind="percent_off", percent_permyriad=1_000))
    ships = offer(benefit=Benefit(kind="free_shipping"))
    alone = offer(mode="exclusive")
    offer("user-2")
    project()
    head = ledger.store.head()
    quote = orders.post(PATH, ask(), key=None).ok()
    assert ledger.store.head() == head
    assert quote | {"best": 0, "coupons": 0, "digest": 0} == {
        "order_id": "order-1",
        "user_id": "user-1",
        "currency": "EUR",
        "total_minor": 3_001,
        "shipping_minor": 490,
        "discount_minor": 500 + 250 + 490,
        "shipping_discount_minor": 490,
        "payable_minor": 3_491 - 1_240,
        "exact": True,
        "best": 0,
        "coupons": 0,
        "digest": 0,
    }
    assert [(each["coupon_id"], each["discount_minor"]) for each in quote["best"]] == [
        (five, 500),
        (tenth, 250),
        (ships, 490),
    ]
    assert [[part["discount_minor"] for part in each["allocation"]] for each in quote["best"]] == [
        [333, 167],
        [167, 83],
        [],
    ]
    found = {each["coupon_id"]: each for each in quote["coupons"]}
    assert found.keys() == {five, tenth, ships, alone}
    assert found[alone] == {
        "coupon_id": alone,
        "outcome": "excluded",
        "usable": True,
        "discount_minor": 500,
        "with_coupon_id": five,
        "refusal": None,
    }
    assert found[tenth]["discount_minor"] == 300


def test_each_refusal_says_its_facts(orders, offer, project):
    dear = offer(min_spend_minor=5_000)
    elsewhere = offer(scope=Scope(shops=("shop-2",)))
    dollars = offer(currency="USD")
    in_store = offer(scope=Scope(channels=("in_store",)))
    project()
    found = {each["coupon_id"]: each["refusal"] for each in orders.post(PATH, ask()).ok()["coupons"]}
    assert found[dear]["code"] == "below_min_spend"
    assert found[dear]["facts"] == {
        "coupon_id": dear,
        "min_spend_minor": 5_000,
        "eligible_minor": 3_001,
        "missing_minor": 1_999,
    }
    assert {id: found[id]["facts"]["field"] for id in (elsewhere, dollars, in_store)} == {
        elsewhere: "lines",
        dollars: "currency",
        in_store: "channel",
    }
    assert {found[id]["code"] for id in (elsewhere, dollars, in_store)} == {"out_of_scope"}


def test_decides_on_the_newest_events_not_on_the_wallet(orders, offer, shop, project):
    mine, held, voided = offer(), offer(), offer()
    project()
    lock = use_cases.lock(shop.request(), "order-2", user_id="user-1", coupon_ids=[held])
    shop.ledger.do(lock)
    shop.ledger.do(use_cases.void(shop.request(), voided, reason="fraud"))
    quote = orders.post(PATH, ask()).ok()
    outcomes = {each["coupon_id"]: (each["outcome"], (each["refusal"] or {}).get("code")) for each in quote["coupons"]}
    assert outcomes == {
        mine: ("used", None),
        held: ("refused", "coupon_locked"),
        voided: ("refused", "coupon_void"),
    }


def test_a_wallet_that_lags_leaves_out_what_the_user_gave_away(orders, offer, shop, project):
    mine, given = offer(), offer(transferable=True)
    project()
    shop.ledger.do(use_cases.transfer(shop.request(), given, user_id="user-1", to_user_id="user-2"))
    quote = orders.post(PATH, ask()).ok()
    assert [each["coupon_id"] for each in quote["coupons"]] == [mine]
    orders.post(PATH, ask(coupon_ids=[mine, given])).refused(404, "coupon_not_found")


def test_a_quote_waits_for_no_other_decision_and_holds_none_up(orders, offer, shop):
    """Pricing the largest basket takes far longer than a lock, so it is done in the caller's own thread."""
    coupon_id = offer()
    begun, end = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        assert end.wait(30)
        return Receipt({}, 0)

    with ThreadPoolExecutor(2) as callers:
        try:
            asked = callers.submit(shop.ledger.ask, Work(shop.request(), (), wait))
            assert begun.wait(30)
            shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
            begun.clear()
            done = callers.submit(shop.ledger.do, Work(shop.request(), (), wait))
            assert begun.wait(30)
            assert orders.post(PATH, ask(coupon_ids=[coupon_id])).ok()["coupons"][0]["outcome"] == "used"
        finally:
            end.set()
        assert asked.result(30).answer == done.result(30).answer == {}


def test_quotes_count_among_the_callers(ledger, shop):
    with pytest.raises(errors.QueueFull):
        Ledger(ledger.store, callers_limit=0).ask(Work(shop.request(), (), lambda _: Receipt({}, 0)))


def test_what_the_order_holds_is_still_usable_for_it(orders, scene):
    held, _ = scene.locked("order-1")
    quote = orders.post(PATH, ask(coupon_ids=[held])).ok()
    assert quote["coupons"][0]["outcome"] == "used"
    other = orders.post("/v1/orders/order-2/quotes", ask(coupon_ids=[held])).ok()
    assert other["coupons"][0]["refusal"]["code"] == "coupon_locked"


def test_a_used_coupon_says_so(orders, scene):
    used = scene.used()
    refusal = orders.post(PATH, ask(coupon_ids=[used])).ok()["coupons"][0]["refusal"]
    assert refusal["code"] == "coupon_used"


def test_a_user_without_coupons_pays_everything(orders, project):
    project()
    quote = orders.post(PATH, ask(user_id="nobody")).ok()
    assert (quote["coupons"], quote["best"], quote["payable_minor"]) == ([], [], 3_491)


def test_the_same_question_has_the_same_digest(orders, offer):
    ids = [offer(), offer()]
    first = orders.post(PATH, ask(coupon_ids=ids)).ok()["digest"]
    assert orders.post(PATH, ask(coupon_ids=ids[::-1])).ok()["digest"] == first
    dearer = BASKET | {"lines": [LINES[0], LINES[1] | {"unit_price_minor": 1_002}]}
    assert orders.post(PATH, ask(coupon_ids=ids, basket=dearer)).ok()["digest"] != first


def test_the_best_combination_can_be_locked_and_confirmed_as_quoted(orders, offer):
    ids = [offer(), offer(benefit=Benefit(kind="percent_off", percent_permyriad=1_000))]
    quote = orders.post(PATH, ask(coupon_ids=ids)).ok()
    lock = {
        "user_id": "user-1",
        "coupon_ids": [each["coupon_id"] for each in quote["best"]],
        "order_total_minor": quote["total_minor"],
        "quote_digest": quote["digest"],
    }
    orders.post("/v1/orders/order-1/locks", lock).ok()
    redemptions = [
        {name: each[name] for name in ("coupon_id", "discount_minor", "allocation")} for each in quote["best"]
    ]
    orders.post("/v1/orders/order-1/confirmations", {"redemptions": redemptions}).ok()


def test_a_digest_holds_for_a_lock_with_what_the_order_system_values(orders, offer):
    ids = [offer(), offer(benefit=Benefit(kind="order_stated"))]
    quote = orders.post(PATH, ask(coupon_ids=ids)).ok()
    assert {each["outcome"] for each in quote["coupons"]} == {"used", "unvalued"}
    lock = {"user_id": "user-1", "coupon_ids": ids, "basket": ask()["basket"], "quote_digest": quote["digest"]}
    locked = orders.post("/v1/orders/order-1/locks", lock).ok()
    assert (locked["quote_digest"], locked["discount_minor"]) == (quote["digest"], quote["discount_minor"])
    told = [{"coupon_id": ids[0]}, {"coupon_id": ids[1], "discount_minor": 7}]
    orders.post("/v1/orders/order-1/confirmations", {"redemptions": told}).ok()


def test_a_voucher_of_which_the_order_spent_a_part_is_not_offered_to_it(orders, offer, shop):
    """Its lock refuses it, as the quote says."""
    voucher = offer(benefit=Benefit(kind="cash_voucher", value_minor=1_000, leaves_balance=True))
    work = use_cases.redeem(shop.request(), "order-1", coupon_id=voucher, discount_minor=300, user_id="user-1")
    shop.ledger.do(work)
    (quoted,) = orders.post(PATH, ask(coupon_ids=[voucher])).ok()["coupons"]
    assert (quoted["outcome"], quoted["refusal"]["code"]) == ("refused", "coupon_used")
    lock = {"user_id": "user-1", "coupon_ids": [voucher], "basket": ask()["basket"]}
    orders.post("/v1/orders/order-1/locks", lock).refused(409, "coupon_used")
    other = orders.post("/v1/orders/order-2/quotes", ask(coupon_ids=[voucher])).ok()
    assert other["discount_minor"] == 700


def test_another_users_or_unknown_coupons_look_alike(orders, offer):
    theirs = offer("user-2")
    foreign = orders.post(PATH, ask(coupon_ids=[theirs])).refused(404, "coupon_not_found")
    unknown = orders.post(PATH, ask(coupon_ids=["0" * 26])).refused(404, "coupon_not_found")
    assert str(foreign).replace(theirs, "?") == str(unknown).replace("0" * 26, "?")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"basket": BASKET | {"lines": []}}, "/basket/lines"),
        ({"basket": BASKET | {"lines": [LINES[0], LINES[0]]}}, "/basket/lines"),
        ({"basket": BASKET | {"currency": "eur"}}, "/basket/currency"),
        ({"basket": BASKET | {"channel": "by mail"}}, "/basket/channel"),
        ({"basket": BASKET | {"shipping_minor": -1}}, "/basket/shipping_minor"),
        ({"basket": BASKET | {"lines": [LINES[0] | {"quantity": 0}]}}, "/basket/lines/0/quantity"),
        ({"basket": BASKET | {"lines": [LINES[0] | {"discounted_minor": 9_999}]}}, "/basket/lines/0/discounted_minor"),
        ({"coupon_ids": [str(number) for number in range(201)]}, "/coupon_ids"),
        ({"user_id": ""}, "/user_id"),
        ({"now": "2026-06-01T00:00:00Z"}, "/now"),
    ],
)
def test_refuses_what_is_no_basket(orders, change, pointer):
    answer = orders.post(PATH, ask(**change))
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [pointer]


def test_a_coupon_named_twice_is_refused(orders, offer):
    coupon_id = offer()
    orders.post(PATH, ask(coupon_ids=[coupon_id, coupon_id])).refused(422, "invalid_field")


def test_only_order_systems_and_the_shops_app_may_ask(as_role, offer):
    coupon_id = offer()
    for role in ("operator", "auditor", "analyst"):
        as_role(role).post(PATH, ask(coupon_ids=[coupon_id])).refused(403, "forbidden_scope")
    as_role("shopper-app").post(PATH, ask(coupon_ids=[coupon_id])).ok()


def test_a_cash_voucher_is_worth_what_is_left_on_it(orders, offer, shop):
    voucher = offer(benefit=Benefit(kind="cash_voucher", value_minor=2_000, leaves_balance=True))
    work = use_cases.lock(shop.request(), "order-0", user_id="user-1", coupon_ids=[voucher])
    shop.ledger.do(work)
    spent = Redemption(coupon_id=voucher, discount_minor=1_400)
    shop.ledger.do(use_cases.confirm(shop.request(), "order-0", [spent]))
    quote = orders.post(PATH, ask(coupon_ids=[voucher])).ok()
    assert quote["discount_minor"] == 600
