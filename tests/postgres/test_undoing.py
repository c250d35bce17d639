"""A batch undone while its coupons are in use, and which coupons are found to be the batch's."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from ledger import use_cases
from ledger.aggregate import coupons_begin
from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.coupon import Redemption
from ledger.errors import CouponVoid
from ledger.undoing import Issued, page, void_issued
from tests.conftest import Shop
from tests.postgres.tools import at_once
from tests.unit.specs import issued

EVERY = Issued()


def walked(shop: Shop, batch_id: str, name: str) -> tuple[int, Counter[str]]:
    """How many were voided, and how often each refusal was told, over all pages."""
    voided, refused, after, number = 0, Counter[str](), None, 0
    while True:
        request = shop.request(f"{name}-{number}")
        done = void_issued(shop.ledger, request, batch_id, reason="by mistake", issued=EVERY, after=after).answer
        voided += done["voided"]
        refused.update(each["code"] for each in done["refused"])
        after, number = done["next"], number + 1
        if after is None:
            return voided, refused


def test_voids_while_others_lock_and_confirm(ledger: Ledger, shop: Shop) -> None:
    """Each coupon is voided once or used once, whoever comes first; two who undo at once share the work."""
    batch_id = shop.batch(quantity=1_000, per_user_limit=None)
    work = use_cases.issue(shop.request(), batch_id, ["user-1"] * 300)
    ids = [coupon["coupon_id"] for coupon in ledger.do(work).answer["coupons"]]
    confirmed: list[str] = []

    def shopper(number: int) -> None:
        for id in ids[number::6]:
            order = f"order-{id}"
            with suppress(CouponVoid):
                ledger.do(use_cases.lock(shop.request(f"l-{id}"), order, user_id="user-1", coupon_ids=[id]))
                use = Redemption(coupon_id=id, discount_minor=1)
                ledger.do(use_cases.confirm(shop.request(f"c-{id}"), order, [use]))
                confirmed.append(id)

    told = at_once(8, lambda n: walked(shop, batch_id, f"undo-{n}") if n < 2 else shopper(n - 2))
    undone = [each for each in told if each is not None]
    assert len(undone) == 2
    topics = Counter(ledger.store.history(f"coupon-{id}")[-1].event.TOPIC for id in ids)
    assert topics == Counter({"coupon.voided": 300 - len(confirmed), "coupon.used": len(confirmed)}) - Counter()
    assert sum(voided for voided, _ in undone) == topics["coupon.voided"] > 0
    for voided, refused in undone:
        assert voided + refused.total() == 300
        assert refused.keys() <= {"coupon_used", "coupon_void"}


def test_a_page_that_was_being_voided_at_once_is_one_page(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=1_000, per_user_limit=None)
    ledger.do(use_cases.issue(shop.request(), batch_id, ["user-1"] * 120))
    request = shop.request("undo")
    answers = at_once(6, lambda _: void_issued(ledger, request, batch_id, reason="r", issued=EVERY).answer)
    assert [answer["voided"] for answer in answers] == [100] * 6
    assert len({answer["next"] for answer in answers}) == 1


def test_another_batch_whose_ids_begin_alike_is_left_alone(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch()
    mine = {shop.coupon(f"user-{n}", batch_id) for n in range(3)}
    twin = coupons_begin(batch_id) + "0" * 18
    foreign = [issued(coupon=coupons_begin(batch_id) + digit * 18, batch_id=twin).event(1) for digit in "0f"]
    with ledger.store.connection() as connection:
        commit_group(ledger.store, connection, [Unit(foreign)])
        assert page(connection, batch_id, EVERY, None) == (sorted(mine), None)
        assert page(connection, batch_id, EVERY, sorted(mine)[1]) == (sorted(mine)[2:], None)
    assert walked(shop, batch_id, "undo") == (3, Counter())
