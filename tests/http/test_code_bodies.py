"""What is kept of a request that holds a code: a keyed digest, from which a word cannot be guessed."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from api.app import create_app
from ledger.codes import CodeKeys
from tests.http.conftest import CODE_KEYS

WORD = "SUMMER-25"
NEW = "new=" + "n" * 32


@pytest.fixture
def batch(shop):
    return shop.batch(per_user_limit=None)


@pytest.fixture
def calls(batch, shop):
    """The writes whose bodies hold a code."""
    return {
        f"/v1/batches/{batch}/codes": {"kind": "generic", "code": WORD},
        f"/v1/batches/{batch}/code-imports": {"codes": ["OLD-0001"]},
        "/v1/codes/redemptions": {"code": WORD, "user_id": "user-1"},
        "/v1/redemptions": {"code": "JR7F-KKEY-YSQN-34G7-MN", "order_id": "order-1", "discount_minor": 500},
    }


def digest(path, body):
    """What anybody can make of a guess."""
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"\n".join([b"POST", path.encode(), text])).hexdigest()


def test_a_code_is_not_found_in_the_table_of_requests(operator, orders, as_role, shop, ledger, calls):
    phone = as_role("shopper-app")
    shown = phone.get(f"/v1/coupons/{shop.coupon()}/till-code", user_id="user-1").ok()["static_code"]
    calls["/v1/redemptions"]["code"] = shown
    callers = {"/v1/codes/redemptions": phone, "/v1/redemptions": orders}
    for number, (path, body) in enumerate(calls.items()):
        callers.get(path, operator).post(path, body, key=f"call-{number}")
    with ledger.store.connection() as connection:
        found = connection.execute(
            "select request_id, body_hash from requests where request_id like 'call-%' order by 1"
        ).fetchall()
    assert [row["request_id"] for row in found] == [f"call-{number}" for number in range(4)]
    for row, (path, body) in zip(found, calls.items(), strict=True):
        assert row["body_hash"] != digest(path, body)
        assert len(row["body_hash"]) == 64


def test_a_repeat_is_known_after_a_key_was_put_in_front(operator, ledger, calls):
    path, body = next(iter(calls.items()))
    first = operator.post(path, body, key="made").ok(201)
    old = ",".join(f"{id}={key.decode()}" for id, key in CODE_KEYS.keys)
    operator.client = create_app(ledger, CodeKeys.parse(f"{NEW},{old}")).test_client()
    repeat = operator.post(path, body, key="made")
    assert repeat.ok(201) == first
    assert repeat.headers["Idempotent-Replayed"] == "true"
    operator.post(path, body | {"code": "WINTER-25"}, key="made").refused(422, "idempotency_key_reused")
    operator.client = create_app(ledger, CodeKeys.parse(NEW)).test_client()
    operator.post(path, body, key="made").refused(422, "idempotency_key_reused")
