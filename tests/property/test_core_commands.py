"""Any commands in any order, repeats among them, on a real PostgreSQL: the ledger and a plain model always agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings, target
from hypothesis.stateful import invariant, run_state_machine_as_test

from ledger.application import Ledger
from ledger.database import Database
from ledger.events import EVENTS, CouponUsed
from ledger.store import Store
from projections import queries
from projections.runner import Runner
from projections.verify.report import IDS
from projections.verify.run import verify
from tests.property.coupon_commands import CouponCommands
from tests.property.coupon_model import CouponModel
from tests.property.fold import Fold
from tests.property.model import VALUE, BatchModel, Limits
from tests.unit.specs import T0

NEARLY_MIDNIGHT = T0.replace(year=2126) + timedelta(hours=15, minutes=59)
"""A minute before the merchant's day ends, so that limits of a day begin anew within an example.

It is long after the server's clock, by which alone the guard of live locks knows the end of a hold.
"""


class CoreCommands(CouponCommands):
    """All commands, and what is always true."""

    def __init__(self, ledger: Ledger, runner: Runner) -> None:
        super().__init__(ledger)
        self.now = NEARLY_MIDNIGHT
        self.fold = Fold(ledger.store)
        self.runner = runner

    @invariant()
    def the_log_agrees_with_the_model(self) -> None:
        self.fold.catch_up()
        for batch in self.batches:
            issued, states = self.fold.issued[batch.id], self.fold.states_of(batch.id)
            assert issued == batch.issued
            assert states.total() == issued.total() <= batch.quantity
            assert batch.limits.user is None or max(issued.values(), default=0) <= batch.limits.user
            assert batch.budget is None or issued.total() * VALUE <= batch.budget
        seen = {
            coupon.key: (coupon.state_at(self.now), coupon.user_id, set(coupon.shared_with), coupon.valid_until)
            for coupon in self.fold.coupons()
        }
        assert seen == {
            coupon.id: (coupon.state(self.now), coupon.user_id, set(coupon.friends), coupon.valid_until)
            for coupon in self.coupons
        }
        self.no_money_is_lost_on_a_voucher()

    def no_money_is_lost_on_a_voucher(self) -> None:
        """What is left on it and what orders spent of it is what was on it, less what a policy kept."""
        found = {coupon.key: coupon for coupon in self.fold.coupons()}
        for coupon in self.coupons:
            if coupon.batch.offer.voucher:
                left = found[coupon.id].balance_minor
                undone = found[coupon.id].undone_lines
                spent = {
                    order: debit.discount_minor - sum(undone.get(order, {}).values())
                    for order, debit in found[coupon.id].debits.items()
                }
                assert (VALUE if left is None else left) == coupon.left
                assert spent == coupon.debits
                assert coupon.left + sum(spent.values()) <= VALUE

    def teardown(self) -> None:
        # Many commands of one kind prove little: what counts is how many kinds had their effect, or were refused for
        # how many reasons, twice.
        target(sum(min(2, number) for number in self.heard.values()), label="kinds of outcomes")
        self.the_read_models_agree_with_the_model()

    def the_read_models_agree_with_the_model(self) -> None:
        self.runner.catch_up()
        with self.ledger.store.connection() as connection:
            for user_id in ("ann", "bob", "cy", "dee"):
                page = queries.wallet(connection, self.merchant_id, user_id, self.now)
                seen = {row.coupon_id: (row.state, row.shared_by, row.valid_until) for row in page.coupons}
                assert seen == wallet_of(self.coupons, user_id, self.now)
            for batch in self.batches:
                row = queries.balance(connection, self.merchant_id, batch.id, self.now)
                told = {state: getattr(row, state.lower()) for state in queries.STATES}
                assert Counter(told) == states_of(self.coupons, batch, self.now)
                assert (row.state, row.quantity, row.budget_minor) == (
                    batch.state(self.now),
                    batch.quantity,
                    batch.budget,
                )


def wallet_of(coupons: list[CouponModel], user_id: str, now: datetime) -> dict[str, tuple[str, str | None, datetime]]:
    """What the user may use, and whose it is where it is a friend's."""
    return {
        coupon.id: (coupon.state(now), None if coupon.user_id == user_id else coupon.user_id, coupon.valid_until)
        for coupon in coupons
        if user_id in (coupon.user_id, *coupon.friends)
    }


def states_of(coupons: list[CouponModel], batch: BatchModel, now: datetime) -> Counter[str]:
    return Counter(coupon.state(now) for coupon in coupons if coupon.batch is batch)


@pytest.fixture
def ledger_for_all(database: Database) -> Iterator[Ledger]:
    ledger = Ledger(Store(database))
    yield ledger
    ledger.close()


def test_outcomes_that_chance_seldom_finds(ledger_for_all: Ledger) -> None:
    """One example that is written down, so that each of them is met in every run."""
    machine = CoreCommands(ledger_for_all, Runner(ledger_for_all.store.database))
    machine.define_offers()
    strict, generous, voucher = 0, 2, 4  # the coupons of ann
    machine.lock([strict, voucher], "order-1", "owner", None)
    machine.lock([generous, voucher], "order-1", "owner", None)
    machine.lock([generous], "order-1", "owner", 60)
    machine.wait_for_a_boundary(generous, "lock_ends", early=False)
    machine.unlock([generous], "order-1", swept=True)
    machine.confirm([generous], "order-1", VALUE)
    for lines in ("a part", "line 1", "line 1"):
        machine.give_back([generous], "order-1", "order_cancelled", lines)
    machine.give_back([generous], "order-1", "order_cancelled", "whole")
    machine.whole_order(strict, VALUE, longer=False, end="late", reason="order_cancelled")
    machine.share(generous, stranger=False, friends=["bob"])
    machine.lock([generous], "order-2", "friend", None)
    machine.transfer(generous, stranger=False, to_user="cy")
    machine.unlock([generous], "order-2", swept=False)
    machine.transfer(generous, stranger=False, to_user="cy")
    machine.voucher_in_parts(voucher, [200, 300], [0, 1, 0, 0], "merchant_refund")
    machine.voucher_in_parts(voucher + 1, [200, 200], [0, 0], "buyer_refund", "line 1")
    machine.voucher_in_parts(voucher + 1, [100], [0, 0], "buyer_refund")
    machine.plan_batch("strict", 6, Limits(person=1), None, None, 0, 200, reviewed=True, start=False)
    for word, actor in (
        ("start", "boss"),
        ("submit", "test"),
        ("approve", "test"),
        ("approve", "boss"),
        ("start", "boss"),
    ):
        machine.step(0, word, actor)
    machine.change_quantity(0, 0, 7, "boss")
    for word, actor in (("pause", "boss"), ("submit", "test"), ("approve", "boss"), ("start", "boss")):
        machine.step(0, word, actor)
        if word == "pause":
            machine.change_quantity(0, 0, 7, "boss")
    for person in (None, "p1", "p1"):
        machine.claim(0, "bob", person)
    machine.plan_batch("for points", 6, Limits(), None, None, 0, 200, reviewed=False, start=True, tiers=("gold",))
    for tier, receipt in ((None, "r-1"), ("silver", "r-1"), ("gold", None), ("gold", "r-1"), ("gold", "r-1")):
        machine.claim(0, "cy", None, tier, receipt)
    machine.plan_batch("generous", 6, Limits(), None, None, 0, 200, reviewed=False, start=True)
    for user_id in ("bob", "bob", "cy"):
        machine.exchange_code(0, 1, user_id, None)
    machine.lock([6], "order-7", "owner", None)
    machine.lock([7], "order-8", "owner", None)
    machine.lock([6, 7], "order-7", "owner", None)
    machine.unlock([6], "order-7", swept=False)
    machine.lock([7], "order-8", "owner", None)
    machine.redeem(1, "order-8", VALUE, "owner")
    machine.confirm([7], "order-8", VALUE)
    machine.the_log_agrees_with_the_model()
    machine.the_read_models_agree_with_the_model()
    assert machine.heard.keys() >= {
        ("lock", "exclusive_conflict"),
        ("confirm", "lock_expired"),
        ("transfer", "coupon_locked"),
        ("return_coupons", "not_used"),
        ("return_coupons", "return_not_allowed"),
        ("start_batch", "batch_state_conflict"),
        ("approve_batch", "self_approval"),
        ("change_quantity", "batch_state_conflict"),
        ("claim", "fact_required"),
        ("claim", "person_limit_reached"),
        ("claim", "not_in_audience"),
        ("claim", "points_receipt_used"),
        ("redeem_code", "done"),
        ("redeem_code", "code_used"),
        ("redeem_code", "code_not_found"),
        ("lock", "lock_limit_reached"),
        ("confirm", "exclusive_conflict"),
    }
    with ledger_for_all.store.connection() as connection:
        log = [recorded.event for recorded in ledger_for_all.store.read(connection, 0, 10_000)]
    assert {event.TOPIC for event in log} >= {topic for topic in EVENTS if topic.startswith("coupon.")} - {
        "coupon.expired",
        "coupon.extended",
        "coupon.voided",
    }
    assert any(event.late for event in log if isinstance(event, CouponUsed))


LONG = settings.get_current_profile_name() == "long"


@pytest.mark.timeout(0 if LONG else 300)
def test_any_commands_in_any_order(ledger_for_all: Ledger) -> None:
    profile = settings.get_profile("long") if LONG else settings(max_examples=60, stateful_step_count=40)
    runner = Runner(ledger_for_all.store.database)
    run_state_machine_as_test(
        lambda: CoreCommands(ledger_for_all, runner),
        settings=settings(
            profile, deadline=None, suppress_health_check=list(HealthCheck), phases=set(Phase) - {Phase.explain}
        ),
    )
    # Its sets of codes are written down without the table of their hashes, and its clock is a hundred years ahead.
    report = verify(ledger_for_all.store.database, only=set(IDS) - {"codes", "times"})
    assert report.ok, [check for check in report.checks if not check.ok]
