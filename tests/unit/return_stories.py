"""Returns, whole and in part, and vouchers with a balance, as stories for any backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ledger import errors, events
from ledger.terms import ReturnPolicy, Terms
from tests.unit.coupon_facts import (
    ALL_OR_NOTHING,
    ALLOCATED,
    EXPIRED,
    FRESH,
    GRACE,
    HELD,
    KEPT,
    LAPSED,
    USED,
    VALID_END,
    VOIDED,
    VOUCHER,
    benefit,
    confirm,
    credited,
    debit,
    debited,
    expire,
    expired,
    extended,
    give_back,
    hold,
    lock,
    locked,
    on_coupon,
    policy,
    returned,
    use,
    void,
    voided,
    with_terms,
)
from tests.unit.specs import COUPON, Fact, Story, after, issued

RETURN_STORIES = [
    Story("restored when the order is cancelled", USED, give_back(), [returned(restored=True)],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 500}]}),
    Story("restored when the merchant refunds", USED, give_back(reason="merchant_refund"),
          [returned(restored=True, reason="merchant_refund")]),
    Story("kept used when the buyer asks", USED, give_back(reason="buyer_refund"),
          [returned(restored=False, reason="buyer_refund")],
          {"coupons": [{"coupon_id": COUPON, "state": "USED", "returned_minor": 500}]}),
    Story("kept used, as the policy may say for any reason", with_terms(policy(order_cancelled="keep_used"), hold(),
          use()), give_back(), [returned(restored=False)]),
    Story("restored to the buyer, as the policy may say", with_terms(policy(buyer_refund="restore"), hold(), use()),
          give_back(reason="buyer_refund"), [returned(restored=True, reason="buyer_refund")]),
    Story("restored though its validity has ended", USED, give_back(at=VALID_END), [returned(restored=True)],
          {"coupons": [{"coupon_id": COUPON, "state": "EXPIRED", "returned_minor": 500}]}),
    Story("grace moves the end of validity", with_terms(GRACE, hold(), use()), give_back(at=after(9)),
          [returned(restored=True, valid_until=after(12))]),
    Story("grace after the end of validity", with_terms(GRACE, hold(), use()), give_back(at=after(20)),
          [returned(restored=True, valid_until=after(23))],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 500}]}),
    Story("grace never shortens validity", with_terms(GRACE, hold(), use()), give_back(at=after(1)),
          [returned(restored=True, valid_until=VALID_END)]),
    Story("by another order", USED, give_back("order-2"), errors.LockMismatch),
    Story("for an unknown reason", USED, give_back(reason="regret"), errors.InvalidField),
    Story("twice, restored", [*USED, returned(restored=True)], give_back(), errors.NotUsed),
    Story("twice, kept used", KEPT, give_back(), errors.NotUsed),
    Story("a second use of a restored coupon", [*USED, returned(restored=True), hold(), use(redemption="redemption-2")],
          give_back(), [returned(restored=True, redemption="2")]),
    Story("a held coupon", HELD, give_back(), errors.NotUsed),
    Story("an unused coupon", FRESH, give_back(), errors.NotUsed),
    Story("an expired coupon", EXPIRED, give_back(), errors.NotUsed),
    Story("a voided coupon", VOIDED, give_back(), errors.CouponVoid),
    Story("an unknown coupon", [], give_back(), errors.CouponNotFound),
]  # fmt: skip

PARTS = [*FRESH, hold(), use(allocation=list(ALLOCATED.allocation))]


def part(line: str, discount: int, **payload: Any) -> Fact:
    """A return of one line of ``PARTS``."""
    named = {"restored": False, "lines": [{"line_id": line, "discount_minor": discount}], "returned_minor": discount}
    return replace(returned(restored=False), payload=returned(restored=False).payload | named | payload)


def lines(*asked: tuple[str, int | None]) -> dict[str, Any]:
    return {"lines": [{"line_id": line, "discount_minor": discount} for line, discount in asked]}


OTHER = "d~"


def of_other(fact: Fact) -> Fact:
    """The same fact of the other coupon."""
    return replace(fact, stream=f"coupon-{OTHER}")


LINE_3 = {"line_id": "3", "product_id": "r", "discount_minor": 500}
ON_LINE_3 = [issued(coupon=OTHER), of_other(hold()), of_other(use(allocation=[LINE_3]))]
SHIPPING = with_terms(Terms(benefit=benefit(kind="free_shipping"), currency="EUR"), hold(), use())
NOTHING = {"line_id": "1", "product_id": "p", "discount_minor": 0}
WHOLE = {"line_id": "2", "product_id": "q", "discount_minor": 500}
PARTIAL_STORIES = [
    Story("a line's whole part, and the coupon stays used", PARTS, give_back(**lines(("1", None))), [part("1", 167)],
          {"coupons": [{"coupon_id": COUPON, "state": "USED", "returned_minor": 167}]}),
    Story("so much of a line's part", PARTS, give_back(**lines(("2", 100))), [part("2", 100)]),
    Story("an amount left out", PARTS, give_back(lines=[{"line_id": "1"}]), [part("1", 167)]),
    Story("what is left of a line", [*PARTS, part("2", 100)], give_back(**lines(("2", None))), [part("2", 233)]),
    Story("more than is left of a line", [*PARTS, part("2", 100)], give_back(**lines(("2", 234))),
          errors.ReturnNotAllowed, facts={"line_id": "2", "discount_minor": 234, "left_minor": 233}),
    Story("a line of which nothing is left", [*PARTS, part("1", 167)], give_back(**lines(("1", None))),
          errors.ReturnNotAllowed),
    Story("another line is given back without it", [*PARTS, part("1", 167)], give_back(**lines(("1", None), ("2", 1))),
          [part("2", 1)]),
    Story("a line that carried nothing, with one that did", [*FRESH, hold(), use(allocation=[NOTHING, WHOLE])],
          give_back(**lines(("1", None), ("2", 100))), [part("2", 100)]),
    Story("a line that is not there", PARTS, give_back(**lines(("3", None))), errors.ReturnNotAllowed),
    Story("so much of a line that is not there", PARTS, give_back(**lines(("3", 1))), errors.ReturnNotAllowed,
          facts={"line_id": "3", "left_minor": 0}),
    Story("a line that is not there, with one that is", PARTS, give_back(**lines(("1", None), ("3", None))),
          [part("1", 167)]),
    Story("a line of two coupons, of which one has it", [*PARTS, *ON_LINE_3], give_back(coupon_ids=[COUPON, OTHER],
          **lines(("1", None))), [part("1", 167)],
          {"coupons": [{"coupon_id": COUPON, "state": "USED", "returned_minor": 167},
                       {"coupon_id": OTHER, "state": "USED", "returned_minor": 0}]}),
    Story("a line that neither has", [*PARTS, *ON_LINE_3], give_back(coupon_ids=[COUPON, OTHER], **lines(("4", None))),
          errors.ReturnNotAllowed, facts={"order_id": "order-1"}),
    Story("a line of a use that took only the shipping cost off", [*SHIPPING], give_back(**lines(("1", None))),
          errors.ReturnNotAllowed),
    Story("such a use, whole", [*SHIPPING], give_back(), [returned(restored=True)]),
    Story("a line of a use without allocation", USED, give_back(**lines(("1", 1))), errors.ReturnNotAllowed),
    Story("nothing of a line", PARTS, give_back(**lines(("1", 0))), errors.ReturnNotAllowed),
    Story("the part that completes the whole restores by policy", [*PARTS, part("1", 167)],
          give_back(**lines(("2", 333))), [part("2", 333, restored=True)],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 333}]}),
    Story("all lines at once are the whole", PARTS, give_back(**lines(("1", None), ("2", None))),
          [returned(restored=True, lines=[{"line_id": "1", "discount_minor": 167},
                                          {"line_id": "2", "discount_minor": 333}])]),
    Story("the completing part keeps it used, by policy", [*PARTS, part("1", 167)],
          give_back(reason="buyer_refund", **lines(("2", None))), [part("2", 333, reason="buyer_refund")]),
    Story("a part moves no end of validity", with_terms(GRACE, hold(), use(allocation=list(ALLOCATED.allocation))),
          give_back(at=after(9), **lines(("1", None))), [part("1", 167, valid_until=VALID_END)]),
    Story("the completing part does", [*with_terms(GRACE, hold(), use(allocation=list(ALLOCATED.allocation))),
          part("1", 167)], give_back(at=after(9), **lines(("2", None))),
          [part("2", 333, restored=True, valid_until=after(12))]),
    Story("the rest without lines", [*PARTS, part("1", 67), part("2", 33)], give_back(),
          [returned(restored=True, returned_minor=400)]),
    Story("anything after the whole", [*PARTS, part("1", 167), part("2", 333, reason="buyer_refund")],
          give_back(**lines(("1", 1))), errors.NotUsed),
    Story("a restored coupon's next use has lines of its own", [*PARTS, part("1", 167), part("2", 333, restored=True),
          hold(), use(redemption="redemption-2", allocation=list(ALLOCATED.allocation))],
          give_back(**lines(("1", None))), [part("1", 167, redemption_id="redemption-2")]),
    Story("a line named twice", PARTS, give_back(**lines(("1", 1), ("1", 2))), errors.InvalidField),
    Story("an amount below nothing", PARTS, give_back(**lines(("1", -1))), errors.InvalidField),
    Story("an amount for two coupons", PARTS, give_back(coupon_ids=[COUPON, "d~"], **lines(("1", 1))),
          errors.InvalidField),
    Story("for an unknown reason", PARTS, give_back(reason="regret", **lines(("1", 1))), errors.InvalidField),
]  # fmt: skip

SPENT = with_terms(VOUCHER, hold(), debit("order-1", 300, 700))
EMPTIED = [*SPENT, hold("order-2"), use("order-2", discount=700)]
KEPT_EMPTY = returned(restored=False, reason="buyer_refund", order_id="order-2", returned_minor=700)
ON_LINES = [
    {"line_id": "1", "product_id": "p", "discount_minor": 200},
    {"line_id": "2", "product_id": "q", "discount_minor": 100},
]
SPENT_ON_LINES = with_terms(VOUCHER, hold(), debit("order-1", 300, 700, allocation=ON_LINES))
LINE_BACK = credited("order-1", 200, 900, lines=[{"line_id": "1", "discount_minor": 200}])
KEEPING = replace(VOUCHER, return_policy=ReturnPolicy(order_cancelled="keep_used"))
GRACIOUS = replace(VOUCHER, return_policy=GRACE.return_policy)
VOUCHER_STORIES = [
    Story("a part is spent, the rest stays on it", with_terms(VOUCHER, hold()), confirm(discount=300),
          [debited("order-1", 300, 700, lock_id="lock-order-1", merchant_funded_minor=300, late=False)],
          {"order_id": "order-1"}),
    Story("another order spends of the rest", [*SPENT, hold("order-2")], confirm("order-2", discount=699),
          [debited("order-2", 699, 1)]),
    Story("the use that empties it is a use", [*SPENT, hold("order-2")], confirm("order-2", discount=700),
          [on_coupon(events.CouponUsed, discount_minor=700)]),
    Story("all of it at once is a use", with_terms(VOUCHER, hold()), confirm(discount=1_000),
          [on_coupon(events.CouponUsed, discount_minor=1_000)]),
    Story("more than is left", [*SPENT, hold("order-2")], confirm("order-2", discount=701), errors.NotApplicable,
          facts={"most_minor": 700}),
    Story("more than it is worth", with_terms(VOUCHER, hold()), confirm(discount=1_001), errors.NotApplicable),
    Story("more than the order costs", with_terms(VOUCHER, hold()), confirm(discount=300, order_total_minor=299),
          errors.NotApplicable),
    Story("one that leaves no balance is used up", with_terms(ALL_OR_NOTHING, hold()), confirm(discount=300),
          [on_coupon(events.CouponUsed, discount_minor=300)]),
    Story("spent twice by the same order, at the same discount", SPENT, confirm(discount=300), []),
    Story("spent twice by the same order, at another discount", SPENT, confirm(discount=301), errors.CouponUsed),
    Story("late, by terms that accept that", with_terms(replace(VOUCHER, late_confirm="accept"), hold(), LAPSED),
          confirm(at=after(5), discount=300), [locked(ends=after(5)), debited("order-1", 300, 700, late=True)]),
    Story("a returned part is on it again", SPENT, give_back(), [credited("order-1", 300, 1_000)],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 300}]}),
    Story("a returned part, while another order holds it", [*SPENT, hold("order-2")], give_back(),
          [credited("order-1", 300, 1_000)], {"coupons": [{"coupon_id": COUPON, "state": "LOCKED",
          "returned_minor": 300}]}),
    Story("the holder may spend what was returned meanwhile", [*SPENT, hold("order-2"),
          credited("order-1", 300, 1_000)], confirm("order-2", discount=1_000), [on_coupon(events.CouponUsed)]),
    Story("returned twice", [*SPENT, credited("order-1", 300, 1_000)], give_back(), errors.NotUsed),
    Story("an order that was undone may use it again", [*SPENT, credited("order-1", 300, 1_000)], lock(), [locked()]),
    Story("kept, by policy: the rest is all there is", with_terms(KEEPING, hold(), debit("order-1", 300, 700)),
          give_back(), [credited("order-1", 0, 700)],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 0}]}),
    Story("a grace moves the end of validity", with_terms(GRACIOUS, hold(), debit("order-1", 300, 700)),
          give_back(at=after(9)), [credited("order-1", 300, 1_000), extended(after(12), reason="order_cancelled")]),
    Story("a grace never shortens validity", with_terms(GRACIOUS, hold(), debit("order-1", 300, 700)),
          give_back(at=after(1)), [credited("order-1", 300, 1_000)]),
    Story("a grace revives nothing", with_terms(GRACIOUS, hold(), debit("order-1", 300, 700)),
          give_back(at=after(20)), [credited("order-1", 300, 1_000)],
          {"coupons": [{"coupon_id": COUPON, "state": "EXPIRED", "returned_minor": 300}]}),
    Story("nor when the expiry was written down", [*with_terms(GRACIOUS, hold(), debit("order-1", 300, 700)),
          expired()], give_back(at=after(20)), [credited("order-1", 300, 1_000)]),
    Story("by another order", SPENT, give_back("order-2"), errors.NotUsed),
    Story("by the line, of which the use has none", SPENT, give_back(**lines(("1", None))), errors.ReturnNotAllowed),
    Story("a line of a part", SPENT_ON_LINES, give_back(**lines(("1", None))), [credited("order-1", 200, 900,
          lines=[{"line_id": "1", "discount_minor": 200}])],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 200}]}),
    Story("no line is given back twice", [*SPENT_ON_LINES, LINE_BACK], give_back(**lines(("1", None))),
          errors.ReturnNotAllowed),
    Story("nor more than a line carried", SPENT_ON_LINES, give_back(**lines(("1", 201))), errors.ReturnNotAllowed,
          facts={"left_minor": 200}),
    Story("the rest of a part", [*SPENT_ON_LINES, LINE_BACK], give_back(), [credited("order-1", 100, 1_000)]),
    Story("nothing after its last line", [*SPENT_ON_LINES, LINE_BACK, credited("order-1", 100, 1_000,
          lines=[{"line_id": "2", "discount_minor": 100}])], give_back(), errors.NotUsed),
    Story("an order undone in part does not spend again", [*SPENT_ON_LINES, LINE_BACK], lock(), errors.CouponUsed),
    Story("a line moves no end of validity", with_terms(GRACIOUS, hold(), debit("order-1", 300, 700,
          allocation=ON_LINES)), give_back(at=after(9), **lines(("1", None))), [credited("order-1", 200, 900,
          lines=[{"line_id": "1", "discount_minor": 200}])]),
    Story("for an unknown reason", SPENT, give_back(reason="regret"), errors.InvalidField),
    Story("a part, after another order emptied it", EMPTIED, give_back(), errors.ReturnNotAllowed,
          facts={"order_id": "order-2"}),
    Story("a part, after the order that emptied it was returned and kept", [*EMPTIED, KEPT_EMPTY], give_back(),
          [credited("order-1", 300, 300, restored=True)],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED", "returned_minor": 300}]}),
    Story("and it is spent again", [*EMPTIED, KEPT_EMPTY, credited("order-1", 300, 300, restored=True),
          hold("order-3")], confirm("order-3", discount=299), [debited("order-3", 299, 1)]),
    Story("but not more than came back", [*EMPTIED, KEPT_EMPTY, credited("order-1", 300, 300, restored=True),
          hold("order-3")], confirm("order-3", discount=301), errors.NotApplicable, facts={"most_minor": 300}),
    Story("nor is the order that was kept returned again", [*EMPTIED, KEPT_EMPTY,
          credited("order-1", 300, 300, restored=True)], give_back("order-2"), errors.NotUsed),
    Story("a part that is kept too leaves it used", [*EMPTIED, KEPT_EMPTY], give_back(reason="buyer_refund"),
          [credited("order-1", 0, 0, "buyer_refund")],
          {"coupons": [{"coupon_id": COUPON, "state": "USED", "returned_minor": 0}]}),
    Story("a grace, on a part of a voucher that is unused again", [*with_terms(GRACIOUS, hold(),
          debit("order-1", 300, 700), hold("order-2"), use("order-2", discount=700)), KEPT_EMPTY],
          give_back(at=after(9)), [credited("order-1", 300, 300, restored=True),
          extended(after(12), reason="order_cancelled")]),
    Story("the use that emptied it", EMPTIED, give_back("order-2"),
          [on_coupon(events.CouponReturned, order_id="order-2", restored=True, returned_minor=700)]),
    Story("and what it emptied is there again", [*EMPTIED, replace(returned(restored=True), payload=returned(
          restored=True).payload | {"order_id": "order-2", "returned_minor": 700}), hold("order-3")],
          confirm("order-3", discount=699), [debited("order-3", 699, 1)]),
    Story("a voucher with a balance is voided", SPENT, void(), [voided()]),
    Story("and then nothing returns to it", [*SPENT, voided()], give_back(), errors.CouponVoid),
    Story("a voucher with a balance expires", SPENT, expire(at=VALID_END), [expired()]),
]  # fmt: skip
