"""Stories of logs that break a rule with their last event, and the rule that each breaks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.audit.logs import HELD, SHARE_PERMYRIAD, T0, VALUE, Log, text


def funded(discount: int) -> dict[str, int]:
    """A discount, with the parts that the terms of these logs say."""
    merchant = discount * SHARE_PERMYRIAD // 10_000
    parts = {"merchant_funded_minor": merchant, "platform_funded_minor": discount - merchant}
    return {"discount_minor": discount, **parts}


FIRST_TIME = "0001-01-01T00:00:00+14:00"


def over_the_quantity(log: Log) -> None:
    log.issue()
    log.issue()
    log.issue()


def a_quantity_below_what_is_issued(log: Log) -> None:
    log.issue()
    log.issue()
    log.add("batch-b", "batch.quantity_changed", quantity_before=2, quantity=1)


def a_quantity_that_was_another(log: Log) -> None:
    log.add("batch-b", "batch.quantity_changed", quantity_before=3, quantity=4)


def a_coupon_of_no_batch(log: Log) -> None:
    log.rows[1] = log.rows[1]._replace(stream="batch-c", topic="batch.created")
    log.rows.pop()
    log.versions["batch-b"] = 0
    log.issue()


def too_many_for_a_user(log: Log) -> None:
    log.issue("ann")
    log.issue("bob")
    log.issue("ann")


def too_many_for_a_person(log: Log) -> None:
    for user_id in ("ann", "bob"):
        log.issue(user_id)
        state = log.rows[-1].state.replace('"facts":{}', '"facts":{"person":"p"}')
        log.rows[-1] = log.rows[-1]._replace(state=state)


def a_receipt_used_twice(log: Log) -> None:
    for user_id in ("ann", "bob"):
        log.issue(user_id)
        state = log.rows[-1].state.replace('"facts":{}', '"facts":{"points_receipt":"r"}')
        log.rows[-1] = log.rows[-1]._replace(state=state)


def locked_twice(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.lock()


def used_twice(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.use()


def used_without_a_lock(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.unlock()
    life.use()


def used_by_another_order(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(order_id="order-other")


def used_with_another_lock(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(lock_id="lock-other")


def unlocked_with_another_lock(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.unlock(lock_id="lock-other")


def used_by_another_user(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(holder_id="friend")


def locked_by_a_stranger(log: Log) -> None:
    log.issue().lock(holder_id="stranger")


def used_after_the_lock(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(occurred_at=text(T0 + HELD))


def locked_after_its_end(log: Log) -> None:
    life = log.issue()
    life.lock(occurred_at=text(T0 + timedelta(days=9)))


def locked_after_voiding(log: Log) -> None:
    life = log.issue()
    life.void()
    life.lock()


def voided_after_use(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.void()


def expired_too_early(log: Log) -> None:
    log.issue().expire(valid_until=text(T0 + timedelta(days=8)))


def expired_before_its_end(log: Log) -> None:
    log.issue().expire(occurred_at=text(T0))


def expired_before_the_clock_said_so(log: Log) -> None:
    log.issue().expire()
    log.rows[-1] = log.rows[-1]._replace(recorded_at_us=log.rows[-2].recorded_at_us)
    in_time = int((T0 + timedelta(days=9) - timedelta(seconds=61)).timestamp()) * 1_000_000
    log.rows = [row._replace(recorded_at_us=in_time) for row in log.rows]


def a_clock_that_fell(log: Log) -> None:
    log.issue()
    log.rows[-1] = log.rows[-1]._replace(recorded_at_us=log.rows[-2].recorded_at_us - 1_000_001)


def a_batch_that_never_started(log: Log) -> None:
    log.rows.pop()
    log.versions["batch-b"] -= 1
    log.issue()


def a_batch_that_stopped(log: Log) -> None:
    log.issue()
    log.add("batch-b", "batch.stopped", reason="enough")
    log.issue()


def a_batch_that_is_paused(log: Log) -> None:
    log.add("batch-b", "batch.paused", reason="stock count")
    log.issue()


def a_batch_resumed_after_it_stopped(log: Log) -> None:
    log.add("batch-b", "batch.stopped", reason="enough")
    log.add("batch-b", "batch.resumed")


def a_batch_started_without_approval(log: Log) -> None:
    log.rows[1] = log.rows[1]._replace(state=log.rows[1].state.replace('"name":"B"', '"needs_approval":true'))
    log.rows.pop()
    log.versions["batch-b"] -= 1
    log.add("batch-b", "batch.started")


def reviewed(log: Log, *, by: str = "key:chief", submitted_by: str = "key:clerk") -> None:
    """The batch, planned by ``key:till``, is approved and was never started."""
    if log.rows[-1].topic == "batch.started":
        log.rows.pop()
        log.versions["batch-b"] -= 1
    log.add("batch-b", "batch.submitted", actor=submitted_by)
    log.add("batch-b", "batch.approved", actor=by)


def approved_by_who_planned_it(log: Log) -> None:
    reviewed(log, by="key:till")


def approved_by_who_submitted_it(log: Log) -> None:
    reviewed(log, by="key:clerk")


def approved_by_who_submitted_it_again(log: Log) -> None:
    reviewed(log)
    log.add("batch-b", "batch.quantity_changed", quantity_before=1_000_000, quantity=1_000_001)
    log.add("batch-b", "batch.rejected")
    reviewed(log, by="key:agent", submitted_by="key:agent")


def raised_while_it_runs_as_approved(log: Log) -> None:
    reviewed(log)
    log.add("batch-b", "batch.started")
    log.add("batch-b", "batch.quantity_changed", quantity_before=1_000_000, quantity=1_000_001)


def rejected_without_a_raise(log: Log) -> None:
    reviewed(log)
    log.add("batch-b", "batch.quantity_changed", quantity_before=1_000_000, quantity=999_999)
    log.add("batch-b", "batch.rejected")


def a_budget_where_none_was_planned(log: Log) -> None:
    log.add("batch-b", "batch.budget_changed", budget_before_minor=None, budget_minor=1)


def before_the_claims(log: Log) -> None:
    log.issue()


def a_step_of_a_batch_that_nobody_knows(log: Log) -> None:
    log.add("batch-b", "batch.nonsense")


def an_event_of_a_kind_that_nobody_knows(log: Log) -> None:
    log.add("coins-c", "coins.minted")


def a_template_made_twice(log: Log) -> None:
    terms = {"benefit": {"kind": "order_stated"}, "currency": "EUR"}
    log.add("template-t", "template.created", name="Voucher", description="", terms=terms, class_version=3)


def one_redemption_of_two_coupons(log: Log) -> None:
    for user_id in ("ann", "bob"):
        life = log.issue(user_id)
        life.lock()
        life.use(redemption_id="the same")


def a_time_without_a_zone(log: Log) -> None:
    log.issue().lock(occurred_at="2026-03-02T00:00:00")


def a_time_that_no_calendar_holds(log: Log) -> None:
    log.issue()
    state = log.rows[-1].state.replace(log.rows[-1].state.split('"occurred_at":"')[1].split('"')[0], FIRST_TIME)
    log.rows[-1] = log.rows[-1]._replace(state=state)


def an_amount_of_a_thousand_digits(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(discount_minor=int("9" * 1_000))


def unlocked_after_use(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.unlock()


def returned_twice(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    for _ in range(2):
        life.return_(reason="buyer_refund", restored=False, returned_minor=0)


def returned_without_use(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.return_()
    life.return_()


def issued_twice(log: Log) -> None:
    life = log.issue()
    log.add(life.stream, "coupon.issued", batch_id="b", user_id=life.user_id)


def more_than_its_worth(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(**funded(VALUE + 1), allocation=[])


def more_than_the_lock_found(log: Log) -> None:
    life = log.issue()
    life.lock(discount_minor=VALUE - 1)
    life.use()


def more_than_the_order(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(order_total_minor=VALUE - 1)


def parts_of_another_sum(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(merchant_funded_minor=0)


def lines_of_another_sum(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(allocation=[{"line_id": "1", "product_id": "p", "discount_minor": 1}])


def a_negative_part(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(merchant_funded_minor=-1, platform_funded_minor=VALUE + 1)


def another_currency(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(currency="USD")


def a_balance_that_grew(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.debit(balance_minor=VALUE)


def more_back_than_was_spent(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.return_(returned_minor=VALUE + 1)


def more_back_on_a_voucher(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.debit()
    life.credit(balance_minor=VALUE + 1)


def a_credit_for_another_order(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.debit()
    life.credit(order_id="order-other")


def over_the_budget(log: Log) -> None:
    log.issue()
    log.issue()


def a_hole_in_a_stream(log: Log) -> None:
    life = log.issue()
    log.versions[life.stream] += 1
    life.lock()


def a_fork_of_a_stream(log: Log) -> None:
    life = log.issue()
    life.lock()
    log.versions[life.stream] -= 1
    life.unlock()


def a_hole_in_a_stream_that_is_not_folded(log: Log) -> None:
    log.add("codes-c", "codes.generated")
    log.versions["codes-c"] += 1
    log.add("codes-c", "codes.exported")


def another_owner(log: Log) -> None:
    life = log.issue("ann")
    life.user_id = "bob"
    life.lock()


def an_event_that_nobody_knows(log: Log) -> None:
    log.issue().add("frozen")


def an_event_in_a_stream_of_another_kind(log: Log) -> None:
    log.add("codes-c", "batch.quantity_changed", quantity_before=3, quantity=4)


def a_payload_of_tomorrow(log: Log) -> None:
    log.issue().add("voided", reason="x", class_version=2)


def a_payload_that_lacks_a_field(log: Log) -> None:
    life = log.issue()
    log.add(life.stream, "coupon.locked", batch_id="b", user_id=life.user_id)


def an_amount_that_is_no_number(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use(discount_minor="2000")


BROKEN: list[tuple[Callable[[Log], None], str, dict[str, Any]]] = [
    (over_the_quantity, "I2", {"quantity": 2}),
    (a_quantity_below_what_is_issued, "I2", {"quantity": 2}),
    (a_quantity_that_was_another, "I2", {"quantity": 2}),
    (a_coupon_of_no_batch, "I2", {}),
    (too_many_for_a_user, "I3", {"per_user_limit": 1}),
    (too_many_for_a_user, "I3", {"per_user_day_limit": 1, "time_zone": "Asia/Shanghai"}),
    (too_many_for_a_user, "I3", {"per_day_limit": 2}),
    (too_many_for_a_person, "I3", {"per_person_limit": 1}),
    (a_receipt_used_twice, "I3", {}),
    (locked_twice, "I4", {}),
    (used_twice, "I5", {}),
    (used_without_a_lock, "I7", {}),
    (used_by_another_order, "I6", {}),
    (used_with_another_lock, "I6", {}),
    (unlocked_with_another_lock, "I6", {}),
    (used_by_another_user, "I6", {}),
    (locked_by_a_stranger, "I6", {}),
    (used_after_the_lock, "I6", {}),
    (locked_after_its_end, "I7", {}),
    (locked_after_voiding, "I7", {}),
    (voided_after_use, "I7", {}),
    (expired_too_early, "I7", {}),
    (expired_before_its_end, "I7", {}),
    (expired_before_the_clock_said_so, "I9", {}),
    (a_clock_that_fell, "I9", {}),
    (a_batch_that_never_started, "I2", {}),
    (a_batch_that_stopped, "I2", {}),
    (a_batch_that_is_paused, "I2", {}),
    (a_batch_resumed_after_it_stopped, "I2", {}),
    (a_batch_started_without_approval, "I2", {}),
    (approved_by_who_planned_it, "I2", {"needs_approval": True}),
    (approved_by_who_submitted_it, "I2", {"needs_approval": True}),
    (approved_by_who_submitted_it_again, "I2", {"needs_approval": True}),
    (raised_while_it_runs_as_approved, "I2", {"needs_approval": True}),
    (rejected_without_a_raise, "I2", {"needs_approval": True}),
    (a_budget_where_none_was_planned, "I17", {}),
    (before_the_claims, "I2", {"claim_from": text(T0 + timedelta(days=1))}),
    (before_the_claims, "I2", {"claim_until": text(T0)}),
    (a_step_of_a_batch_that_nobody_knows, "form", {}),
    (an_event_of_a_kind_that_nobody_knows, "form", {}),
    (a_template_made_twice, "form", {}),
    (one_redemption_of_two_coupons, "I5", {}),
    (a_time_without_a_zone, "form", {}),
    (a_time_that_no_calendar_holds, "form", {"per_day_limit": 9, "time_zone": "Asia/Shanghai"}),
    (an_amount_of_a_thousand_digits, "I17", {}),
    (unlocked_after_use, "I7", {}),
    (returned_twice, "I17", {}),
    (returned_without_use, "I7", {}),
    (issued_twice, "I7", {}),
    (more_than_its_worth, "I17", {}),
    (more_than_the_lock_found, "I17", {}),
    (more_than_the_order, "I17", {}),
    (parts_of_another_sum, "I17", {}),
    (lines_of_another_sum, "I17", {}),
    (a_negative_part, "I17", {}),
    (another_currency, "I17", {}),
    (a_balance_that_grew, "I17", {}),
    (more_back_than_was_spent, "I17", {}),
    (more_back_on_a_voucher, "I17", {}),
    (a_credit_for_another_order, "I6", {}),
    (over_the_budget, "I17", {"budget_minor": 2 * VALUE - 1}),
    (a_hole_in_a_stream, "I8", {}),
    (a_fork_of_a_stream, "I8", {}),
    (a_hole_in_a_stream_that_is_not_folded, "I8", {}),
    (another_owner, "I6", {}),
    (an_event_that_nobody_knows, "form", {}),
    (an_event_in_a_stream_of_another_kind, "form", {}),
    (a_payload_of_tomorrow, "form", {}),
    (a_payload_that_lacks_a_field, "form", {}),
    (an_amount_that_is_no_number, "I17", {}),
]
