"""Logs that break a rule and are honestly sealed: the fold names the first event that does, and the rule."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from coupon_ledger_audit.bundle import Balances
from coupon_ledger_audit.check import audit
from coupon_ledger_audit.coupon_fold import STEPS
from coupon_ledger_audit.fold import Fold
from coupon_ledger_audit.report import Finding
from tests.audit.broken_logs import BROKEN
from tests.audit.logs import T0, VALUE, Log, Sealed, text, trust


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
    log.rows.pop()
    log.versions["batch-b"] -= 1
    steps = ["submitted", "rejected", "submitted", "approved", "started", "paused", "resumed"]
    for step in [*steps, "paused", "rejected", "submitted", "approved", "started"]:
        log.add("batch-b", f"batch.{step}", reason="as planned")
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
    life.lock()
    late = {"occurred_at": text(T0 + timedelta(days=10)), "request_id": "again"}
    held = dict(zip(("order_id", "lock_id"), life.held or (), strict=True))
    life.unlock(reason="locked_again", **late)
    life.lock(order_id=held["order_id"], lock_ends_at=text(T0 + timedelta(days=11)), **late)
    assert found(log) is None


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
