"""Logs that break a rule and are honestly sealed: the fold names the first event that does, and the rule."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from coupon_ledger_audit.bundle import Balances
from coupon_ledger_audit.check import audit
from coupon_ledger_audit.coupon_fold import STEPS
from coupon_ledger_audit.fold import Fold
from coupon_ledger_audit.report import Finding
from tests.audit import broken_logs, broken_terms
from tests.audit.broken_logs import reviewed
from tests.audit.broken_terms import AT_ONCE, GRACE, LATE, LEFT_OUT, RELATIVE, debited, graced, no_grace_after_a_credit
from tests.audit.logs import HELD, T0, VALID, VALUE, Life, Log, Sealed, text, trust

BROKEN = broken_logs.BROKEN + broken_terms.BROKEN


def found(log: Log) -> Finding | None:
    return audit(io.BytesIO(Sealed(log.rows).whole()), trust()).finding


def begun(**limits: Any) -> Log:
    log = Log()
    log.begin(**limits)
    return log


@pytest.mark.parametrize(("story", "rule", "limits"), BROKEN, ids=lambda each: getattr(each, "__name__", None))
def test_the_event_that_breaks_a_rule_is_named(story: Callable[[Log], None], rule: str, limits: dict[str, Any]) -> None:
    """The story's last event is the first bad one."""
    log = begun(**limits)
    story(log)
    finding = found(log)
    assert finding is not None
    assert finding.step == "rules"
    assert finding.text.split()[0].rstrip(":") == rule, finding.text
    assert finding.position == len(log.rows), finding.text
    log.rows.pop()
    assert found(log) is None


@pytest.mark.parametrize(("story", "rule", "limits"), LEFT_OUT, ids=lambda each: getattr(each, "__name__", None))
def test_what_must_come_next_is_not_left_out(story: Callable[[Log], None], rule: str, limits: dict[str, Any]) -> None:
    """The story's last event is not the one that is due, and a whole log does not end before it."""
    log = begun(**limits)
    story(log)
    for position in (len(log.rows), None):
        finding = found(log)
        assert finding is not None
        assert finding.text.split()[0].rstrip(":") == rule, finding.text
        assert finding.position == position, finding.text
        log.rows.pop()
    assert found(log) is None


def test_a_coupons_bundle_may_end_where_something_is_due() -> None:
    """It does not show that nothing came after."""
    log = begun(terms={"return_policy": GRACE})
    no_grace_after_a_credit(log)
    log.rows.pop()
    bundle = Sealed(log.rows).coupon(log.coupons[0].stream, "batch-b", "template-t")
    assert audit(io.BytesIO(bundle), trust()).finding is None


def test_a_day_is_the_merchants() -> None:
    """Ten in the evening and two in the morning of UTC are one day in Shanghai."""
    log = begun(per_user_day_limit=1, time_zone="Asia/Shanghai")
    for hour in (22, 26):
        log.issue("ann")
        moment = text(T0 + timedelta(hours=hour))
        state = log.rows[-1].state.replace(log.rows[-1].state.split('"occurred_at":"')[1].split('"')[0], moment)
        log.rows[-1] = log.rows[-1]._replace(state=state)
    finding = found(log)
    assert finding is not None
    assert finding.position == len(log.rows)


@pytest.mark.parametrize("zone", ["Nowhere/Town", "Europe"])
def test_a_zone_without_data_is_told_and_not_judged(zone: str) -> None:
    log = begun(per_day_limit=1, time_zone=zone)
    log.issue()
    log.issue()
    report = audit(io.BytesIO(Sealed(log.rows).whole()), trust())
    assert report.finding is None
    assert any(text.startswith(f"not checked: limits by day in {zone}") for _, text in report.passed)


def test_a_clock_may_be_set_right_by_a_second() -> None:
    log = begun()
    log.issue()
    log.rows[-1] = log.rows[-1]._replace(recorded_at_us=log.rows[-2].recorded_at_us - 1_000_000)
    assert found(log) is None


def test_a_batch_pauses_goes_on_and_stops() -> None:
    log = begun(needs_approval=True)
    reviewed(log)
    raised = {"quantity_before": 1_000_000, "quantity": 1_000_001}
    smaller = {"quantity_before": 1_000_001, "quantity": 1_000_000}
    log.add("batch-b", "batch.quantity_changed", **raised)
    for step in ("rejected", "submitted", "rejected"):
        log.add("batch-b", f"batch.{step}", reason="as planned")
    reviewed(log)
    for step in ("started", "paused", "resumed", "paused"):
        log.add("batch-b", f"batch.{step}", reason="as planned")
    log.add("batch-b", "batch.quantity_changed", **smaller)
    log.add("batch-b", "batch.quantity_changed", **raised)
    log.add("batch-b", "batch.rejected", reason="the quantity was raised")
    reviewed(log)
    log.add("batch-b", "batch.started")
    log.add("batch-b", "batch.quantity_changed", **smaller)
    life = log.issue()
    log.add("batch-b", "batch.stopped", reason="enough")
    life.lock()
    life.use()
    assert found(log) is None


def test_a_coupon_comes_back_and_is_used_again() -> None:
    log = begun()
    life = log.issue("ann")
    life.lock()
    life.use()
    life.return_()
    life.lock()
    life.use()
    assert found(log) is None


def test_a_lock_for_the_same_order_may_outlast_the_validity() -> None:
    log = begun()
    life = log.issue("ann")
    end = T0 + VALID
    life.lock(occurred_at=text(end - HELD), lock_ends_at=text(end + HELD))
    after = {"occurred_at": text(end + HELD / 2), "request_id": "again"}
    held = dict(zip(("order_id", "lock_id"), life.held or (), strict=True))
    life.unlock(reason="locked_again", **after)
    # To a day after the first of the two locks, and not a moment longer.
    life.lock(order_id=held["order_id"], lock_ends_at=text(end - HELD + timedelta(days=1)), **after)
    assert found(log) is None


def test_a_lock_lasts_a_day_at_most_and_a_late_use_follows_it() -> None:
    log = begun()
    life = log.issue("ann")
    life.lock(occurred_at=text(T0), lock_ends_at=text(T0 + timedelta(days=1)))
    life.unlock(reason="lock_ended", occurred_at=text(T0 + timedelta(days=1)))
    # A late use of a hold whose end was written down locks again, for no time at all.
    at = {"occurred_at": text(T0 + timedelta(days=2))}
    life.lock(**at, lock_ends_at=at["occurred_at"])
    life.use(**at, late=True)
    assert found(log) is None


@pytest.mark.parametrize(
    ("plan", "payload"),
    [
        (RELATIVE, AT_ONCE),
        (RELATIVE | {"valid_delay_seconds": 60}, {"valid_from": 60, "valid_until": 9 * 86_400 + 60}),
        (RELATIVE | {"valid_from": 86_400}, {"valid_from": 86_400, "valid_until": 10 * 86_400}),
        (RELATIVE | {"valid_from": 86_400, "valid_until": 5 * 86_400}, {"valid_from": 86_400, "valid_until": 432_000}),
        ({"ends_at_day_close": True, "time_zone": "Asia/Shanghai"}, {"valid_until": 9 * 86_400 + 16 * 3_600}),
        ({"ends_at_day_close": True}, {}),
    ],
)
def test_a_coupon_is_valid_as_its_batch_planned(plan: dict[str, Any], payload: dict[str, Any]) -> None:
    """Whole numbers are seconds after the beginning of these logs."""
    plan, payload = (
        {
            name: text(T0 + timedelta(seconds=value)) if type(value) is int and "seconds" not in name else value
            for name, value in said.items()
        }
        for said in (plan, payload)
    )
    log = begun(**plan)
    log.issue(**{"occurred_at": text(T0)} | payload)
    assert found(log) is None


def test_a_credit_restores_gives_grace_and_keeps_as_the_terms_say() -> None:
    log = begun(terms={"return_policy": GRACE})
    life = log.issue("ann")
    life.lock()
    life.debit()
    life.lock()
    life.use()
    [(_, spent)] = life.debits.values()
    after = T0 + VALID + timedelta(hours=1)
    refund = {"occurred_at": text(after), "request_id": "refund"}
    life.credit(restored=True, balance_minor=spent, **refund)
    life.extend(valid_until=text(after + timedelta(days=3)), **refund)
    # The order that had used it up is a part of the balance like the other, and its own refund is kept.
    order_id, *part = life.used or ()
    life.debits = {order_id: tuple(part)}
    life.credit(reason="buyer_refund", credited_minor=0, balance_minor=spent)
    assert found(log) is None


def test_a_grace_moves_the_end_of_what_is_valid_or_held() -> None:
    log = begun(terms={"return_policy": GRACE})
    graced(log).lock(occurred_at=text(LATE + timedelta(days=2)), lock_ends_at=text(LATE + timedelta(days=2)))
    life = debited(log)
    after = T0 + VALID
    life.lock(occurred_at=text(LATE), lock_ends_at=text(after + HELD))
    refund = {"occurred_at": text(after), "request_id": "refund"}
    life.credit(**refund)
    life.extend(valid_until=text(after + timedelta(days=3)), **refund)
    # Nothing is added to what is valid for longer than the grace, nor to what is over.
    debited(log).credit()
    for at in (after, after + HELD):
        life = debited(log)
        life.lock()
        life.unlock(reason="lock_ended", occurred_at=text(T0 + HELD))
        life.credit(occurred_at=text(at))
        life.expire()
    assert found(log) is None


def test_a_hold_that_was_over_ends_at_its_end_when_the_coupon_is_voided() -> None:
    log = begun()
    life = log.issue()
    life.lock()
    life.unlock(reason="voided", occurred_at=text(T0 + HELD))
    life.void(occurred_at=text(T0 + 2 * HELD))
    assert found(log) is None


def of_old() -> Log:
    """A log whose terms are a benefit and a currency, and no more."""
    log = begun()
    terms = {"benefit": {"kind": "amount_off", "value_minor": VALUE}, "currency": "EUR"}
    said = json.loads(log.rows[0].state) | {"terms": terms, "class_version": 1}
    log.rows[0] = log.rows[0]._replace(state=json.dumps(said))
    return log


def test_terms_of_old_say_less_and_mean_what_was_so_then() -> None:
    life = of_old().issue("ann")
    life.lock()
    life.use(merchant_funded_minor=VALUE, platform_funded_minor=0)
    life.return_(reason="buyer_refund", restored=False, returned_minor=0)
    assert found(life.log) is None


def used_late(life: Life) -> None:
    life.lock()
    life.use(late=True, occurred_at=text(T0 + HELD))


@pytest.mark.parametrize("step", [Life.transfer, Life.share, used_late])
def test_terms_of_old_forbid_what_they_do_not_name(step: Callable[[Life], None]) -> None:
    log = of_old()
    step(log.issue("ann"))
    finding = found(log)
    assert finding is not None
    assert "where the terms" in finding.text
    assert finding.position == len(log.rows)


def test_a_friends_lock_outlasts_the_sharing() -> None:
    log = begun()
    life = log.issue("ann")
    life.share()
    life.lock(holder_id="friend")
    life.add("shared", with_user_ids=[])
    life.use(holder_id="friend")
    assert found(log) is None


def test_a_part_that_is_returned_counts_until_the_whole_is() -> None:
    log = begun()
    life = log.issue("ann")
    life.lock()
    life.use()
    part = {"restored": False, "returned_minor": 500, "lines": [{"line_id": "1", "discount_minor": 500}]}
    life.return_(**part)
    life.return_(restored=True, returned_minor=VALUE - 500)
    life.lock()
    assert found(log) is None
    log.rows.pop()
    log.rows.pop()
    log.versions[life.stream] -= 2
    life.return_(restored=True, returned_minor=VALUE)
    assert found(log) is not None


def test_balances_are_compared_as_of_their_position() -> None:
    log = Log(5).grow(40)
    fold = Fold(whole=True)
    for row in log.rows[:30]:
        fold.add(row.stream, row.version, row.topic, row.state)
    published = fold.balances()
    sealed = Sealed(log.rows)
    assert audit(io.BytesIO(sealed.whole(balances=Balances(30, published))), trust()).finding is None
    published["b"]["used"] += 1
    finding = audit(io.BytesIO(sealed.whole(balances=Balances(30, published))), trust()).finding
    assert finding is not None
    assert finding.step == "balances"


def test_the_logs_of_these_tests_have_every_event() -> None:
    topics = {row.topic for seed in range(20) for row in Log(seed).grow(60).rows}
    assert topics >= {"coupon.issued", *STEPS}
