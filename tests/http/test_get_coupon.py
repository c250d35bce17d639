"""GET /v1/coupons/{id}."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ledger import use_cases
from ledger.aggregate import text_of
from ledger.coupon import Redemption

MEMBERS = {
    "coupon_id", "batch_id", "template_id", "template_version", "user_id", "state", "valid_from", "valid_until",
    "lock", "redemption", "balance_minor", "shared_with", "version", "position", "as_of",
}  # fmt: skip


@pytest.fixture
def used_long_ago(shop, long_ago):
    """Issued at noon, locked a minute later, unlocked at two, locked at three, used at four; valid for an hour."""
    batch_id = shop.batch(valid_for_seconds=3_600)

    def minute(number):
        return shop.request(at=long_ago + timedelta(minutes=number))

    def do(work):
        return shop.ledger.do(work).answer

    coupon_id = do(use_cases.claim(minute(0), batch_id, "user-1"))["coupon_id"]
    hold = {"user_id": "user-1", "coupon_ids": [coupon_id]}
    do(use_cases.lock(minute(1), "order-1", ttl_seconds=600, **hold))
    do(use_cases.unlock(minute(2), "order-1", coupon_ids=[coupon_id], reason="left"))
    do(use_cases.lock(minute(3), "order-2", ttl_seconds=600, **hold))
    do(use_cases.confirm(minute(4), "order-2", [Redemption(coupon_id=coupon_id, discount_minor=250)]))
    return f"/v1/coupons/{coupon_id}"


def test_shows_the_coupon_and_nothing_else(orders, shop):
    answer = orders.get(f"/v1/coupons/{shop.coupon()}")
    shown = answer.ok()
    assert shown.keys() == MEMBERS
    assert (shown["state"], shown["user_id"], shown["version"]) == ("UNUSED", "user-1", 1)
    assert answer.headers["ETag"] == '"1"'
    assert shown["valid_from"].endswith("Z")


def test_shows_the_state_at_any_time(auditor, used_long_ago, long_ago):
    expected = {0: "UNUSED", 1: "LOCKED", 2: "UNUSED", 3: "LOCKED", 4: "USED", 100: "USED"}
    for minute, state in expected.items():
        moment = text_of(long_ago + timedelta(minutes=minute))
        shown = auditor.get(used_long_ago, as_of=moment).ok()
        assert (minute, shown["state"], shown["as_of"]) == (minute, state, moment)
        assert (shown["lock"] is None) == (state != "LOCKED")
        assert (shown["redemption"] is None) == (state != "USED")


def test_a_time_in_another_zone_is_the_same_time(auditor, used_long_ago):
    shown = auditor.get(used_long_ago, as_of="2017-05-01T08:01:30-04:00").ok()
    assert (shown["state"], shown["as_of"]) == ("LOCKED", "2017-05-01T12:01:30Z")


def test_before_its_issue_there_is_no_coupon(auditor, used_long_ago, long_ago):
    before = text_of(long_ago - timedelta(microseconds=1))
    auditor.get(used_long_ago, as_of=before).refused(404, "coupon_not_found")


def test_the_clock_alone_ends_a_lock_and_a_coupon(auditor, shop, long_ago):
    batch_id = shop.batch(valid_for_seconds=3_600)
    work = use_cases.claim(shop.request(at=long_ago), batch_id, "user-1")
    coupon_id = shop.ledger.do(work).answer["coupon_id"]
    locked_at = shop.request(at=long_ago + timedelta(minutes=1))
    hold = {"user_id": "user-1", "coupon_ids": [coupon_id], "ttl_seconds": 60}
    shop.ledger.do(use_cases.lock(locked_at, "order-1", **hold))
    for seconds, state in ((119, "LOCKED"), (120, "UNUSED"), (3_599, "UNUSED"), (3_600, "EXPIRED")):
        moment = text_of(long_ago + timedelta(seconds=seconds))
        assert auditor.get(f"/v1/coupons/{coupon_id}", as_of=moment).ok()["state"] == state
    assert auditor.get(f"/v1/coupons/{coupon_id}").ok()["state"] == "EXPIRED"


def test_shows_the_state_after_any_event(auditor, used_long_ago):
    for version, state in enumerate(["UNUSED", "LOCKED", "UNUSED", "LOCKED", "USED"], 1):
        answer = auditor.get(used_long_ago, version=version)
        shown = answer.ok()
        assert (shown["state"], shown["version"]) == (state, version)
        assert answer.headers["ETag"] == f'"{version}"'
    auditor.get(used_long_ago, version=6).refused(404, "coupon_not_found")


def test_refuses_what_is_no_moment(auditor, used_long_ago):
    later = text_of(datetime.now(UTC) + timedelta(hours=1))
    cases = [
        ({"as_of": later}, "invalid_field", "as_of"),
        ({"as_of": "2017-05-01T12:00:00Z", "version": 1}, "invalid_field", "as_of"),
        ({"as_of": "yesterday"}, "invalid_period", "as_of"),
        ({"as_of": "2017-05-01"}, "invalid_period", "as_of"),
        ({"as_of": ""}, "invalid_period", "as_of"),
        ({"version": "0"}, "invalid_field", "version"),
        ({"version": "-1"}, "invalid_field", "version"),
        ({"version": "1.0"}, "invalid_field", "version"),
        ({"version": "one"}, "invalid_field", "version"),
        ({"version": str(2**63)}, "invalid_field", "version"),
        ({"version": "9" * 5_00}, "invalid_field", "version"),
        ({"when": "now"}, "invalid_field", "when"),
        ({"version": ["1", "2"]}, "invalid_field", "version"),
    ]
    for query, code, parameter in cases:
        answer = auditor.get(used_long_ago, **query)
        answer.refused(422, code)
        assert answer.pointers() == [parameter]


def test_an_unknown_one_is_not_found(orders):
    problem = orders.get("/v1/coupons/nowhere").refused(404, "coupon_not_found")
    assert problem["facts"] == {"id": "nowhere"}
