"""Any commands in any order, repeats among them, on a real PostgreSQL: the ledger and a plain model always agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger import use_cases
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.store import Store
from ledger.terms import Benefit, ReturnPolicy, Terms
from ledger.work import Receipt
from tests.postgres.tools import assert_guards_equal_events
from tests.property.asking import Asked, Asking
from tests.property.fold import Fold
from tests.property.model import GRACE, LOCK_TTL, POLICIES, BatchModel, CouponModel

numbers = st.integers(0, 3)
users = st.sampled_from(["ann", "bob", "cy"])
orders = st.sampled_from(["holder", "holder", "holder", "order-1", "order-2"])
"""``holder`` is the order that holds, or used, the first coupon chosen, so that most moves can go on."""


class CoreCommands(Asking):
    """One merchant's batches, coupons and requests, in the model and in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.batches: list[BatchModel] = []
        self.coupons: list[CouponModel] = []
        self.fold = Fold(ledger.store)

    @initialize()
    def define_offers(self) -> None:
        self.templates = {}
        for policy, limit, rules in zip(POLICIES, (None, 2), POLICIES.values(), strict=True):
            returns = ReturnPolicy(**rules, grace_days=GRACE.days)  # type: ignore[arg-type]
            terms = Terms(
                benefit=Benefit(kind="amount_off", value_minor=500),
                currency="EUR",
                return_policy=returns,
                lock_ttl_seconds=int(LOCK_TTL.total_seconds()),
            )
            receipt = self.ledger.do(use_cases.create_template(self.request(policy), name=policy, terms=terms))
            self.templates[policy] = receipt.answer["template_id"]
            self.plan_batch(policy, quantity=6, limit=limit, window=None, delay=0, lasting=200, start=True)
            self.issue(0, ["ann", "bob", "ann"])

    # --- batches -----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.batches) < 4)
    @rule(
        policy=st.sampled_from(sorted(POLICIES)),
        quantity=st.integers(1, 6),
        limit=st.sampled_from([None, 1, 2]),
        window=st.sampled_from([None, 100]),
        delay=st.sampled_from([0, 0, 20]),
        lasting=st.sampled_from([40, 200]),
        start=st.booleans(),
    )
    def plan_batch(
        self, policy: str, quantity: int, limit: int | None, window: int | None, delay: int, lasting: int, start: bool
    ) -> None:
        claim_until = self.now + timedelta(seconds=window) if window else None
        plan = BatchPlan(
            name="b",
            quantity=quantity,
            per_user_limit=limit,
            claim_until=claim_until,
            valid_delay_seconds=delay,
            valid_for_seconds=lasting,
        )
        receipt = self.ask(use_cases.create_batch, lambda: None, plan=plan, template_id=self.templates[policy])
        assert receipt is not None
        spans = [timedelta(seconds=seconds) for seconds in (delay, lasting)]
        batch = BatchModel(receipt.answer["batch_id"], policy, quantity, limit, claim_until, *spans)
        self.batches.append(batch)
        if start:
            self.start(0)

    def batch(self, number: int) -> BatchModel:
        """One of the batches, the newest first."""
        return self.batches[-1 - number % len(self.batches)]

    @rule(number=numbers)
    def start(self, number: int) -> None:
        batch = self.batch(number)
        self.ask(use_cases.start_batch, lambda: batch.step(self.now, "RUNNING", "DRAFT"), batch_id=batch.id)

    @rule(number=numbers)
    def pause(self, number: int) -> None:
        batch = self.batch(number)
        self.ask(
            use_cases.pause_batch, lambda: batch.step(self.now, "PAUSED", "RUNNING"), batch_id=batch.id, reason="r"
        )

    @rule(number=numbers)
    def resume(self, number: int) -> None:
        batch = self.batch(number)
        self.ask(use_cases.resume_batch, lambda: batch.step(self.now, "RUNNING", "PAUSED"), batch_id=batch.id)

    @precondition(lambda self: len(self.batches) > 2)
    @rule(number=numbers)
    def stop(self, number: int) -> None:
        batch = self.batch(number)
        allowed = ("DRAFT", "RUNNING", "PAUSED", "ENDED")
        self.ask(use_cases.stop_batch, lambda: batch.step(self.now, "STOPPED", *allowed), batch_id=batch.id, reason="r")

    @rule(number=numbers, known=st.sampled_from([0, 0, 1]), quantity=st.integers(1, 8))
    def change_quantity(self, number: int, known: int, quantity: int) -> None:
        batch = self.batch(number)
        expected = batch.quantity + known
        self.ask(
            use_cases.change_quantity,
            lambda: batch.change_quantity(self.now, expected, quantity),
            batch_id=batch.id,
            expected=expected,
            target=quantity,
        )

    # --- coupons -----------------------------------------------------------------------------------------

    @rule(number=numbers, user_ids=st.lists(users, min_size=1, max_size=4))
    def issue(self, number: int, user_ids: list[str]) -> None:
        batch = self.batch(number)
        receipt = self.ask(
            use_cases.issue, lambda: batch.issue(self.now, user_ids), batch_id=batch.id, user_ids=user_ids
        )
        if receipt is not None:
            self.remember_coupons(self.asked[-1], receipt)

    @rule(number=numbers, user_id=users)
    def claim(self, number: int, user_id: str) -> None:
        batch = self.batch(number)
        receipt = self.ask(
            use_cases.claim, lambda: batch.issue(self.now, [user_id]), batch_id=batch.id, user_id=user_id
        )
        if receipt is not None:
            self.remember_coupons(self.asked[-1], receipt)

    def remember_coupons(self, asked: Asked, receipt: Receipt) -> None:
        batch = next(batch for batch in self.batches if batch.id == asked.arguments["batch_id"])
        begin = self.now + batch.delay
        for coupon in receipt.answer.get("coupons", [receipt.answer]):
            self.coupons.append(
                CouponModel(coupon["coupon_id"], batch, coupon["user_id"], begin, begin + batch.lasting)
            )

    def order(self, word: str, coupon: CouponModel) -> str:
        return coupon.order or coupon.used_by or "order-1" if word == "holder" else word

    def some(self, chosen: list[int]) -> list[CouponModel]:
        """Distinct coupons, in the order of their ids, as the ledger takes them."""
        coupons = {coupon.id: coupon for coupon in (self.coupons[n % len(self.coupons)] for n in chosen)}
        return [coupons[id] for id in sorted(coupons)]

    def together(self, coupons: list[CouponModel], step: Callable[[CouponModel], None]) -> Callable[[], None]:
        """The step on all coupons or, when one refuses it, on none."""

        def move() -> None:
            tried = [coupon.copy() for coupon in coupons]
            for coupon in tried:
                step(coupon)
            for coupon, moved in zip(coupons, tried, strict=True):
                vars(coupon).update(vars(moved))

        return move

    some_numbers = st.lists(numbers, min_size=1, max_size=2)

    @rule(chosen=some_numbers, order=orders, stranger=st.sampled_from([False] * 9 + [True]))
    def lock(self, chosen: list[int], order: str, stranger: bool) -> None:
        first = self.coupons[chosen[0] % len(self.coupons)]
        coupons = [coupon for coupon in self.some(chosen) if coupon.user_id == first.user_id]
        user_id = "dee" if stranger else first.user_id
        order = self.order(order, first)
        self.ask(
            use_cases.lock,
            self.together(coupons, lambda coupon: coupon.lock(self.now, order, user_id)),
            order_id=order,
            user_id=user_id,
            coupon_ids=[coupon.id for coupon in coupons],
        )

    @rule(chosen=some_numbers, order=orders)
    def confirm(self, chosen: list[int], order: str) -> None:
        coupons = self.some(chosen)
        order = self.order(order, coupons[0])
        self.ask(
            use_cases.confirm,
            self.together(coupons, lambda coupon: coupon.confirm(self.now, order)),
            order_id=order,
            redemptions=[Redemption(coupon_id=coupon.id, discount_minor=500) for coupon in coupons],
        )

    @rule(chosen=some_numbers, order=orders)
    def unlock(self, chosen: list[int], order: str) -> None:
        coupons = self.some(chosen)
        order = self.order(order, coupons[0])
        self.ask(
            use_cases.unlock,
            self.together(coupons, lambda coupon: coupon.unlock(self.now, order)),
            order_id=order,
            coupon_ids=[coupon.id for coupon in coupons],
            reason="r",
        )

    @rule(chosen=some_numbers, order=orders, reason=st.sampled_from(sorted(POLICIES["generous"])))
    def give_back(self, chosen: list[int], order: str, reason: str) -> None:
        coupons = self.some(chosen)
        order = self.order(order, coupons[0])
        self.ask(
            use_cases.return_coupons,
            self.together(coupons, lambda coupon: coupon.give_back(self.now, order, reason)),
            order_id=order,
            coupon_ids=[coupon.id for coupon in coupons],
            reason=reason,
        )

    @rule(
        number=numbers,
        end=st.sampled_from(["unlock", "confirm", "refund", "refund twice", "let it end", "late", "just in time"]),
        reason=st.sampled_from(sorted(POLICIES["generous"])),
    )
    def whole_order(self, number: int, end: str, reason: str) -> None:
        """The usual course of an order, which single steps seldom find."""
        self.lock([number], "holder", stranger=False)
        if end == "unlock":
            self.unlock([number], "holder")
        if end in ("let it end", "late", "just in time"):
            self.wait_for_a_boundary(number, "lock_ends", early=end == "just in time")
        if end in ("confirm", "refund", "refund twice", "late", "just in time"):
            self.confirm([number], "holder")
        for _ in range({"refund": 1, "refund twice": 2}.get(end, 0)):
            self.give_back([number], "holder", reason)

    @rule(number=numbers, user_id=users, stop=st.booleans())
    def claim_and_repeat(self, number: int, user_id: str, stop: bool) -> None:
        """A repeat finds its answer though the batch issues no more."""
        self.claim(number, user_id)
        if stop:
            self.pause(number)
        self.ask_again(int(stop), "same")

    @rule(number=numbers)
    def void(self, number: int) -> None:
        coupon = self.coupons[number % len(self.coupons)]
        self.ask(use_cases.void, lambda: coupon.void(self.now), coupon_id=coupon.id, reason="r")

    @rule(number=numbers)
    def expire(self, number: int) -> None:
        coupon = self.coupons[number % len(self.coupons)]
        self.ask(use_cases.expire, lambda: coupon.expire(self.now), coupon_id=coupon.id)

    # --- time --------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 10, 31]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(number=numbers, boundary=st.sampled_from(["valid_from", "lock_ends", "valid_until"]), early=st.booleans())
    def wait_for_a_boundary(self, number: int, boundary: str, early: bool) -> None:
        """To the very instant, or to the one before it."""
        moment: datetime | None = getattr(self.coupons[number % len(self.coupons)], boundary)
        if moment is not None:
            self.now = max(self.now, moment - timedelta(microseconds=early))

    # --- what is always true -----------------------------------------------------------------------------

    @invariant()
    def the_log_agrees_with_the_model(self) -> None:
        self.fold.catch_up()
        for batch in self.batches:
            issued, states = self.fold.issued[batch.id], self.fold.states_of(batch.id)
            assert issued == batch.issued
            assert states.total() == issued.total() <= batch.quantity
            assert batch.limit is None or max(issued.values(), default=0) <= batch.limit
        assert self.fold.states_at(self.now) == {coupon.id: coupon.state(self.now) for coupon in self.coupons}

    def teardown(self) -> None:
        # Many commands of one kind prove little: what counts is how many kinds had their effect twice.
        target(sum(min(2, number) for number in self.accepted.values()), label="kinds of accepted commands")


@pytest.fixture
def ledger_for_all(database: Database) -> Iterator[Ledger]:
    ledger = Ledger(Store(database))
    yield ledger
    ledger.close()


LONG = settings.get_current_profile_name() == "long"


@pytest.mark.timeout(0 if LONG else 120)
def test_any_commands_in_any_order(ledger_for_all: Ledger) -> None:
    profile = settings.get_profile("long") if LONG else settings(max_examples=100, stateful_step_count=40)
    run_state_machine_as_test(
        lambda: CoreCommands(ledger_for_all),
        settings=settings(
            profile, deadline=None, suppress_health_check=list(HealthCheck), phases=set(Phase) - {Phase.explain}
        ),
    )
    assert_guards_equal_events(ledger_for_all.store.database)
