"""Bugs that others had, as stories of what happens here instead; each names where it was read.

The first seven were seen in rivals' code, the others in the threads of their users. What only many callers at once, a
database or a basket can show is told elsewhere: ``ELSEWHERE`` says where.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import errors, events, use_cases
from ledger.coupon import Coupon, Redemption
from ledger.work import fold
from tests.unit.coupon_facts import (
    FRESH,
    HELD,
    LOCK_END,
    USED,
    VALID_END,
    VOUCHER,
    confirm,
    debit,
    expire,
    expired,
    extend,
    extended,
    give_back,
    hold,
    lock,
    locked,
    on_coupon,
    policy,
    returned,
    unlock,
    unlocked,
    use,
    voided,
    with_terms,
)
from tests.unit.return_stories import PARTS, lines, part
from tests.unit.specs import (
    COUPON,
    INSTANT,
    TERMS,
    USER,
    Command,
    MemoryBackend,
    Story,
    after,
    bind,
    created_template,
    issued,
    numbered,
    running_batch,
)

ROOT = Path(__file__).parents[2]
ONECOUPON = "https://github.com/kong-ji/onecoupon"
OTHER = "d~"
OF_TWO = {"coupon_ids": [OTHER]}
USED_OTHER = [
    *FRESH,
    issued(coupon=OTHER),
    replace(hold(), stream=f"coupon-{OTHER}"),
    replace(use(), stream=f"coupon-{OTHER}"),
]
LEAST = replace(TERMS, min_spend_minor=2_000)
TWO_LINES = {"line_id": "1", "product_id": "p", "discount_minor": 300}, {"line_id": "2", "product_id": "q",
             "discount_minor": 200}  # fmt: skip

SEEN_IN_CODE = [
    (ONECOUPON, Story("1: an expiry names the coupon's own user, whoever runs it", FRESH, expire(at=VALID_END),
     [on_coupon(events.CouponExpired, VALID_END, user_id=USER, valid_until=VALID_END)])),
    (ONECOUPON, Story("1: a coupon is expired whether or not a job came by", FRESH, lock(at=VALID_END),
     errors.CouponExpired)),
    (ONECOUPON, Story("2: a refund after the end of validity does not make it usable", USED, give_back(at=VALID_END),
     [returned(restored=True)], {"coupons": [{"coupon_id": COUPON, "state": "EXPIRED", "returned_minor": 500}]})),
    (ONECOUPON, Story("2: a lock that takes no hold is refused, not passed over", HELD, lock("order-2"),
     errors.CouponLocked)),
    (ONECOUPON, Story("3: a hold of 900 seconds ends after 900 seconds", FRESH, lock(ttl_seconds=900),
     [locked(ends=after(seconds=900))])),
    ("https://github.com/macrozheng/mall", Story("4: a cancel undoes the order's coupon, not the first of its kind",
     USED_OTHER, give_back(**OF_TWO), [replace(returned(restored=True), stream=f"coupon-{OTHER}")])),
    ("https://github.com/macrozheng/mall", Story("4: and never one that the order did not use", USED_OTHER, give_back(),
     errors.NotUsed)),
    ("https://github.com/medusajs/medusa/pull/13451", Story("5: a use beyond what is left is refused, not passed over",
     with_terms(VOUCHER, hold(), debit("order-1", 900, 100), hold("order-2")), confirm("order-2", discount=101),
     errors.NotApplicable)),
    ("https://github.com/Sylius/Sylius", Story("6: nobody gets a coupon without saying who", running_batch(),
     Command(use_cases.claim, {"batch_id": "b~", "user_id": ""}), errors.InvalidField)),
    ("https://github.com/django-oscar/django-oscar/pull/3217", Story("7: what was locked in time is not dropped when it"
     " ends before the order is paid", [*FRESH, hold(ends=after(11))], confirm(at=after(10.5)),
     [on_coupon(events.CouponUsed, discount_minor=500)])),
    ("https://github.com/django-oscar/django-oscar/pull/3217", Story("7: what ended before it was locked is refused"
     " aloud", FRESH, lock(at=VALID_END), errors.CouponExpired)),
]  # fmt: skip

SAID_BY_USERS = [
    # B: double redemption
    ("https://github.com/macrozheng/mall/issues/1003", Story("a second order does not pay with the same coupon", USED,
     lock("order-2"), errors.CouponUsed)),
    ("https://github.com/saleor/saleor/issues/8219", Story("a payment in two steps counts once", USED, confirm(), [])),
    ("https://github.com/ssrpanel/SSRPanel/issues/659", Story("an unpaid order holds it", HELD, lock("order-2"),
     errors.CouponLocked)),
    ("https://github.com/nopSolutions/nopCommerce/issues/6487", Story("the last step checks again", with_terms(LEAST,
     hold()), confirm(order_total_minor=1_999), errors.BelowMinSpend)),
    ("https://github.com/magento/magento2/issues/38017", Story("a used one is used", USED, confirm("order-2"),
     errors.CouponUsed)),
    # E: locks that never end
    ("https://github.com/woocommerce/woocommerce/issues/27673", Story("who holds it is not told that it is taken", HELD,
     lock(at=after(seconds=60)), [])),
    ("https://github.com/woocommerce/woocommerce/issues/31171", Story("nor after the hold ran out", HELD,
     lock(at=LOCK_END), [unlocked(reason="lock_ended", at=LOCK_END), locked(ends=after(seconds=1_800))])),
    ("https://github.com/woocommerce/woocommerce/pull/67737", Story("one's own hold takes nothing from oneself", HELD,
     confirm(), [on_coupon(events.CouponUsed)])),
    ("https://github.com/woocommerce/woocommerce/issues/26002", Story("no hold is without an end", FRESH, lock(),
     [locked(ends=LOCK_END)])),
    ("https://github.com/magento/magento2/issues/33100", Story("an order that failed lets go", HELD, unlock(),
     [unlocked()], {"coupons": [{"coupon_id": COUPON, "state": "UNUSED"}]})),
    ("https://github.com/Adyen/adyen-magento2/issues/1089", Story("and one that nobody heard of again, by the clock",
     HELD, lock("order-2", LOCK_END), [unlocked(reason="lock_ended", at=LOCK_END),
     locked("order-2", after(seconds=1_800))])),
    # F: returned after a cancel, or not
    ("https://github.com/magento/magento2/issues/19545", Story("a cancelled order gives it back", USED, give_back(),
     [returned(restored=True)])),
    ("https://github.com/Sylius/Sylius/issues/10125", Story("and it can be used again", [*USED,
     returned(restored=True)], lock("order-2"), [locked("order-2")])),
    ("https://github.com/EC-CUBE/coupon-plugin/issues/195", Story("a refund by the merchant too", USED,
     give_back(reason="merchant_refund"), [returned(restored=True, reason="merchant_refund")])),
    ("https://github.com/mitodl/mitxpro/pull/1102", Story("unless the policy keeps it used", with_terms(
     policy(merchant_refund="keep_used"), hold(), use()), give_back(reason="merchant_refund"),
     [returned(restored=False, reason="merchant_refund")])),
    # G: partial refunds
    ("https://github.com/woocommerce/woocommerce/issues/28436", Story("a refunded line gives back its own part", PARTS,
     give_back(**lines(("1", None))), [part("1", 167)])),
    ("https://github.com/PrestaShop/PrestaShop/issues/18319", Story("and never more than that", [*PARTS,
     part("1", 167)], give_back(**lines(("1", 1))), errors.ReturnNotAllowed)),
    ("https://github.com/solidusio/solidus/issues/512", Story("the refunds of all lines are the whole", [*PARTS,
     part("2", 333)], give_back(**lines(("1", None))), [part("1", 167, restored=True)])),
    ("https://github.com/awesomemotive/easy-digital-downloads/issues/8076", Story("the rest of an order gives back the"
     " rest", [*PARTS, part("2", 333)], give_back(), [returned(restored=True, returned_minor=167)])),
    ("https://github.com/smartlabsAT/sonata-project-ecommerce/issues/177", Story("a part returned does not free the"
     " coupon for another order", [*PARTS, part("2", 333)], lock("order-2"), errors.CouponUsed)),
    # H: rounding and caps
    ("https://github.com/macrozheng/mall/issues/1002", Story("no total goes below nothing", HELD,
     confirm(order_total_minor=499), errors.NotApplicable)),
    ("https://github.com/django-oscar/django-oscar/issues/2463", Story("what an order costs it may take off", HELD,
     confirm(discount=499, order_total_minor=499), [on_coupon(events.CouponUsed, discount_minor=499)])),
    ("https://github.com/magento/magento2/issues/35162", Story("a voucher neither", with_terms(VOUCHER, hold()),
     confirm(discount=1_000, order_total_minor=999), errors.NotApplicable)),
    # I: the moment of expiry
    ("https://github.com/mitodl/mitxpro/issues/991", Story("usable to the last instant", FRESH,
     lock(at=VALID_END - INSTANT), [locked(ends=VALID_END - INSTANT + (LOCK_END - after()))])),
    ("https://github.com/gocodebox/lifterlms/issues/552", Story("and expired at the next", FRESH, expire(at=VALID_END),
     [expired()])),
    ("https://github.com/awesomemotive/easy-digital-downloads/issues/7492", Story("never hours early", FRESH,
     expire(at=VALID_END - INSTANT), errors.CouponNotExpired)),
    ("https://github.com/woocommerce/woocommerce-android/pull/16279", Story("the same end said twice moves nothing",
     [*FRESH, extended(after(20))], extend(after(20)), errors.InvalidPeriod)),
    # J: stacking
    ("https://github.com/cubecart/v6/issues/3642", Story("an exclusive coupon goes with no other", [*FRESH,
     issued(coupon=OTHER)], lock(coupon_ids=[COUPON, OTHER]), errors.ExclusiveConflict)),
    ("https://github.com/stephenmcd/cartridge/issues/132", Story("each coupon of an order is counted", [*USED_OTHER[:4],
     hold()], confirm(redemptions=[Redemption(coupon_id=id, discount_minor=1) for id in (COUPON, OTHER)]),
     [on_coupon(events.CouponUsed), replace(on_coupon(events.CouponUsed), stream=f"coupon-{OTHER}")])),
    # M: which order, when, by whom
    ("https://github.com/coopcycle/coopcycle-web/issues/2945", Story("a use says which order, and who", HELD, confirm(),
     [on_coupon(events.CouponUsed, order_id="order-1", holder_id=USER, channel="online")])),
    # N: the past stays as it was
    ("https://github.com/shopware/shopware/issues/5766", Story("a revision does not reach a coupon that is out there",
     [created_template(), created_template(LEAST, events.TemplateRevised), issued()], lock(order_total_minor=1),
     [locked()])),
    ("https://github.com/shopware/shopware/issues/16728", Story("the new version is for coupons issued under it",
     [created_template(), created_template(LEAST, events.TemplateRevised), issued(template_version=2)],
     lock(order_total_minor=1), errors.BelowMinSpend)),
    # Q: why was it refused
    ("https://github.com/SAP/spartacus/issues/14986", Story("a refusal says what it lacks", with_terms(LEAST),
     lock(order_total_minor=1_999), errors.BelowMinSpend,
     facts={"min_spend_minor": 2_000, "order_total_minor": 1_999})),
    # S: repeats
    ("https://github.com/Battle-Cattle/BCUK-Bot-4/issues/564", Story("a retry under another key has no second effect",
     [*with_terms(VOUCHER, hold()), debit("order-1", 300, 700)], confirm(discount=300), [])),
]  # fmt: skip

ELSEWHERE = {
    f"{ONECOUPON}: 3, stock taken for what is then not issued": (
        "tests/postgres/test_use_cases.py::test_an_issue_is_all_or_none"
    ),
    "https://github.com/linlinjava/litemall/issues/581": (
        "tests/postgres/test_use_cases.py::test_one_coupon_and_64_who_want_it"
    ),
    "https://github.com/macrozheng/mall/issues/134": (
        "tests/postgres/test_use_cases.py::test_500_coupons_three_a_user_and_250_users_who_ask_too_often"
    ),
    "https://github.com/vendurehq/vendure/pull/4660": (
        "tests/postgres/test_use_cases.py::test_a_user_asks_64_times_at_once"
    ),
    "https://github.com/magento/magento2/issues/40009": (
        "tests/postgres/test_use_cases.py::test_orders_in_a_ring_all_come_to_an_end"
    ),
    "https://github.com/woocommerce/woocommerce/issues/24068": (
        "tests/postgres/test_projections_rebuild.py::test_rebuilt_is_live_row_for_row"
    ),
    "https://github.com/saleor/apps/issues/339": (
        "tests/http/test_every_write.py::test_a_repeat_has_the_first_answer_and_no_effect"
    ),
    "https://github.com/frappe/erpnext/issues/58042": (
        "tests/property/test_pricing.py::test_parts_sum_to_the_whole_and_no_line_goes_below_zero"
    ),
    "https://github.com/cubecart/v6/issues/1997": (
        "tests/property/test_pricing.py::test_the_order_of_the_coupons_changes_nothing"
    ),
}
"""Where else a thread's answer is shown."""


@pytest.mark.parametrize(
    "story", [pytest.param(story, id=f"{story.name} <{address}>") for address, story in SEEN_IN_CODE + SAID_BY_USERS]
)
def test_story(story: Story) -> None:
    story.tell(MemoryBackend())


@pytest.mark.parametrize("test", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_is_told_elsewhere_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text("utf-8")


def test_a_discount_is_there_long_after_the_coupon_would_have_expired() -> None:
    """https://github.com/shopware/shopware/issues/5854"""
    used = fold(Coupon("coupon-c"), [event for event in numbered(bind(USED, "")) if event.originator_id == "coupon-c"])
    assert used.state_at(after(3_650)) == "USED"
    assert used.discount_minor == 500


@pytest.mark.parametrize("parts", [(299, 200), (300, 201), (501, -1)])
def test_an_allocation_that_is_not_the_whole_is_refused(parts: tuple[int, int]) -> None:
    """https://github.com/chameleon-system/chameleon-system/issues/236, https://github.com/vendurehq/vendure/issues/2995"""
    allocation: list[dict[str, Any]] = [
        {**line, "discount_minor": discount} for line, discount in zip(TWO_LINES, parts, strict=True)
    ]
    with pytest.raises(errors.InvalidField):
        Redemption(coupon_id="c", discount_minor=500, allocation=allocation)


def test_nothing_but_an_extension_or_a_grace_moves_the_end_of_validity() -> None:
    """https://github.com/woocommerce/woocommerce-android/pull/16279: every save moved the date further."""
    life = [*FRESH, hold(), unlocked(), hold(), use(), returned(restored=True), hold("order-2"), unlocked("order-2"),
            voided()]  # fmt: skip
    coupon = Coupon("coupon-c")
    for event in numbered(bind(life, "")):
        if event.originator_id == coupon.id:
            fold(coupon, [event])
            assert coupon.valid_until == VALID_END
