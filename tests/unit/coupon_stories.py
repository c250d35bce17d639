"""Every transition and every refusal of a coupon, as stories for any backend."""

from __future__ import annotations

from dataclasses import replace

from ledger import errors, events, use_cases
from ledger.coupon import Redemption
from tests.unit.coupon_facts import (
    EXPIRED,
    FRESH,
    GRACE,
    HELD,
    KEPT,
    LOCK_END,
    PENDING,
    PRICED,
    SPLIT,
    USED,
    VALID_END,
    VOIDED,
    confirm,
    expire,
    expired,
    give_back,
    hold,
    lock,
    locked,
    on_coupon,
    returned,
    unlock,
    unlocked,
    use,
    void,
    voided,
    with_terms,
)
from tests.unit.custody_stories import EXTEND_STORIES, SHARE_STORIES, TRANSFER_STORIES
from tests.unit.order_stories import CONFIRM_STORIES, LOCK_STORIES, REDEEM_STORIES, UNLOCK_STORIES
from tests.unit.return_stories import PARTIAL_STORIES, RETURN_STORIES, VOUCHER_STORIES
from tests.unit.specs import COUPON, INSTANT, TERMS, Command, Fact, Story, after, created_template, issued

VOID_STORIES = [
    Story("an unused coupon", FRESH, void(), [voided()], {"coupon_id": COUPON, "state": "VOIDED"}),
    Story("a pending coupon", PENDING, void(), [voided()]),
    Story("a held coupon, whose lock ends with it", HELD, void(at=after(seconds=10)),
          [unlocked(reason="voided", at=after(seconds=10)), voided()]),
    Story("a coupon whose lock ran out", HELD, void(at=after(1)), [unlocked(reason="voided", at=LOCK_END), voided()]),
    Story("a live lock outlasts validity", [*FRESH, hold(ends=after(11))], void(at=after(10.5)),
          [unlocked(reason="voided", at=after(10.5)), voided()]),
    Story("a restored coupon", [*USED, returned(restored=True)], void(), [voided()]),
    Story("a used coupon", USED, void(), errors.CouponUsed),
    Story("a coupon that a return kept used", KEPT, void(), errors.CouponUsed),
    Story("at the end of validity", FRESH, void(at=VALID_END), errors.CouponExpired),
    Story("an expired coupon", EXPIRED, void(), errors.CouponExpired),
    Story("twice", VOIDED, void(), errors.CouponVoid),
    Story("an unknown coupon", [], void(), errors.CouponNotFound),
    Story("the expected version", HELD, void(expected_version=2), [unlocked(reason="voided"), voided()]),
    Story("another version", HELD, void(expected_version=1), errors.VersionConflict,
          facts={"expected": 1, "version": 2}),
    Story("without a reason", FRESH, void(reason=""), errors.InvalidField),
]  # fmt: skip

EXPIRE_STORIES = [
    Story("at the end of validity", FRESH, expire(at=VALID_END), [expired()]),
    Story("an instant before", FRESH, expire(at=VALID_END - INSTANT), errors.CouponNotExpired,
          facts={"state": "UNUSED"}),
    Story("long after, told as of the end", FRESH, expire(at=after(50)), [expired()]),
    Story("pending", PENDING, expire(), errors.CouponNotExpired, facts={"state": "PENDING"}),
    Story("a lock that ran out ends first", HELD, expire(at=VALID_END),
          [unlocked(reason="lock_ended", at=LOCK_END), expired()]),
    Story("a live lock outlasts validity", [*FRESH, hold(ends=after(11))], expire(at=after(11) - INSTANT),
          errors.CouponNotExpired, facts={"state": "LOCKED"}),
    Story("when that lock ends", [*FRESH, hold(ends=after(11))], expire(at=after(11)),
          [unlocked(reason="lock_ended", at=after(11)), expired()]),
    Story("a restored coupon with grace", [*with_terms(GRACE, hold(), use()), returned(restored=True,
          valid_until=after(12))], expire(at=after(12)), [expired(after(12))]),
    Story("a restored coupon within its grace", [*with_terms(GRACE, hold(), use()), returned(restored=True,
          valid_until=after(12))], expire(at=VALID_END), errors.CouponNotExpired),
    Story("a used coupon never expires", USED, expire(at=after(50)), errors.CouponNotExpired),
    Story("nor one that a return kept used", KEPT, expire(at=after(50)), errors.CouponNotExpired),
    Story("a voided coupon", VOIDED, expire(at=after(50)), errors.CouponNotExpired),
    Story("twice", EXPIRED, expire(at=after(50)), errors.CouponNotExpired),
    Story("an unknown coupon", [], expire(), errors.CouponNotFound),
]  # fmt: skip

PINNED_STORIES = [
    Story("a revision does not touch a coupon that pinned the first version",
          [created_template(), created_template(SPLIT, events.TemplateRevised), issued(), hold()], confirm(),
          [on_coupon(events.CouponUsed, merchant_funded_minor=500)]),
    Story("a coupon of the revision has the new terms",
          [created_template(), created_template(SPLIT, events.TemplateRevised), issued(template_version=2), hold()],
          confirm(), [on_coupon(events.CouponUsed, merchant_funded_minor=166)]),
    Story("nor does a later revision change a return",
          [created_template(GRACE), created_template(TERMS, events.TemplateRevised), issued(), hold(), use()],
          give_back(at=after(9)), [returned(restored=True, valid_until=after(12))]),
]  # fmt: skip

SECOND = "d~"
STACKABLE = replace(TERMS, stacking_mode="stackable")
IN_GROUP = replace(TERMS, stacking_mode="group", stacking_group="g")
TWO = [*with_terms(STACKABLE), issued(coupon=SECOND)]
BOTH = {"coupon_ids": [SECOND, COUPON]}
EACH = {"redemptions": [Redemption(coupon_id=id, discount_minor=1) for id in (COUPON, SECOND)]}


def on_second(fact: Fact) -> Fact:
    """The same fact of the second coupon."""
    return replace(fact, stream=f"coupon-{SECOND}")


def priced(digest: str) -> Fact:
    """A lock of the past whose discount was found in this quote."""
    return replace(PRICED, payload={**PRICED.payload, "quote_digest": digest})


ORDER_STORIES = [
    Story("coupons of an order are locked together, in the order of their ids", TWO, lock(**BOTH),
          [locked(), Fact(events.CouponLocked, f"coupon-{SECOND}", {"order_id": "order-1"})]),
    Story("one held by another order stops all", [*TWO, hold("order-2")], lock(**BOTH), errors.CouponLocked),
    Story("one that is not there stops all", FRESH, lock(**BOTH), errors.CouponNotFound),
    Story("an exclusive one goes with no other", [*FRESH, issued(coupon=SECOND)], lock(**BOTH),
          errors.ExclusiveConflict, facts={"coupon_id": COUPON, "with_coupon_id": SECOND}),
    Story("nor another with an exclusive one", [created_template(), created_template(STACKABLE,
          events.TemplateRevised), issued(template_version=2), issued(coupon=SECOND)], lock(**BOTH),
          errors.ExclusiveConflict),
    Story("two of one group do not go together", [*with_terms(IN_GROUP), issued(coupon=SECOND)], lock(**BOTH),
          errors.ExclusiveConflict),
    Story("one of a group goes with one of another", [created_template(IN_GROUP), created_template(replace(IN_GROUP,
          stacking_group="h"), events.TemplateRevised), issued(), issued(coupon=SECOND, template_version=2)],
          lock(**BOTH), [locked(), Fact(events.CouponLocked, f"coupon-{SECOND}")]),
    Story("what cannot be used at all is heard of first", [*FRESH, voided(), issued(coupon=SECOND)], lock(**BOTH),
          errors.CouponVoid),
    Story("those that can be voided are", [*FRESH, hold(), use(), issued(coupon=SECOND)],
          Command(use_cases.void_all, {"coupon_ids": [SECOND, COUPON, "x~"], "reason": "fraud"}),
          [Fact(events.CouponVoided, f"coupon-{SECOND}", {"reason": "fraud"})],
          {"voided": [SECOND], "refused": [{"coupon_id": COUPON, "code": "coupon_used"},
                                           {"coupon_id": "x~", "code": "coupon_not_found"}]}),
    Story("a hundred and one are not voided at once", FRESH,
          Command(use_cases.void_all, {"coupon_ids": [f"c{n}" for n in range(101)], "reason": "fraud"}),
          errors.InvalidField),
    Story("together they take off what the order costs", [*TWO, hold(), on_second(hold())], confirm(order_total_minor=2,
          **EACH), [on_coupon(events.CouponUsed), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("and not more", [*TWO, hold(), on_second(hold())], confirm(order_total_minor=1, **EACH),
          errors.NotApplicable, facts={"order_id": "order-1", "discount_minor": 2, "most_minor": 1}),
    Story("nor more than the lower of their caps", [created_template(STACKABLE), created_template(replace(STACKABLE,
          order_cap_permyriad=5_000), events.TemplateRevised), issued(), issued(coupon=SECOND, template_version=2),
          hold(), on_second(hold())], confirm(order_total_minor=3, **EACH), errors.NotApplicable,
          facts={"discount_minor": 2, "most_minor": 1}),
    Story("exclusive ones that were locked one by one", [*FRESH, issued(coupon=SECOND), hold(), on_second(hold())],
          confirm(**EACH), errors.ExclusiveConflict),
    Story("those priced together", [*TWO, priced("q"), on_second(priced("q"))], confirm(**EACH),
          [on_coupon(events.CouponUsed), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("those priced alone", [*TWO, priced("q"), on_second(priced("r"))], confirm(**EACH), errors.NotApplicable),
    Story("one priced, one told", [*TWO, priced("q"), on_second(hold())], confirm(**EACH),
          [on_coupon(events.CouponUsed), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("one unlocked stops all unlocks", [*TWO, hold()], unlock(**BOTH), errors.NotLocked),
    Story("one not held stops all confirmations", [*TWO, hold()],
          confirm(**EACH), errors.NotLocked),
    Story("a coupon named twice", FRESH, lock(coupon_ids=[COUPON, COUPON]), errors.InvalidField),
    Story("no coupon", FRESH, lock(coupon_ids=[]), errors.InvalidField),
    Story("a hundred and one coupons", FRESH, lock(coupon_ids=[f"c{n}" for n in range(101)]), errors.InvalidField),
]  # fmt: skip

COUPON_STORIES = {
    "lock": LOCK_STORIES,
    "confirm": CONFIRM_STORIES,
    "unlock": UNLOCK_STORIES,
    "return": RETURN_STORIES,
    "return in part": PARTIAL_STORIES,
    "voucher": VOUCHER_STORIES,
    "redeem": REDEEM_STORIES,
    "extend": EXTEND_STORIES,
    "transfer": TRANSFER_STORIES,
    "share": SHARE_STORIES,
    "void": VOID_STORIES,
    "expire": EXPIRE_STORIES,
    "pinned": PINNED_STORIES,
    "order": ORDER_STORIES,
}
