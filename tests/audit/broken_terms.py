"""Stories of logs whose last event is not what the plan or the pinned terms allow, and the rule that each breaks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.audit.broken_logs import funded, reviewed
from tests.audit.logs import HELD, T0, VALID, VALUE, Life, Log, text

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOON = T0 + timedelta(minutes=1)
GRACE = {"merchant_refund": "restore_with_grace", "order_cancelled": "restore_with_grace", "grace_days": 3}
PERCENT = {"benefit": {"kind": "percent_off", "percent_permyriad": 1_000}}
STATED = {"benefit": {"kind": "order_stated"}}
GIFT = {"benefit": {"kind": "gift", "products": ["p"]}}


def used(log: Log, **payload: Any) -> Life:
    """A coupon that an order spent."""
    life = log.issue("ann")
    life.lock()
    life.use(**payload)
    return life


# --- refunds ---------------------------------------------------------------------------------------------------------


def money_back_where_the_policy_keeps_it(log: Log) -> None:
    used(log).return_(reason="buyer_refund", restored=False)


def a_coupon_back_where_the_policy_keeps_it(log: Log) -> None:
    used(log).return_(reason="buyer_refund", returned_minor=0)


def a_coupon_kept_where_the_policy_restores_it(log: Log) -> None:
    used(log).return_(restored=False)


def nothing_back_where_the_policy_restores_it(log: Log) -> None:
    used(log).return_(returned_minor=0)


def a_coupon_back_for_a_part(log: Log) -> None:
    used(log).return_(returned_minor=500, lines=[{"line_id": "1", "discount_minor": 500}])


def a_return_of_nothing_twice(log: Log) -> None:
    life = used(log, **funded(0), allocation=[])
    for _ in range(2):
        life.return_(reason="buyer_refund", restored=False)


def a_return_for_a_reason_that_no_policy_has(log: Log) -> None:
    used(log).return_(reason="grace_days")


def a_return_that_lengthens_the_validity(log: Log) -> None:
    used(log).return_(valid_until=text(T0 + 50 * 365 * DAY))


def a_grace_that_is_too_long(log: Log) -> None:
    at = T0 + VALID
    used(log).return_(occurred_at=text(at), valid_until=text(at + 3 * DAY + HOUR))


def a_grace_that_is_too_short(log: Log) -> None:
    at = T0 + VALID
    used(log).return_(occurred_at=text(at), valid_until=text(at))


def a_grace_for_a_part(log: Log) -> None:
    part = {"returned_minor": 500, "lines": [{"line_id": "1", "discount_minor": 500}], "restored": False}
    at = T0 + VALID
    used(log).return_(**part, occurred_at=text(at), valid_until=text(at + 3 * DAY))


def debited(log: Log) -> Life:
    """A voucher of which an order spent a part."""
    life = log.issue("ann")
    life.lock()
    life.debit()
    return life


def a_credit_where_the_policy_keeps_it(log: Log) -> None:
    debited(log).credit(reason="buyer_refund")


def a_credit_of_nothing(log: Log) -> None:
    life = debited(log)
    life.credit(credited_minor=0, balance_minor=life.left)


def a_credit_to_another_balance(log: Log) -> None:
    debited(log).credit(balance_minor=VALUE - 1)


def a_credit_that_restores_what_is_not_used_up(log: Log) -> None:
    debited(log).credit(restored=True)


def a_credit_that_forgets_what_it_restores(log: Log) -> None:
    life = debited(log)
    life.lock()
    life.use()
    life.credit()


def a_credit_that_restores_with_what_was_spent(log: Log) -> None:
    life = debited(log)
    life.lock()
    life.use()
    life.credit(restored=True)


LATE = T0 + VALID - HOUR


def graced(log: Log, **grace: Any) -> Life:
    """A voucher of which a part was refunded shortly before its end."""
    life = debited(log)
    life.credit(occurred_at=text(LATE), request_id="refund")
    said = {"occurred_at": text(LATE), "request_id": "refund", "valid_until": text(LATE + 3 * DAY)}
    life.extend(**said | grace)
    return life


def a_grace_on_what_was_over(log: Log) -> None:
    """The credit found something left on the voucher, so it restored nothing."""
    at = T0 + VALID
    life = debited(log)
    life.credit(occurred_at=text(at), request_id="refund")
    life.extend(occurred_at=text(at), request_id="refund", valid_until=text(at + 3 * DAY))


def a_second_grace(log: Log) -> None:
    life = graced(log)
    at = T0 + 60 * DAY
    before, until = text(LATE + 3 * DAY), text(at + 3 * DAY)
    life.extend(occurred_at=text(at), request_id="refund", valid_until_before=before, valid_until=until)


def a_grace_of_a_rule_that_gives_none(log: Log) -> None:
    life = debited(log)
    life.credit(occurred_at=text(LATE), request_id="refund")
    life.extend(occurred_at=text(T0 + VALID), request_id="refund", valid_until=text(T0 + VALID + DAY))


def extended_after_its_end(log: Log) -> None:
    log.issue().extend(occurred_at=text(T0 + VALID))


def extended_while_an_order_holds_it(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.extend()


# --- uses ------------------------------------------------------------------------------------------------------------


def funders_of_another_share(log: Log) -> None:
    used(log, merchant_funded_minor=0, platform_funded_minor=VALUE)


def funders_where_the_merchant_pays_all(log: Log) -> None:
    used(log, merchant_funded_minor=VALUE - 1, platform_funded_minor=1)


def late_in_time(log: Log) -> None:
    used(log, late=True)


def not_late_at_the_very_end(log: Log) -> None:
    used(log, occurred_at=text(T0 + HELD))


def late(log: Log) -> None:
    used(log, late=True, occurred_at=text(T0 + HELD))


def late_after_the_validity(log: Log) -> None:
    used(log, late=True, occurred_at=text(T0 + VALID))


def late_by_who_is_a_friend_no_longer(log: Log) -> None:
    life = log.issue("ann")
    life.share()
    life.lock(holder_id="friend")
    life.add("shared", with_user_ids=[])
    life.use(holder_id="friend", late=True, occurred_at=text(T0 + HELD))


def below_the_minimum_spend(log: Log) -> None:
    used(log, order_total_minor=4_999)


def locked_below_the_minimum_spend(log: Log) -> None:
    log.issue().lock(order_total_minor=4_999)


def a_part_of_nobody_knows_what(log: Log) -> None:
    life = log.issue()
    life.lock(order_total_minor=9_900)
    life.use(**funded(500), allocation=[], order_total_minor=None)


def more_than_the_lines_of_the_lock(log: Log) -> None:
    life = log.issue()
    lines = [{"line_id": str(line), "product_id": "p", "amount_minor": 300} for line in range(2)]
    life.lock(lines_in_scope=lines, channel="online", class_version=4)
    life.use(**funded(601), allocation=[])


# --- changes of hands ------------------------------------------------------------------------------------------------


def transferred(log: Log) -> None:
    log.issue().transfer()


def shared(log: Log) -> None:
    log.issue().share()


# --- validity --------------------------------------------------------------------------------------------------------


def issued(**payload: Any) -> Callable[[Log], None]:
    """A coupon that says something else of itself than its batch planned."""

    def story(log: Log) -> None:
        log.issue(**payload)

    story.__name__ = "issued with " + " and ".join(payload)
    return story


FOR_AGES = issued(valid_until=text(T0 + 50 * 365 * DAY))
SINCE_LONG = issued(valid_from=text(datetime(2020, 1, 1, tzinfo=UTC)))
RELATIVE = {"valid_from": None, "valid_until": None, "valid_for_seconds": 9 * 86_400}
AT_ONCE = {"occurred_at": text(T0), "valid_from": text(T0)}


# --- locks -----------------------------------------------------------------------------------------------------------


def a_lock_that_promises_more_than_the_voucher(log: Log) -> None:
    log.issue().lock(discount_minor=50_000)


def a_lock_that_promises_more_than_is_left(log: Log) -> None:
    life = debited(log)
    life.lock(discount_minor=life.left + 1)


def a_lock_that_promises_more_than_the_order(log: Log) -> None:
    log.issue().lock(discount_minor=500, order_total_minor=499)


def a_lock_without_the_discount_that_only_it_can_know(log: Log) -> None:
    log.issue().lock()


def a_lock_for_ever(log: Log) -> None:
    log.issue().lock(lock_ends_at="9999-12-31T00:00:00Z")


def a_lock_of_a_day_and_a_moment(log: Log) -> None:
    at = SOON + DAY + timedelta(microseconds=1)
    log.issue().lock(occurred_at=text(SOON), lock_ends_at=text(at))


def a_lock_that_is_over_before_it_begins(log: Log) -> None:
    log.issue().lock(lock_ends_at=text(T0))


def a_lock_extended_for_ever(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.hold_longer(lock_ends_at="9999-12-31T00:00:00Z")


def a_lock_renewed_for_more_than_a_day(log: Log) -> None:
    life = log.issue()
    life.lock(occurred_at=text(SOON))
    held = dict(zip(("order_id", "lock_id"), life.held or (), strict=True))
    now = {"request_id": "again", "occurred_at": text(SOON + HOUR / 2)}
    life.unlock(reason="locked_again", **now)
    life.lock(order_id=held["order_id"], lock_ends_at=text(SOON + DAY + HOUR / 4), **now)


def a_lock_for_another_user_that_outlasts_the_validity(log: Log) -> None:
    life = log.issue("ann")
    life.share()
    at = T0 + VALID - HOUR
    life.lock(occurred_at=text(at), lock_ends_at=text(at + 2 * HOUR))
    held = dict(zip(("order_id", "lock_id"), life.held or (), strict=True))
    now = {"request_id": "again", "occurred_at": text(at + 1.5 * HOUR)}
    life.unlock(reason="locked_again", **now)
    life.lock(order_id=held["order_id"], holder_id="friend", lock_ends_at=text(at + 3 * HOUR), **now)


OVER = {"occurred_at": text(T0 + HELD)}
"""When the locks of these logs have just ended."""


def a_lock_extended_when_it_is_over(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.hold_longer(lock_ends_at=text(T0 + 2 * HELD), **OVER)


def a_lock_let_go_when_it_is_over(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.unlock(**OVER)


def a_lock_made_again_when_it_is_over(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.unlock(reason="locked_again", request_id="again", **OVER)


def a_lock_voided_when_it_is_long_over(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.unlock(reason="voided", occurred_at=text(T0 + HELD + timedelta(microseconds=1)))


def a_lock_made_again_later(log: Log) -> None:
    """By the request that let go, and after the coupon's end."""
    life = log.issue()
    at = T0 + VALID - HOUR
    life.lock(occurred_at=text(at), lock_ends_at=text(at + 2 * HOUR))
    held = dict(zip(("order_id", "lock_id"), life.held or (), strict=True))
    life.unlock(reason="locked_again", request_id="again", occurred_at=text(at + HOUR))
    later = {"occurred_at": text(at + 3 * HOUR), "lock_ends_at": text(at + 4 * HOUR)}
    life.lock(order_id=held["order_id"], request_id="again", **later)


def the_end_of_a_lock_long_before_it(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.unlock(reason="lock_ended")


BROKEN: list[tuple[Callable[[Log], None], str, dict[str, Any]]] = [
    (money_back_where_the_policy_keeps_it, "I17", {}),
    (a_coupon_back_where_the_policy_keeps_it, "I7", {}),
    (a_coupon_kept_where_the_policy_restores_it, "I7", {}),
    (nothing_back_where_the_policy_restores_it, "I17", {}),
    (a_coupon_back_for_a_part, "I7", {}),
    (a_return_of_nothing_twice, "I17", {"terms": STATED}),
    (a_return_for_a_reason_that_no_policy_has, "form", {}),
    (a_return_that_lengthens_the_validity, "I7", {}),
    (a_grace_that_is_too_long, "I7", {"terms": {"return_policy": GRACE}}),
    (a_grace_that_is_too_short, "I7", {"terms": {"return_policy": GRACE}}),
    (a_grace_for_a_part, "I7", {"terms": {"return_policy": GRACE}}),
    (a_credit_where_the_policy_keeps_it, "I17", {}),
    (a_credit_of_nothing, "I17", {}),
    (a_credit_to_another_balance, "I17", {}),
    (a_credit_that_restores_what_is_not_used_up, "I7", {}),
    (a_credit_that_forgets_what_it_restores, "I7", {}),
    (a_credit_that_restores_with_what_was_spent, "I17", {}),
    (a_grace_on_what_was_over, "I7", {"terms": {"return_policy": GRACE}}),
    (a_second_grace, "I7", {"terms": {"return_policy": GRACE}}),
    (a_grace_of_a_rule_that_gives_none, "I7", {}),
    (extended_after_its_end, "I7", {}),
    (extended_while_an_order_holds_it, "I7", {}),
    (funders_of_another_share, "I17", {}),
    (funders_where_the_merchant_pays_all, "I17", {"terms": {"merchant_share_permyriad": 10_000}}),
    (late_in_time, "I6", {}),
    (not_late_at_the_very_end, "I6", {}),
    (late, "I6", {"terms": {"late_confirm": "refuse"}}),
    (late_after_the_validity, "I7", {}),
    (late_by_who_is_a_friend_no_longer, "I6", {}),
    (below_the_minimum_spend, "I17", {"terms": {"min_spend_minor": 5_000}}),
    (locked_below_the_minimum_spend, "I17", {"terms": {"min_spend_minor": 5_000}}),
    (a_part_of_nobody_knows_what, "I17", {"terms": PERCENT}),
    (more_than_the_lines_of_the_lock, "I17", {"terms": STATED}),
    (transferred, "I6", {"terms": {"transferable": False}}),
    (shared, "I6", {"terms": {"shareable": False}}),
    (FOR_AGES, "I7", {}),
    (FOR_AGES, "I7", RELATIVE),
    (FOR_AGES, "I7", {"ends_at_day_close": True}),
    (SINCE_LONG, "I7", {}),
    (SINCE_LONG, "I7", RELATIVE),
    (issued(valid_until=text(T0 + VALID - HOUR)), "I7", {}),
    (issued(valid_until=text(T0 + VALID - HOUR)), "I7", {"ends_at_day_close": True}),
    (issued(**AT_ONCE), "I7", RELATIVE | {"valid_delay_seconds": 60}),
    (issued(**AT_ONCE), "I7", RELATIVE | {"valid_for_seconds": 8 * 86_400}),
    (issued(occurred_at=text(T0 + VALID)), "I7", {}),
    (a_lock_that_promises_more_than_the_voucher, "I17", {}),
    (a_lock_that_promises_more_than_is_left, "I17", {}),
    (a_lock_that_promises_more_than_the_order, "I17", {"terms": PERCENT}),
    (a_lock_without_the_discount_that_only_it_can_know, "I17", {"terms": GIFT}),
    (a_lock_for_ever, "I4", {}),
    (a_lock_of_a_day_and_a_moment, "I4", {}),
    (a_lock_that_is_over_before_it_begins, "I4", {}),
    (a_lock_extended_for_ever, "I4", {}),
    (a_lock_renewed_for_more_than_a_day, "I4", {}),
    (a_lock_for_another_user_that_outlasts_the_validity, "I7", {}),
    (the_end_of_a_lock_long_before_it, "I6", {}),
    (a_lock_extended_when_it_is_over, "I6", {}),
    (a_lock_let_go_when_it_is_over, "I6", {}),
    (a_lock_made_again_when_it_is_over, "I6", {}),
    (a_lock_voided_when_it_is_long_over, "I6", {}),
    (a_lock_made_again_later, "I7", {}),
]


# --- what the same request must write next -------------------------------------------------------------------------


def a_grace_after_a_credit_that_is_too_long(log: Log) -> None:
    graced(log, valid_until=text(LATE + 4 * DAY))


def a_grace_weeks_after_the_credit(log: Log) -> None:
    graced(log, occurred_at=text(LATE + 50 * DAY), valid_until=text(LATE + 53 * DAY))


def a_grace_that_is_counted_right_and_told_late(log: Log) -> None:
    graced(log, occurred_at=text(LATE + DAY))


def a_grace_by_another_request(log: Log) -> None:
    graced(log, request_id="another")


def no_grace_after_a_credit(log: Log) -> None:
    life = debited(log)
    life.credit(occurred_at=text(LATE))
    life.transfer()


def no_grace_where_an_order_holds_it(log: Log) -> None:
    life = debited(log)
    life.lock(occurred_at=text(LATE), lock_ends_at=text(LATE + 3 * HOUR))
    life.credit(occurred_at=text(LATE + 2 * HOUR))
    life.unlock(occurred_at=text(LATE + 2 * HOUR))


def a_quantity_raised_without_a_review(log: Log) -> None:
    reviewed(log)
    log.add("batch-b", "batch.quantity_changed", quantity_before=1_000_000, quantity=1_000_001)
    log.add("batch-b", "batch.started")


def a_budget_raised_without_a_review(log: Log) -> None:
    reviewed(log)
    log.add("batch-b", "batch.budget_changed", budget_before_minor=9, budget_minor=10)
    log.add("batch-b", "batch.quantity_changed", quantity_before=1_000_000, quantity=1)


LEFT_OUT: list[tuple[Callable[[Log], None], str, dict[str, Any]]] = [
    (a_grace_after_a_credit_that_is_too_long, "I7", {"terms": {"return_policy": GRACE}}),
    (a_grace_weeks_after_the_credit, "I7", {"terms": {"return_policy": GRACE}}),
    (a_grace_that_is_counted_right_and_told_late, "I7", {"terms": {"return_policy": GRACE}}),
    (a_grace_by_another_request, "I7", {"terms": {"return_policy": GRACE}}),
    (no_grace_after_a_credit, "I7", {"terms": {"return_policy": GRACE}}),
    (no_grace_where_an_order_holds_it, "I7", {"terms": {"return_policy": GRACE}}),
    (a_quantity_raised_without_a_review, "I2", {"needs_approval": True}),
    (a_budget_raised_without_a_review, "I2", {"needs_approval": True, "budget_minor": 9}),
]
"""The same, but that a whole log is wrong without that event too, for another one is due."""
