"""One coupon and many who want it at once: friends, and tills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.errors import Refusal, Unavailable
from ledger.events import CouponDebited, CouponUsed
from ledger.work import Receipt, Work
from tests.conftest import Shop
from tests.postgres.tools import at_once
from tests.unit.specs import TERMS


def asked(ledger: Ledger, works: list[Work]) -> Counter[str]:
    """How often each refusal came, and how many were granted; who heard that it is too busy asked again."""

    def ask(number: int) -> Receipt:
        while True:
            try:
                return ledger.do(works[number])
            except Unavailable:
                continue

    results = at_once(len(works), ask)
    assert all(isinstance(result, Receipt | Refusal) for result in results), results
    return Counter("granted" if isinstance(result, Receipt) else type(result).__name__ for result in results)


def many(count: int, work: Callable[[int], Work]) -> list[Work]:
    return [work(number) for number in range(count)]


def test_the_first_friend_to_lock_it_holds_it(ledger: Ledger, shop: Shop) -> None:
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, shareable=True)))
    friends = [f"friend-{number}" for number in range(16)]
    ledger.do(use_cases.share(shop.request(), coupon_id, user_id="user-1", with_user_ids=friends))
    locks = many(
        16,
        lambda n: use_cases.lock(shop.request(f"l-{n}"), f"order-{n}", user_id=friends[n], coupon_ids=[coupon_id]),
    )
    assert asked(ledger, locks) == {"granted": 1, "CouponLocked": 15}


def test_tills_never_take_more_off_a_voucher_than_is_on_it(ledger: Ledger, shop: Shop) -> None:
    voucher = replace(TERMS, benefit=Benefit(kind="cash_voucher", value_minor=1_000, leaves_balance=True))
    coupon_id = shop.coupon(batch_id=shop.batch(terms=voucher))
    works = many(
        16,
        lambda n: use_cases.redeem(shop.request(f"r-{n}"), f"order-{n}", coupon_id=coupon_id, discount_minor=100),
    )
    assert asked(ledger, works) == {"granted": 10, "CouponUsed": 6}
    spent = [
        entry.event
        for entry in ledger.store.history(f"coupon-{coupon_id}")
        if isinstance(entry.event, CouponDebited | CouponUsed)
    ]
    assert [event.discount_minor for event in spent] == [100] * 10
    assert [event.balance_minor for event in spent[:-1] if isinstance(event, CouponDebited)] == [*range(900, 0, -100)]
    assert isinstance(spent[-1], CouponUsed)
