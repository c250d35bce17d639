"""What the coupons of one order may do together, in one call or several, as stories for any backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ledger import errors, events, use_cases
from ledger.basket import Line
from ledger.coupon import Redemption
from tests.unit.coupon_facts import (
    FRESH,
    PRICED,
    STATED,
    VOUCHER,
    benefit,
    confirm,
    debit,
    hold,
    lock,
    locked,
    on_coupon,
    redeem,
    returned,
    unlock,
    unlocked,
    use,
    voided,
    with_terms,
)
from tests.unit.order_stories import AT_TILL
from tests.unit.specs import COUPON, TERMS, Command, Fact, Story, created_template, issued

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


def stated(digest: str | None) -> Fact:
    """A lock of the past of a coupon that the order system values."""
    named = {"quote_digest": digest, "discount_minor": None, "allocation": []}
    return replace(PRICED, payload={**PRICED.payload, **named})


def kept_lines(digest: str) -> Fact:
    """Of the second coupon, on the one line of 500 from which the first takes 450."""
    fact = on_second(seen(stated(digest)))
    line = {"line_id": "1", "product_id": "p", "amount_minor": 500}
    return replace(fact, payload={**fact.payload, "lines_in_scope": [line]})


def seen(fact: Fact) -> Fact:
    """The same lock of the past, on a basket of 500."""
    return replace(fact, payload={**fact.payload, "channel": "online", "order_total_minor": 500})


def confirm_second(**arguments: Any) -> Command:
    return confirm(redemptions=[Redemption(coupon_id=SECOND, discount_minor=1)], **arguments)


def scan_second(**arguments: Any) -> Command:
    return redeem(**{"coupon_id": SECOND, "discount_minor": 1} | arguments)


def at_till(digest: str, discount: int) -> Fact:
    """A till's lock of the past, priced on ``AT_TILL``."""
    named = {"quote_digest": digest, "discount_minor": discount, "order_total_minor": 300}
    return replace(PRICED, payload={**PRICED.payload, **named, "allocation": on_line_1(discount)})


def used_at_till(discount: int) -> Fact:
    return use(discount=discount, order_total_minor=300, allocation=on_line_1(discount))


def on_line_1(discount: int) -> list[dict[str, Any]]:
    return [{"line_id": "1", "product_id": "p", "discount_minor": discount}]


ONE_STATED = [created_template(STACKABLE), created_template(replace(STATED, stacking_mode="stackable"),
              events.TemplateRevised), issued(), issued(coupon=SECOND, template_version=2)]  # fmt: skip
SHIPPED = replace(TERMS, benefit=benefit(kind="free_shipping"))
SENT = replace(AT_TILL, shipping_minor=490)
TWO_LINES = replace(AT_TILL, lines=(*AT_TILL.lines, Line(line_id="2", product_id="q", unit_price_minor=300)))

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
    Story("one priced, one told", [*TWO, priced("q"), on_second(hold())], confirm(**EACH), errors.NotApplicable,
          facts={"order_id": "order-1"}),
    Story("one priced, one that the order system values, locked in one call", [*ONE_STATED, priced("q"),
          on_second(stated("q"))], confirm(**EACH), [on_coupon(events.CouponUsed),
          Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("locked in two calls", [*ONE_STATED, priced("q"), on_second(stated(None))], confirm(**EACH),
          errors.NotApplicable),
    Story("one told, one that the order system values", [*ONE_STATED, hold(), on_second(stated("q"))],
          confirm(**EACH), [on_coupon(events.CouponUsed), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("a later confirmation, with what the order used before", [*TWO, hold(), use(discount=1, order_total_minor=2),
          on_second(hold())], confirm_second(order_total_minor=2), [Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("and not more than the order costs", [*TWO, hold(), use(discount=1, order_total_minor=1), on_second(hold())],
          confirm_second(order_total_minor=1), errors.NotApplicable, facts={"discount_minor": 2, "most_minor": 1}),
    Story("nor more than the cap of what it used before", [*with_terms(replace(STACKABLE, order_cap_permyriad=5_000)),
          issued(coupon=SECOND), hold(), use(discount=1, order_total_minor=3), on_second(hold())],
          confirm_second(order_total_minor=3), errors.NotApplicable, facts={"discount_minor": 2, "most_minor": 1}),
    Story("nor an exclusive one beside another", [*FRESH, issued(coupon=SECOND), hold(), use(), on_second(hold())],
          confirm_second(), errors.ExclusiveConflict, facts={"coupon_id": SECOND, "with_coupon_id": COUPON}),
    Story("nor two of a group", [*with_terms(IN_GROUP), issued(coupon=SECOND), hold(), use(), on_second(hold())],
          confirm_second(), errors.ExclusiveConflict),
    Story("nor one priced without it", [*TWO, priced("q"), use(), on_second(priced("r"))], confirm_second(),
          errors.NotApplicable),
    Story("one priced with it, later", [*TWO, priced("q"), use(lock_id="lock-order-1"), on_second(priced("q"))],
          confirm_second(), [Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("what was returned whole counts no more", [*FRESH, issued(coupon=SECOND), hold(), use(),
          returned(restored=True), on_second(hold())], confirm_second(), [Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("though it is kept used", [*FRESH, issued(coupon=SECOND), hold(), use(), returned(restored=False),
          on_second(hold())], confirm_second(), [Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("what another order used counts for that one", [*FRESH, issued(coupon=SECOND), hold(), unlocked(),
          hold("order-2"), use("order-2"), on_second(hold())], confirm_second(),
          [Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("a part of a voucher counts too", [*with_terms(replace(VOUCHER, stacking_mode="stackable")),
          issued(coupon=SECOND), hold(), debit("order-1", 300, 700, order_total_minor=300), on_second(hold())],
          confirm_second(order_total_minor=300), errors.NotApplicable, facts={"discount_minor": 301}),
    Story("a till's second coupon, with the first", [*TWO, hold(), use(discount=1)], scan_second(order_total_minor=2),
          [Fact(events.CouponLocked, f"coupon-{SECOND}"), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("an exclusive one", [*FRESH, issued(coupon=SECOND), hold(), use()], scan_second(), errors.ExclusiveConflict),
    Story("on what the lines still hold", [*TWO, at_till("q", 299), used_at_till(299)],
          scan_second(discount_minor=1, basket=AT_TILL),
          [Fact(events.CouponLocked, f"coupon-{SECOND}"), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("and no line holds more", [*TWO, at_till("q", 299), used_at_till(299)],
          scan_second(discount_minor=None, basket=TWO_LINES), errors.NotApplicable,
          facts={"line_id": "1", "most_minor": 300}),
    Story("nor is more shipped for nothing than shipping costs", [*with_terms(replace(SHIPPED, stacking_mode=
          "stackable")), issued(coupon=SECOND), at_till("q", 400), use(discount=400, order_total_minor=300)],
          scan_second(discount_minor=None, basket=SENT), errors.NotApplicable,
          facts={"discount_minor": 890, "most_minor": 490}),
    Story("with a basket, after one without", [*TWO, hold(), use(discount=1)],
          scan_second(discount_minor=1, basket=AT_TILL), errors.NotApplicable),
    Story("without a basket, after one with it", [*TWO, at_till("q", 100), used_at_till(100)], scan_second(),
          errors.NotApplicable),
    Story("stated without a basket, after one with it", [*ONE_STATED, at_till("q", 100), used_at_till(100)],
          scan_second(), errors.NotApplicable),
    Story("with a basket, after one stated without it", [created_template(replace(STATED, stacking_mode="stackable")),
          created_template(STACKABLE, events.TemplateRevised), issued(), issued(coupon=SECOND, template_version=2),
          hold(), use(discount=1)], scan_second(discount_minor=1, basket=AT_TILL), errors.NotApplicable),
    Story("an order that grew is judged by its basket", [*TWO, at_till("q", 300), used_at_till(300)],
          scan_second(discount_minor=100, basket=replace(TWO_LINES, lines=TWO_LINES.lines[1:])),
          errors.NotApplicable, facts={"discount_minor": 400, "most_minor": 300}),
    Story("to what it costs now", [*TWO, at_till("q", 200), used_at_till(200)],
          scan_second(discount_minor=250, basket=TWO_LINES, allocation=[{"line_id": "2", "discount_minor": 250}]),
          [Fact(events.CouponLocked, f"coupon-{SECOND}"), Fact(events.CouponUsed, f"coupon-{SECOND}")]),
    Story("one stated at a till takes what the first left of the lines", [*ONE_STATED, at_till("q", 200),
          used_at_till(200)], scan_second(discount_minor=400, basket=TWO_LINES),
          [Fact(events.CouponLocked, f"coupon-{SECOND}"), Fact(events.CouponUsed, f"coupon-{SECOND}", {"allocation": [
          {"line_id": "1", "product_id": "p", "discount_minor": 100},
          {"line_id": "2", "product_id": "q", "discount_minor": 300}]})]),
    Story("and not more", [*ONE_STATED, at_till("q", 200), used_at_till(200)],
          scan_second(discount_minor=401, basket=TWO_LINES), errors.NotApplicable, facts={"most_minor": 400}),
    Story("one stated takes what the others left of the lines", [*ONE_STATED, seen(priced("q")), kept_lines("q")],
          confirm(redemptions=[Redemption(coupon_id=SECOND, discount_minor=50), Redemption(coupon_id=COUPON,
          discount_minor=None)]), [on_coupon(events.CouponUsed), Fact(events.CouponUsed, f"coupon-{SECOND}", {
          "allocation": [{"line_id": "1", "product_id": "p", "discount_minor": 50}]})]),
    Story("and not more than that", [*ONE_STATED, seen(priced("q")), kept_lines("q")], confirm(redemptions=[
          Redemption(coupon_id=SECOND, discount_minor=51), Redemption(coupon_id=COUPON, discount_minor=None)]),
          errors.NotApplicable, facts={"coupon_id": SECOND, "most_minor": 50}),
    Story("together not more than the basket that the lock saw, whatever is said later", [*ONE_STATED,
          seen(priced("q")), on_second(seen(stated("q")))], confirm(order_total_minor=9_000, redemptions=[
          Redemption(coupon_id=COUPON, discount_minor=450), Redemption(coupon_id=SECOND, discount_minor=51)]),
          errors.NotApplicable, facts={"discount_minor": 501, "most_minor": 500}),
    Story("one unlocked stops all unlocks", [*TWO, hold()], unlock(**BOTH), errors.NotLocked),
    Story("one not held stops all confirmations", [*TWO, hold()],
          confirm(**EACH), errors.NotLocked),
    Story("a coupon named twice", FRESH, lock(coupon_ids=[COUPON, COUPON]), errors.InvalidField),
    Story("no coupon", FRESH, lock(coupon_ids=[]), errors.InvalidField),
    Story("a hundred and one coupons", FRESH, lock(coupon_ids=[f"c{n}" for n in range(101)]), errors.InvalidField),
]  # fmt: skip
