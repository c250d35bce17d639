"""Stories of logs that break a rule with their last event, and the rule that each breaks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.audit.logs import T0, VALUE, Log, text


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
    life.lock(lock_ends_at=text(T0))
    life.use()


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


def unlocked_after_use(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.unlock()


def returned_twice(log: Log) -> None:
    life = log.issue()
    life.lock()
    life.use()
    life.return_(restored=False, returned_minor=0)
    life.return_(restored=False, returned_minor=0)


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
    spent = {"discount_minor": VALUE + 1, "platform_funded_minor": 1, "merchant_funded_minor": VALUE}
    life.use(**spent, allocation=[])


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
