"""The throttle: who asks too fast hears when to come again, and what is refused has no effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from api import keys
from api.app import create_app
from api.throttle import Buckets, Limit, Limits, Throttle
from coupon_ledger.serve import limits_of
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from tests.conftest import MERCHANT, Shop
from tests.http.conftest import CODE_KEYS, Answer, Caller
from tests.postgres.tools import writers_blocked

POLICY = '"user";q=3;w=2'
USER = Limit(rate=2, burst=3)


class Clock:
    """Stands still until it is set on."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttled(ledger: Ledger, clock: Clock) -> Callable[..., Caller]:
    """Makes a caller, of merchant-1 unless told otherwise, of an application with these limits."""
    apps = {}

    def make(role: keys.Role = "shopper-app", merchant_id: str = MERCHANT, **limits) -> Caller:
        found = Limits(**limits)
        app = apps.setdefault(found, create_app(ledger, CODE_KEYS, Throttle(found, clock=clock)))
        with ledger.store.connection() as connection:
            return Caller(app, keys.create(connection, merchant_id, role, "test"))

    return make


@pytest.fixture
def batch_id(shop: Shop) -> str:
    return shop.batch(quantity=100, per_user_limit=None)


def claim(caller: Caller, batch_id: str, user_id: str = "user-1", **options) -> Answer:
    return caller.post(f"/v1/batches/{batch_id}/claims", {"user_id": user_id}, **options)


def test_a_user_who_claims_too_fast_waits(throttled, batch_id, clock, ledger):
    app = throttled(user=USER)
    left = []
    for _ in range(3):
        answer = claim(app, batch_id)
        answer.ok(201)
        assert answer.headers["RateLimit-Policy"] == POLICY
        left.append(answer.headers["RateLimit"])
    assert left == ['"user";r=2;t=1', '"user";r=1;t=1', '"user";r=0;t=2']
    head = ledger.store.head()
    for _ in range(2):  # a refusal takes nothing, so the wait does not grow
        answer = claim(app, batch_id)
        facts = answer.refused(429, "rate_limited")["facts"]
        assert facts == {"policy": "user", "retry_after_seconds": 1}
        assert answer.headers["Retry-After"] == "1"
        assert (answer.headers["RateLimit-Policy"], answer.headers["RateLimit"]) == (POLICY, '"user";r=0;t=1')
    assert ledger.store.head() == head
    claim(app, batch_id, "user-2").ok(201)
    clock.now += 0.5
    claim(app, batch_id).ok(201)
    claim(app, batch_id).refused(429, "rate_limited")
    clock.now += 100
    for _ in range(3):
        claim(app, batch_id).ok(201)
    claim(app, batch_id).refused(429, "rate_limited")


def test_a_refused_request_may_come_again_under_its_key(throttled, batch_id, clock):
    app = throttled(user=Limit(rate=1, burst=1))
    first = claim(app, batch_id, key="first").ok(201)
    claim(app, batch_id, key="second").refused(429, "rate_limited")
    claim(app, batch_id, key="first").refused(429, "rate_limited")  # a repeat counts too
    clock.now += 1
    assert claim(app, batch_id, key="first").ok(201) == first
    clock.now += 1
    assert claim(app, batch_id, key="second").ok(201) != first


def test_claims_and_codes_share_a_users_bucket(throttled, batch_id, scene):
    app = throttled(user=Limit(rate=1, burst=1))
    redeem = {"code": scene.code(), "user_id": "user-1"}
    claim(app, batch_id).ok(201)
    app.post("/v1/codes/redemptions", redeem).refused(429, "rate_limited")
    other = app.post("/v1/codes/redemptions", redeem | {"user_id": "user-2"})
    other.ok(201)
    assert other.headers["RateLimit"] == '"user";r=0;t=1'


def test_users_of_two_merchants_are_two(throttled, batch_id, ledger):
    limit = Limit(rate=1, burst=1)
    other = Shop(ledger, "merchant-2").batch(quantity=100)
    claim(throttled(user=limit), batch_id).ok(201)
    claim(throttled(merchant_id="merchant-2", user=limit), other).ok(201)
    claim(throttled(user=limit), batch_id).refused(429, "rate_limited")


def test_a_key_that_claims_has_its_own_limit(throttled, batch_id):
    app = throttled(claims_key=Limit(rate=1, burst=2), user=USER)
    claim(app, batch_id, "user-1").ok(201)
    answer = claim(app, batch_id, "user-2")
    answer.ok(201)
    assert answer.headers["RateLimit"] == '"key";r=0;t=2, "user";r=2;t=1'
    assert claim(app, batch_id, "user-3").refused(429, "rate_limited")["facts"]["policy"] == "key"
    assert app.get(f"/v1/batches/{batch_id}").ok()


def test_a_key_has_a_limit_for_everything_else(throttled, batch_id, clock):
    app = throttled("operator", key=Limit(rate=1, burst=2))
    for _ in range(2):
        answer = app.get(f"/v1/batches/{batch_id}")
        answer.ok()
        assert "RateLimit" not in answer.headers
    answer = app.get(f"/v1/batches/{batch_id}")
    answer.refused(429, "rate_limited")
    assert answer.headers["RateLimit"] == '"key";r=0;t=1'
    claim(app, batch_id).ok(201)
    app.get("/livez").ok()
    throttled("operator", key=Limit(rate=1, burst=2)).get(f"/v1/batches/{batch_id}").ok()
    clock.now += 1
    app.get(f"/v1/batches/{batch_id}").ok()


def test_who_has_no_key_hears_that_first(throttled, batch_id):
    app = throttled(key=Limit(rate=1, burst=1), user=Limit(rate=1, burst=1))
    app.token = "ck_0.wrong"
    for _ in range(3):
        claim(app, batch_id).refused(401, "unauthenticated")


def test_a_body_that_names_no_user_is_refused_for_that(throttled, batch_id):
    app = throttled(user=Limit(rate=1, burst=1), address=Limit(rate=1, burst=1_000))
    for user_id in (None, 5, "", "x" * 129, ["user-1"]):
        for _ in range(2):
            app.post(f"/v1/batches/{batch_id}/claims", {"user_id": user_id}).refused(422, "invalid_field")


FORWARDED = "X-Forwarded-For"


def test_the_address_is_the_peers_or_what_a_trusted_proxy_says(throttled, batch_id):
    limit = Limit(rate=1, burst=1)
    plain, behind = throttled(address=limit), throttled(address=limit, trusts_proxy=True)
    for number, caller in enumerate((plain, behind)):
        claim(caller, batch_id, f"a-{number}", headers={FORWARDED: "198.51.100.1"}).ok(201)
    # Whoever writes the header may write what it likes before the proxy's own entry.
    forged = {FORWARDED: "203.0.113.9, 198.51.100.1"}
    claim(plain, batch_id, "b", headers={FORWARDED: "198.51.100.2"}).refused(429, "rate_limited")
    assert claim(behind, batch_id, "b", headers=forged).refused(429, "rate_limited")["facts"]["policy"] == "address"
    claim(behind, batch_id, "b", headers={FORWARDED: "198.51.100.2"}).ok(201)
    claim(behind, batch_id, "c").ok(201)


def test_addresses_of_one_ipv6_network_are_one(throttled, batch_id):
    app = throttled(address=Limit(rate=1, burst=1), trusts_proxy=True)
    claim(app, batch_id, "a", headers={FORWARDED: "2001:db8:0:1::1"}).ok(201)
    claim(app, batch_id, "b", headers={FORWARDED: "2001:db8:0:1:ffff::2"}).refused(429, "rate_limited")
    claim(app, batch_id, "c", headers={FORWARDED: "2001:db8:0:2::1"}).ok(201)
    claim(app, batch_id, "d", headers={FORWARDED: "no:address"}).ok(201)


def test_a_code_brings_its_clients_address(throttled, scene):
    app = throttled(address=Limit(rate=1, burst=1))
    body = {"user_id": "user-1", "client_address": "198.51.100.7"}
    app.post("/v1/codes/redemptions", body | {"code": scene.code()}).ok(201)
    code = scene.code()
    app.post("/v1/codes/redemptions", body | {"code": code, "user_id": "user-2"}).refused(429, "rate_limited")
    app.post("/v1/codes/redemptions", body | {"code": code, "client_address": "198.51.100.8"}).ok(201)


def test_who_is_refused_by_one_bucket_loses_no_token_of_another(throttled, batch_id, clock):
    app = throttled(user=Limit(rate=1, burst=2), address=Limit(rate=10, burst=1))
    claim(app, batch_id).ok(201)
    for _ in range(5):
        claim(app, batch_id).refused(429, "rate_limited")
    clock.now += 0.1
    answer = claim(app, batch_id)
    answer.ok(201)
    assert answer.headers["RateLimit"].startswith('"user";r=0')


def test_one_user_who_comes_too_often_leaves_the_keys_tokens_to_the_others(throttled, batch_id, clock):
    app = throttled(claims_key=Limit(rate=1, burst=5), user=Limit(rate=1, burst=1))
    claim(app, batch_id, "bot").ok(201)
    for _ in range(50):
        assert claim(app, batch_id, "bot").refused(429, "rate_limited")["facts"]["policy"] == "user"
    for number in range(4):
        claim(app, batch_id, f"user-{number}").ok(201)
    assert claim(app, batch_id, "user-5").refused(429, "rate_limited")["facts"]["policy"] == "key"
    clock.now += 1
    claim(app, batch_id, "user-5").ok(201)


def test_sold_out_and_a_full_queue_are_answered_at_once_too(ledger, shop, clock):
    """Both without the writers' lock: who comes too late does not wait for those who came in time."""
    with ledger.store.connection() as connection:
        token = keys.create(connection, MERCHANT, "shopper-app", "test")
    batch_id = shop.batch(quantity=1)
    full = Caller(create_app(Ledger(ledger.store, callers_limit=0)), token)
    app = Caller(create_app(ledger, throttle=Throttle(Limits(user=USER), clock=clock)), token)
    claim(app, batch_id, "first").ok(201)
    claim(app, batch_id, "second").refused(409, "sold_out")
    with writers_blocked(ledger.store.database):
        claim(app, batch_id, "second").refused(409, "sold_out")
        answer = claim(full, batch_id, "third")
        answer.refused(503, "queue_full")
        assert answer.headers["Retry-After"] == "1"


# --- buckets --------------------------------------------------------------------------------------------


def test_a_limit_is_shared_out_among_processes():
    assert Limit(rate=5, burst=20).share(2) == Limit(rate=2.5, burst=10)
    assert Limit(rate=5, burst=1).share(4) == Limit(rate=1.25, burst=1)


@pytest.mark.parametrize("text", ["0", "0:5", "0.0:5"])
def test_a_rate_of_nothing_is_no_limit(text):
    assert Limit.parse(text) is None


@pytest.mark.parametrize("text", ["5", "-1:5", "5:0", "nan:5", "inf:5", "five:20", "5:2.5"])
def test_what_is_no_limit(text):
    with pytest.raises(ValueError):
        Limit.parse(text)


def test_settings_make_the_limits():
    assert limits_of(Settings()) == Limits(user=Limit(5, 20), key=Limit(20_000, 40_000))
    told = Settings(throttle_user="0", throttle_address="0.5:10", throttle_claims_key="7:8", trusted_proxy=True)
    assert limits_of(told) == Limits(
        address=Limit(0.5, 10), claims_key=Limit(7, 8), key=Limit(20_000, 40_000), trusts_proxy=True
    )


def test_no_more_buckets_than_there_may_be_and_the_idle_ones_go():
    buckets = Buckets("user", Limit(rate=1, burst=2), most=3)
    for name in ("a", "b", "c", "a", "d", "e"):
        buckets.take(name, 0)
    assert len(buckets) == 3
    assert buckets.wait("a", 0) > 0  # it was used twice, and lately
    assert buckets.wait("b", 0) <= 0


def test_tokens_add_up_however_often_is_asked():
    """In any time no more than the burst and what the rate brings."""
    buckets, taken = Buckets("user", Limit(rate=7, burst=5)), 0
    ticks = [n / 64 for n in range(64 * 20)]
    for now in ticks:
        if buckets.wait("a", now) <= 0:
            assert buckets.take("a", now).tokens >= 0
            taken += 1
    assert taken == 5 + math.floor(7 * ticks[-1])


def test_threads_take_no_more_than_there_is(throttled, shop):
    batch_id = shop.batch(quantity=1_000, per_user_limit=None)
    app = throttled(user=Limit(rate=1, burst=5))
    with ThreadPoolExecutor(8) as threads:
        statuses = [answer.status for answer in threads.map(lambda _: claim(app, batch_id), range(24))]
    assert sorted(statuses) == [201] * 5 + [429] * 19
