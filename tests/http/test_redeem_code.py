"""POST /v1/codes/redemptions."""

from __future__ import annotations

import pytest

from api.app import create_app
from ledger import code_jobs, code_store
from ledger.audience import Audience
from tests.http.conftest import CODE_KEYS

PATH = "/v1/codes/redemptions"


@pytest.fixture
def app_of_the_shop(as_role):
    return as_role("shopper-app")


def test_gives_a_coupon(app_of_the_shop, scene):
    code = scene.code()
    answer = app_of_the_shop.post(PATH, {"code": f" {code.lower()} ", "user_id": "user-1"})
    coupon = answer.ok(201)
    assert coupon.keys() == {"coupon_id", "batch_id", "user_id", "valid_from", "valid_until"}
    assert answer.headers["Location"] == f"/v1/coupons/{coupon['coupon_id']}"
    assert app_of_the_shop.get(answer.headers["Location"]).ok()["state"] == "UNUSED"


def test_who_hears_that_it_was_used(app_of_the_shop, operator, scene):
    body = {"code": scene.code(), "user_id": "user-1"}
    coupon_id = app_of_the_shop.post(PATH, body).ok(201)["coupon_id"]
    assert app_of_the_shop.post(PATH, body).refused(409, "code_used")["facts"] == {"coupon_id": coupon_id}
    operator.post(PATH, body | {"user_id": "user-2"}).refused(409, "code_used")
    used = app_of_the_shop.post(PATH, body | {"user_id": "user-2"})
    unknown = app_of_the_shop.post(PATH, {"code": "never-made", "user_id": "user-2"})
    assert used.refused(404, "code_not_found") == unknown.refused(404, "code_not_found")


def test_another_merchants_code_is_none(stranger, scene):
    body = {"code": scene.code(), "user_id": "user-1"}
    stranger("shopper-app").post(PATH, body).refused(404, "code_not_found")


def test_the_batchs_audience_is_asked(app_of_the_shop, shop, ledger):
    batch_id = shop.batch(audience=Audience(tiers=("gold",)))
    listed = code_jobs.generic_code("GOLD-ONLY")
    code_jobs.import_codes(ledger, CODE_KEYS, shop.request(), batch_id, listed, "generic")
    body = {"code": "gold only", "user_id": "user-1"}
    app_of_the_shop.post(PATH, body).refused(422, "fact_required")
    app_of_the_shop.post(PATH, body | {"facts": {"tier": "silver"}}).refused(409, "not_in_audience")
    app_of_the_shop.post(PATH, body | {"facts": {"tier": "gold"}}).ok(201)


def test_guessing_ends(app_of_the_shop, scene):
    """https://github.com/bagisto/bagisto/pull/5145"""
    for number in range(code_store.USER_MISSES):
        body = {"code": f"guess-{number}", "user_id": "user-1"}
        app_of_the_shop.post(PATH, body).refused(404, "code_not_found")
    answer = app_of_the_shop.post(PATH, {"code": scene.code(), "user_id": "user-1"})
    seconds = answer.refused(429, "too_many_misses")["facts"]["retry_after_seconds"]
    assert answer.headers["Retry-After"] == str(seconds)
    assert 0 < seconds <= code_store.MISS_WINDOW_SECONDS


def test_an_address_is_the_clients_own_where_it_is_told(app_of_the_shop, scene, monkeypatch):
    monkeypatch.setattr(code_store, "ADDRESS_MISSES", 3)
    for number in range(3):
        body = {"code": "guess", "user_id": f"user-{number}", "client_address": "198.51.100.7"}
        app_of_the_shop.post(PATH, body).refused(404, "code_not_found")
    good = {"code": scene.code(), "user_id": "somebody"}
    app_of_the_shop.post(PATH, good | {"client_address": "198.51.100.7"}).refused(429, "too_many_misses")
    app_of_the_shop.post(PATH, good | {"client_address": "198.51.100.8"}).ok(201)


def test_one_guesser_behind_a_load_balancer_closes_the_shop_to_nobody_else(app_of_the_shop, scene, monkeypatch):
    """The connection is the shop's server, whoever asks it."""
    monkeypatch.setattr(code_store, "ADDRESS_MISSES", 3)
    for number in range(5):
        app_of_the_shop.post(PATH, {"code": "guess", "user_id": f"user-{number}"}).refused(404, "code_not_found")
    app_of_the_shop.post(PATH, {"code": scene.code(), "user_id": "somebody"}).ok(201)


def test_an_address_is_counted_for_each_merchant(app_of_the_shop, stranger, scene, monkeypatch):
    monkeypatch.setattr(code_store, "ADDRESS_MISSES", 3)
    theirs = stranger("shopper-app")
    for number in range(4):
        body = {"code": "guess", "user_id": f"user-{number}", "client_address": "198.51.100.7"}
        answer = theirs.post(PATH, body)
    answer.refused(429, "too_many_misses")
    good = {"code": scene.code(), "user_id": "user-1", "client_address": "198.51.100.7"}
    app_of_the_shop.post(PATH, good).ok(201)


def test_a_code_is_no_longer_than_a_code(app_of_the_shop):
    app_of_the_shop.post(PATH, {"code": "A" * 129, "user_id": "user-1"}).refused(422, "invalid_field")
    app_of_the_shop.post(PATH, {"code": "", "user_id": "user-1"}).refused(422, "invalid_field")
    app_of_the_shop.post(PATH, {"code": "Grüße \u200b", "user_id": "user-1"}).refused(404, "code_not_found")


def test_a_server_without_a_key_says_so(ledger, as_role):
    caller = as_role("shopper-app")
    caller.client = create_app(ledger).test_client()
    caller.post(PATH, {"code": "SUMMER", "user_id": "user-1"}).refused(503, "unavailable")
