"""The codes that a shopper shows at a till."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from ledger import till
from ledger.codes import CodeKeys, is_checked

KEYS = CodeKeys.parse("a=" + "k" * 32)
COUPON = "0123456789abcdef0123456789"
NOW = datetime(2026, 6, 1, 12, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "digits"),
    [
        (59, 46119246),
        (1111111109, 68084774),
        (1111111111, 67062674),
        (1234567890, 91819424),
        (2000000000, 90698825),
        (20000000000, 77737706),
    ],
)
def test_the_vectors_of_rfc_6238(seconds, digits):
    """https://www.rfc-editor.org/rfc/rfc6238#appendix-B, SHA-256."""
    assert till.totp(b"12345678901234567890123456789012", seconds // till.WINDOW_SECONDS) == digits


def test_a_code_is_good_in_its_window_and_the_next():
    made = till.till_code(KEYS, "m", COUPON, "u", NOW)
    assert made.changes_at == NOW.replace(second=30)
    begin = NOW.replace(second=0)
    for age in (0, 22, 23, 52.9):
        assert till.shown_since(KEYS, "m", COUPON, "u", made.code, NOW + timedelta(seconds=age)) == begin
    for age in (-7.1, 53, 3600):
        assert till.shown_since(KEYS, "m", COUPON, "u", made.code, NOW + timedelta(seconds=age)) is None


def test_it_changes_every_thirty_seconds():
    codes = {till.till_code(KEYS, "m", COUPON, "u", NOW + timedelta(seconds=30 * n)).code for n in range(200)}
    assert len(codes) == 200
    assert all(is_checked(code) for code in codes)


def test_it_is_this_coupons_of_this_merchant_under_this_key():
    code = till.till_code(KEYS, "m", COUPON, "u", NOW).code
    other = COUPON[:14] + "f" * 12  # which has the same handle
    assert till.shown_since(KEYS, "m", other, "u", code, NOW) is None
    assert till.shown_since(KEYS, "m2", COUPON, "u", code, NOW) is None
    assert till.shown_since(CodeKeys.parse("b=" + "x" * 32), "m", COUPON, "u", code, NOW) is None
    static = till.static_code(KEYS, "m", COUPON, "u")
    assert till.is_genuine(KEYS, "m", COUPON, "u", static)
    assert not till.is_genuine(KEYS, "m", other, "u", static)
    assert not till.is_genuine(KEYS, "m2", COUPON, "u", static)
    assert not till.is_genuine(KEYS, "m", COUPON, "v", static)
    assert till.shown_since(KEYS, "m", COUPON, "v", code, NOW) is None


def test_codes_live_through_a_new_key():
    both = CodeKeys.parse("b=" + "x" * 32 + ",a=" + "k" * 32)
    code, static = till.till_code(KEYS, "m", COUPON, "u", NOW).code, till.static_code(KEYS, "m", COUPON, "u")
    assert till.shown_since(both, "m", COUPON, "u", code, NOW) is not None
    assert till.is_genuine(both, "m", COUPON, "u", static)
    assert till.static_code(both, "m", COUPON, "u") != static


@pytest.mark.parametrize("coupon_id", [COUPON, "0" * 26, "f" * 26])
def test_a_code_says_how_its_coupons_id_begins(coupon_id):
    changing, static = till.till_code(KEYS, "m", coupon_id, "u", NOW).code, till.static_code(KEYS, "m", coupon_id, "u")
    for code, is_static in ((changing, False), (static, True)):
        shown = till.read(code)
        assert shown is not None
        assert (shown.handle, shown.is_static) == (coupon_id[:14], is_static)
    assert (len(changing), len(static)) == (18, 26)


def test_what_is_no_till_code():
    code = till.till_code(KEYS, "m", COUPON, "u", NOW).code
    assert till.read("") is None
    assert till.read(code[:-1]) is None
    assert till.read(code[:-1] + ("2" if code[-1] != "2" else "3")) is None
    assert till.read("Z" * 18) is None
    random.seed(2)
    assert not any(till.shown_since(KEYS, "m", COUPON, "u", str(random.random()), NOW) for _ in range(100))


def test_only_ids_that_the_ledger_made_have_codes():
    assert till.has_handle(COUPON)
    assert not till.has_handle("x")
    assert not till.has_handle(COUPON.upper())
