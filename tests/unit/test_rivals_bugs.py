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
STACKABLE = replace(TERMS, stacking_mode="stackable")
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
    ("https://github.com/woocommerce/woocommerce/issues/30465", Story("an order that staff tell of again counts once",
     with_terms(VOUCHER, hold(), debit("order-1", 300, 700)), confirm(discount=300), [])),
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
     [returned(restored=False, reason="merchant_refund", returned_minor=0)])),
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
    ("https://github.com/stephenmcd/cartridge/issues/132", Story("each coupon of an order is counted",
     [created_template(STACKABLE), *USED_OTHER[1:4], hold()],
     confirm(redemptions=[Redemption(coupon_id=id, discount_minor=1) for id in (COUPON, OTHER)]),
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
    # P: guests
    ("https://github.com/shopperlabs/shopper/pull/588", Story("a limit for each person does not pass over who is"
     " nobody", running_batch(per_person_limit=1), Command(use_cases.claim, {"batch_id": "b~", "user_id": "guest"}),
     errors.FactRequired, facts={"fact": "person"})),
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
    "https://github.com/macrozheng/mall/pull/916": (
        "tests/postgres/test_use_cases.py::test_500_coupons_three_a_user_and_250_users_who_ask_too_often"
    ),
    "https://github.com/shopperlabs/shopper/issues/510": (
        "tests/http/test_confirm_coupons.py::test_refuses_without_a_lock"
    ),
    "https://github.com/woocommerce/woocommerce/issues/13505": (
        "tests/postgres/test_limits.py::test_every_limit_at_once"
    ),
    "https://github.com/saleor/saleor/issues/544": (
        "tests/postgres/test_codes.py::test_a_code_is_used_once_by_whoever_comes_first"
    ),
    "https://github.com/django-oscar/django-oscar/issues/2101": (
        "tests/postgres/test_coupon_life.py::test_the_first_friend_to_lock_it_holds_it"
    ),
    "https://github.com/opencart/opencart/issues/4812": (
        "tests/postgres/test_coupon_life.py::test_tills_never_take_more_off_a_voucher_than_is_on_it"
    ),
    "https://github.com/medusajs/medusa/issues/16595": "tests/http/test_return_coupons.py::test_a_use_is_undone_once",
    "https://github.com/MahoCommerce/maho/pull/1378": (
        "tests/postgres/test_limits.py::test_a_limit_holds_whoever_asks_at_once"
    ),
    "https://github.com/dujiao-next/dujiao-next/pull/287": (
        "tests/postgres/test_use_cases.py::test_coupons_of_an_order_move_together_or_not_at_all"
    ),
    "https://github.com/Sylius/Sylius/pull/18921": (
        "tests/postgres/test_limits.py::test_a_limit_holds_whoever_asks_at_once"
    ),
    "https://github.com/Sylius/Sylius/issues/18960": (
        "tests/postgres/test_sold_out.py::test_it_says_so_while_no_writer_may_write"
    ),
    "https://github.com/magento/magento2/issues/34627": (
        "tests/http/test_quote_order.py::test_decides_on_the_newest_events_not_on_the_wallet"
    ),
    "https://github.com/magento/merchdocs/pull/861": (
        "tests/postgres/test_limits.py::test_a_budget_holds_whoever_asks_at_once"
    ),
    "https://github.com/spree/spree/issues/6566": "tests/http/test_get_batch_balance.py::test_counts_every_coupon_once",
    "https://github.com/solidusio/solidus/issues/3205": (
        "tests/http/test_get_batch_balance.py::test_counts_what_orders_spend_of_vouchers"
    ),
    "https://github.com/shopware/shopware/issues/4177": (
        "tests/postgres/test_sold_out.py::test_too_few_for_one_is_enough_for_another"
    ),
    "https://github.com/medusajs/medusa/issues/15960": (
        "tests/postgres/test_sold_out.py::test_the_users_limit_is_not_taken_for_the_end_of_the_batch"
    ),
    "https://github.com/BrainWise-DEV/POSNext/issues/195": (
        "tests/http/test_return_coupons.py::test_does_what_the_policy_says"
    ),
    "https://github.com/PrestaShop/PrestaShop/pull/42502": (
        "tests/http/test_return_coupons.py::test_gives_lines_back_and_the_coupon_with_the_last"
    ),
    "https://github.com/chameleon-system/chameleon-system/issues/236": (
        "tests/unit/test_rivals_bugs.py::test_an_allocation_that_is_not_the_whole_is_refused"
    ),
    "https://github.com/vendurehq/vendure/issues/2995": (
        "tests/unit/test_rivals_bugs.py::test_an_allocation_that_is_not_the_whole_is_refused"
    ),
    "https://github.com/v2board/v2board/issues/408": (
        "tests/http/test_lock_coupons.py::test_refuses_coupons_that_cannot_go_together"
    ),
    "https://github.com/solidusio/solidus/pull/1524": (
        "tests/postgres/test_codes.py::test_a_job_that_was_cut_off_goes_on"
    ),
    "https://github.com/VirtoCommerce/vc-platform/issues/1775": (
        "tests/http/test_import_codes.py::test_ten_thousand_at_once"
    ),
    "https://github.com/Sylius/Sylius/issues/10795": (
        "tests/unit/test_codes.py::test_a_code_has_more_than_80_random_bits"
    ),
    "https://github.com/magento/magento2/issues/30998": (
        "tests/postgres/test_codes.py::test_look_ups_use_indexes_though_their_plans_were_made_when_tables_were_small"
    ),
    "https://github.com/magento/magento2/issues/19117": (
        "tests/postgres/test_projections_plans.py::test_a_question_uses_its_index"
    ),
    "https://github.com/craftcms/commerce/issues/230": (
        "tests/postgres/test_codes.py::test_what_cannot_be_imported_is_named_and_nothing_is_half_done"
    ),
    "https://github.com/saleor/saleor/issues/13607": (
        "tests/http/test_export_codes.py::test_streams_csv_until_it_is_confirmed"
    ),
    "https://github.com/spree/spree/issues/12114": (
        "tests/cli/test_codes_command.py::test_a_file_is_written_once_and_for_its_owner_only"
    ),
    "https://github.com/reactioncommerce/reaction/issues/6793": (
        "tests/http/test_list_coupon_events.py::test_shows_every_event_in_its_published_shape"
    ),
    "https://github.com/simplcommerce/SimplCommerce/issues/396": (
        "tests/http/test_get_coupon.py::test_shows_the_state_after_any_event"
    ),
    "https://github.com/EC-CUBE/coupon-plugin/issues/173": "tests/http/test_confirm_coupons.py::test_spends_the_coupon",
    "https://github.com/EuroPython/epcon/issues/189": "tests/http/test_get_coupon.py::test_shows_the_state_at_any_time",
    "https://github.com/openedx-unsupported/ecommerce/pull/2287": (
        "tests/http/test_list_events.py::test_every_fact_of_a_coupon_is_told"
    ),
    "https://github.com/shopware/shopware/issues/5854": (
        "tests/unit/test_rivals_bugs.py::test_a_discount_is_there_long_after_the_coupon_would_have_expired"
    ),
    "https://github.com/magento/community-features/issues/349": (
        "tests/unit/test_codes.py::test_no_character_can_be_taken_for_another"
    ),
    "https://github.com/JeroenSormani/woocommerce-coupon-generator/issues/14": (
        "tests/unit/test_codes.py::test_no_character_can_be_taken_for_another"
    ),
    "https://github.com/PeerioTechnologies/peerio-client-mobile/issues/228": (
        "tests/postgres/test_codes.py::test_misses_are_limited_by_user_and_hits_do_not_help"
    ),
    "https://github.com/bagisto/bagisto/pull/5145": "tests/http/test_redeem_code.py::test_guessing_ends",
    "https://github.com/liberusoftware/ecommerce-laravel/pull/1046": (
        "tests/postgres/test_codes.py::test_revoked_and_another_merchants_codes_look_like_unknown_ones"
    ),
    "https://github.com/magento/magento2/issues/776": (
        "tests/postgres/test_limits.py::test_a_limit_holds_whoever_asks_at_once"
    ),
    "https://github.com/woocommerce/woocommerce/issues/26108": (
        "tests/postgres/test_limits.py::test_every_limit_at_once"
    ),
    "https://github.com/mozilla/fxa/issues/11442": "tests/postgres/test_codes.py::test_who_hears_that_a_code_was_used",
}
"""Where else a thread's answer is shown."""

NOT_OURS = {
    "https://github.com/woocommerce/woocommerce/issues/65771": "nothing is deleted: what expired is history",
    "https://github.com/l4rm4nd/VoucherVault/issues/61": "reminders are not sent yet",
    "https://github.com/metikular/coupon-store/issues/327": "reminders are not sent yet",
}
"""Threads without an answer here, and why."""
THREADS = 91
"""So many threads of users were read. Each is above, once."""


@pytest.mark.parametrize(
    "story", [pytest.param(story, id=f"{story.name} <{address}>") for address, story in SEEN_IN_CODE + SAID_BY_USERS]
)
def test_story(story: Story) -> None:
    story.tell(MemoryBackend())


@pytest.mark.parametrize("test", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_is_told_elsewhere_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text("utf-8")


def test_each_thread_is_here_once() -> None:
    told = [address for address, _ in SAID_BY_USERS] + [address for address in ELSEWHERE if ONECOUPON not in address]
    assert len(told) == len(set(told))
    assert not NOT_OURS.keys() & set(told)
    assert len(told) + len(NOT_OURS) == THREADS


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
