"""One order's coupons used by several requests at once: each sees what the others used, whoever is first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.errors import ExclusiveConflict, NotApplicable, Refusal
from ledger.events import CouponSpent
from ledger.migrate import migrations
from ledger.terms import Terms
from ledger.work import Receipt, Work
from tests.conftest import Shop
from tests.postgres.tools import at_once, whole_log

EXCLUSIVE = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
USES = "select batch_id, user_id, issued from user_quota where batch_id like ' order %%'"


def coupons(shop: Shop, count: int, terms: Terms | None = None) -> list[str]:
    batch_id = shop.batch(terms=terms, per_user_limit=None)
    return [shop.coupon("user-1", batch_id) for _ in range(count)]


def held(shop: Shop, coupon_ids: Sequence[str]) -> None:
    """By one order, in calls of their own."""
    for id in coupon_ids:
        shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[id]))


def confirm(shop: Shop, coupon_id: str, discount: int = 500, total: int | None = None) -> Work:
    redemption = Redemption(coupon_id=coupon_id, discount_minor=discount)
    return use_cases.confirm(shop.request(), "order-1", [redemption], order_total_minor=total)


def tally(results: Sequence[Any]) -> Counter[str]:
    return Counter("done" if isinstance(result, Receipt) else type(result).__name__ for result in results)


def assert_uses_are_counted(ledger: Ledger) -> None:
    events = [recorded.event for recorded in whole_log(ledger.store)]
    uses = Counter(
        (f" order {event.merchant_id}", event.order_id) for event in events if isinstance(event, CouponSpent)
    )
    with ledger.store.database.connect() as connection:
        assert {(key, order): count for key, order, count in connection.execute(USES)} == uses


def test_of_exclusive_coupons_one_is_confirmed(ledger: Ledger, shop: Shop) -> None:
    ids = coupons(shop, 8, EXCLUSIVE)
    held(shop, ids)
    works = [confirm(shop, id) for id in ids]
    assert tally(at_once(8, lambda n: ledger.do(works[n]))) == {"done": 1, "ExclusiveConflict": 7}
    assert_uses_are_counted(ledger)


def test_of_exclusive_coupons_tills_use_one(ledger: Ledger, shop: Shop) -> None:
    works = [
        use_cases.redeem(shop.request(), "order-1", coupon_id=id, discount_minor=500)
        for id in coupons(shop, 8, EXCLUSIVE)
    ]
    assert tally(at_once(8, lambda n: ledger.do(works[n]))) == {"done": 1, "ExclusiveConflict": 7}
    assert_uses_are_counted(ledger)


def test_they_take_no_more_off_than_the_order_costs(ledger: Ledger, shop: Shop) -> None:
    ids = coupons(shop, 8)
    held(shop, ids)
    works = [confirm(shop, id, 200, 500) for id in ids]
    assert tally(at_once(8, lambda n: ledger.do(works[n]))) == {"done": 2, "NotApplicable": 6}
    assert_uses_are_counted(ledger)


def test_confirmations_of_one_order_in_one_poll(ledger: Ledger, shop: Shop) -> None:
    ids = coupons(shop, 3, EXCLUSIVE)
    held(shop, ids)
    with ledger.store.connection() as connection, connection.transaction():
        results = ledger.do_all([confirm(shop, id) for id in ids], connection)
    assert [type(result) for result in results] == [Receipt, ExclusiveConflict, ExclusiveConflict]
    assert_uses_are_counted(ledger)


def test_what_was_returned_makes_room_again(ledger: Ledger, shop: Shop) -> None:
    one, other = coupons(shop, 2)
    held(shop, [one, other])
    ledger.do(confirm(shop, one, 300, 500))
    with pytest.raises(NotApplicable):
        ledger.do(confirm(shop, other, 300, 500))
    ledger.do(use_cases.return_coupons(shop.request(), "order-1", coupon_ids=[one], reason="order_cancelled"))
    ledger.do(confirm(shop, other, 300, 500))
    assert_uses_are_counted(ledger)


def test_another_merchants_order_of_the_same_id_is_another(ledger: Ledger, shop: Shop) -> None:
    other = Shop(ledger, "merchant-2")
    for each in (shop, other):
        [id] = coupons(each, 1, EXCLUSIVE)
        held(each, [id])
        ledger.do(confirm(each, id))
    assert_uses_are_counted(ledger)


def test_uses_of_before_are_counted_by_the_migration(ledger: Ledger, shop: Shop) -> None:
    one, other = coupons(shop, 2, EXCLUSIVE)
    held(shop, [one, other])
    ledger.do(confirm(shop, one))
    database = ledger.store.database
    text = dict(migrations())["0012_orders.sql"]
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute(f'set search_path to "{database.schema}"')
        owner.execute("delete from user_quota where batch_id like ' order %'")
        owner.execute(text[text.index("insert into") :])
    assert_uses_are_counted(ledger)
    with pytest.raises(Refusal):
        ledger.do(confirm(shop, other))
