"""What a stacking rule would have refused of orders that lock anew, spend vouchers, come late and give back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.errors import ExclusiveConflict, Refusal
from ledger.events import CouponCredited, CouponLocked, CouponReturned, CouponSpent, Event
from ledger.terms import StackingMode, Terms
from ledger.work import Work
from projections.what_if import stacking
from projections.what_if.report import Report
from tests.conftest import MERCHANT, Shop

T0 = datetime(2026, 3, 1, 9, tzinfo=UTC)
PLAIN = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", stacking_mode="stackable")
VOUCHER = replace(PLAIN, benefit=Benefit(kind="cash_voucher", value_minor=900, leaves_balance=True))


class Order:
    """An order's commands, which name its coupons by their places."""

    def __init__(self, shop: Shop, order_id: str, *batch_ids: str) -> None:
        self.shop = shop
        self.order_id = order_id
        self.at = T0
        works = [use_cases.claim(shop.request(at=T0), batch_id, "ann") for batch_id in batch_ids]
        self.coupons: list[str] = [shop.ledger.do(work).answer["coupon_id"] for work in works]

    def lock(self, *places: int, total: int | None = None) -> Work:
        ids = [self.coupons[place] for place in places]
        request = self.shop.request(at=self.at)
        return use_cases.lock(request, self.order_id, user_id="ann", coupon_ids=ids, order_total_minor=total)

    def confirm(self, *places: int, minor: int = 500) -> Work:
        parts = [{"line_id": "1", "product_id": "p", "discount_minor": minor // 2}]
        parts += [{"line_id": "2", "product_id": "q", "discount_minor": minor - minor // 2}]
        uses = [Redemption(coupon_id=self.coupons[place], discount_minor=minor, allocation=parts) for place in places]
        return use_cases.confirm(self.shop.request(at=self.at), self.order_id, uses)

    def redeem(self, place: int, *, minor: int, total: int) -> Work:
        id, request = self.coupons[place], self.shop.request(at=self.at)
        return use_cases.redeem(request, self.order_id, coupon_id=id, discount_minor=minor, order_total_minor=total)

    def give_back(self, place: int, *lines: str, reason: str = "order_cancelled") -> Work:
        self.at += timedelta(hours=1)  # when every lock has ended, as when goods come back
        ids, named = [self.coupons[place]], [{"line_id": line_id} for line_id in lines]
        request = self.shop.request(at=self.at)
        return use_cases.return_coupons(request, self.order_id, coupon_ids=ids, reason=reason, lines=named)

    def unlock(self, place: int, reason: str = "left") -> Work:
        ids, request = [self.coupons[place]], self.shop.request(at=self.at)
        return use_cases.unlock(request, self.order_id, coupon_ids=ids, reason=reason)

    def do(self, *works: Work) -> None:
        for work in works:
            self.shop.ledger.do(work)


def batch_of(shop: Shop, terms: Terms = PLAIN) -> str:
    """Of as many coupons as anybody wants, from then on."""
    batch_id = shop.batch(per_user_limit=None, terms=terms, quantity=10_000, start=False)
    shop.ledger.do(use_cases.start_batch(shop.request(at=T0), batch_id))
    return batch_id


def judged(
    shop: Shop, database: Database, batch_id: str, mode: StackingMode = "exclusive", group: str | None = None
) -> Report:
    template_id = shop.ledger.store.history(f"batch-{batch_id}")[0].event.template_id  # type: ignore[attr-defined]
    return stacking.judge(database, MERCHANT, template_id, mode, group)


@pytest.mark.parametrize("again", [0, 1, 2])
def test_coupons_that_are_locked_again_are_judged_together(shop: Shop, database: Database, again: int) -> None:
    batch = batch_of(shop)
    order = Order(shop, "order-1", batch, batch)
    for total in range(again + 1):
        order.do(order.lock(0, 1, total=4_000 + total))
    order.do(order.confirm(0), order.confirm(1))
    report = judged(shop, database, batch)
    assert (report.uses_lost, report.discount_minor()) == (2, {"EUR": 1_000})
    assert (report.requests_refused, report.locks_lost) == (again + 1, 2 * (again + 1))


def test_a_voucher_that_is_debited_is_refused_with_what_is_used(shop: Shop, database: Database) -> None:
    plain, vouchers = batch_of(shop), batch_of(shop, VOUCHER)
    order = Order(shop, "order-1", plain, vouchers)
    order.do(order.lock(0), order.lock(1), order.confirm(0, 1, minor=300))
    report = judged(shop, database, plain)
    assert (report.requests_refused, report.uses_lost, report.discount_minor()) == (1, 2, {"EUR": 600})


def test_the_lock_before_stays_where_another_is_refused(shop: Shop, database: Database) -> None:
    batch = batch_of(shop)
    order = Order(shop, "order-1", batch, batch)
    order.do(order.lock(0, total=4_000), order.lock(0, 1, total=5_000), order.confirm(0), order.confirm(1))
    report = judged(shop, database, batch)
    assert sorted(each.coupon_id for each in report.listed) == sorted(order.coupons)
    assert (report.locks_lost, report.uses_lost, report.discount_minor()) == (2, 1, {"EUR": 500})


@pytest.mark.parametrize("written", [False, True])
def test_a_late_use_follows_its_lock(shop: Shop, database: Database, written: bool) -> None:
    batch = batch_of(shop, replace(PLAIN, late_confirm="accept"))
    order = Order(shop, "order-1", batch, batch)
    order.do(order.lock(0, 1))
    order.at += timedelta(hours=2)
    if written:
        order.do(order.unlock(0, "lock_ended"), order.unlock(1, "lock_ended"))
    order.do(order.confirm(0), order.confirm(1))
    report = judged(shop, database, batch)
    assert (report.requests_refused, report.uses_lost) == (1, 2)
    assert report.locks_lost == 2, "that such a use writes its lock down once more makes it no other"


def wish(random: random.Random, number: int) -> Callable[[Order], Work]:
    """What an order asks for. No two have the same total or discount, so each is judged anew."""
    place, places = random.randrange(4), random.sample(range(4), random.choice([1, 2, 2, 3]))
    lines = random.choice([(), ("1",), ("2",)])
    reason = random.choice(["order_cancelled", "buyer_refund"])
    wishes: list[Callable[[Order], Work]] = [
        lambda order: order.lock(*places, total=100_000 + number),
        lambda order: order.confirm(*places, minor=200 + number),
        lambda order: order.redeem(place, minor=200 + number, total=100_000 + number),
        lambda order: order.give_back(place, *lines, reason=reason),
        lambda order: order.unlock(place),
    ]
    [chosen] = random.choices(wishes, weights=[6, 6, 1, 4, 1])
    return chosen


@pytest.mark.parametrize(("mode", "group"), [("exclusive", None), ("group", "g")])
def test_it_agrees_with_a_template_that_had_the_rule(
    shop: Shop, database: Database, mode: StackingMode, group: str | None
) -> None:
    """The same wishes, asked of orders whose coupons have the rule: what was refused there is what would have been."""
    chance = random.Random(f"{mode} of the orders")
    grouped = replace(PLAIN, stacking_mode="group", stacking_group="g")
    was, would_be = batch_of(shop), batch_of(shop, replace(PLAIN, stacking_mode=mode, stacking_group=group))
    beside = (batch_of(shop, grouped), batch_of(shop, VOUCHER))
    lost: dict[str, Refusal] = {}
    for count in range(20):
        loose = Order(shop, f"order-{count}", was, was, *beside)
        tight = Order(shop, f"tight-{count}", would_be, would_be, *beside)
        for number in range(24):
            loose.at = tight.at = loose.at + timedelta(seconds=1)
            asked = wish(chance, number)
            work = asked(loose)
            try:
                loose.do(work)
            except Refusal:
                continue
            try:
                tight.do(asked(tight))
            except Refusal as refusal:
                lost[work.request.request_id] = refusal
    with shop.ledger.store.connection() as connection:
        log = list(shop.ledger.store.read(connection, 0, 100_000))
    not_there: list[Event] = [each.event for each in log if each.event.request_id in lost]
    spent = [event for event in not_there if isinstance(event, CouponSpent)]
    discounts: Counter[str] = Counter()
    for event in spent:
        discounts[event.order_id] += event.discount_minor
    report = judged(shop, database, was, mode, group)
    assert {order_id: order.discount_minor for order_id, order in report.orders.items()} == discounts
    assert report.uses_lost == len(spent)
    assert report.locks_lost == sum(isinstance(event, CouponLocked) for event in not_there)
    assert report.requests_refused == sum(isinstance(refusal, ExclusiveConflict) for refusal in lost.values())
    returned = sum(event.returned_minor for event in not_there if isinstance(event, CouponReturned))
    returned += sum(event.credited_minor for event in not_there if isinstance(event, CouponCredited))
    assert report.returned_minor["EUR"] == returned
    assert min(len(spent), returned, report.requests_refused, report.locks_lost) > 5, "it is seen at work"
    assert report.not_judged == 0
