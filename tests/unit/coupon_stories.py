"""Every transition and every refusal of a coupon, as stories for any backend."""

from __future__ import annotations

from ledger import errors, events
from tests.unit.coupon_facts import (
    EXPIRED,
    FRESH,
    GRACE,
    HELD,
    KEPT,
    LOCK_END,
    PENDING,
    SPLIT,
    USED,
    VALID_END,
    VOIDED,
    confirm,
    expire,
    expired,
    give_back,
    hold,
    on_coupon,
    returned,
    unlocked,
    use,
    void,
    voided,
    with_terms,
)
from tests.unit.custody_stories import EXTEND_STORIES, SHARE_STORIES, TRANSFER_STORIES
from tests.unit.order_stories import CONFIRM_STORIES, LOCK_STORIES, REDEEM_STORIES, UNLOCK_STORIES
from tests.unit.priced_stories import LOCK_AGAIN_STORIES, PRICED_STORIES, STATED_STORIES
from tests.unit.return_stories import PARTIAL_STORIES, RETURN_STORIES, VOUCHER_STORIES
from tests.unit.specs import COUPON, INSTANT, TERMS, Story, after, created_template, issued
from tests.unit.together_stories import ORDER_STORIES

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

COUPON_STORIES = {
    "lock": LOCK_STORIES,
    "lock again": LOCK_AGAIN_STORIES,
    "priced": PRICED_STORIES,
    "stated": STATED_STORIES,
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
