"""The coupon decides: its stories in memory, and what no command can reach."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from ledger.coupon import Coupon, Redemption
from ledger.errors import CouponNotFound, InvalidField, NotApplicable
from ledger.events import CouponLocked, CouponUnlocked, Event
from ledger.request import Request
from ledger.work import fold
from tests.unit.coupon_facts import (
    FRESH,
    GRACE,
    HELD,
    LOCK_END,
    PRICED,
    USED,
    VALID_END,
    hold,
    returned,
    use,
    with_terms,
)
from tests.unit.coupon_stories import COUPON_STORIES
from tests.unit.specs import COUPON, INSTANT, T0, TERMS, Fact, MemoryBackend, Story, after, bind, issued, numbered

STORIES = [
    pytest.param(story, id=f"{kind}: {story.name}") for kind, stories in COUPON_STORIES.items() for story in stories
]


@pytest.mark.parametrize("story", STORIES)
def test_story(story: Story) -> None:
    story.tell(MemoryBackend())


def coupon_after(*facts: Fact) -> Coupon:
    events = [event for event in numbered(bind(facts, "")) if event.originator_id == "coupon-c"]
    return fold(Coupon("coupon-c"), events)


@pytest.mark.parametrize(
    ("facts", "at", "state"),
    [
        ([issued(valid_from=after(1))], after(1) - INSTANT, "PENDING"),
        ([issued(valid_from=after(1))], after(1), "UNUSED"),
        (FRESH, VALID_END - INSTANT, "UNUSED"),
        (FRESH, VALID_END, "EXPIRED"),
        (HELD, T0, "LOCKED"),
        (HELD, LOCK_END - INSTANT, "LOCKED"),
        (HELD, LOCK_END, "UNUSED"),
        (HELD, VALID_END, "EXPIRED"),
        ([*FRESH, hold(ends=after(11))], after(11) - INSTANT, "LOCKED"),
        ([*FRESH, hold(ends=after(11))], after(11), "EXPIRED"),
        (USED, after(50), "USED"),
        ([*USED, returned(restored=True)], T0, "UNUSED"),
        ([*USED, returned(restored=True)], VALID_END, "EXPIRED"),
        ([*USED, returned(restored=False)], after(50), "USED"),
        ([*with_terms(GRACE, hold(), use()), returned(restored=True, valid_until=after(12))], VALID_END, "UNUSED"),
    ],
)
def test_state_is_derived_from_the_clock(facts: list[Fact], at: object, state: str) -> None:
    assert coupon_after(*facts).state_at(at) == state  # type: ignore[arg-type]


def test_a_coupon_that_was_never_issued_refuses_everything() -> None:
    request = Request("merchant-1", "test", "request-1")
    coupon = Coupon(bind(f"coupon-{COUPON}", ""))
    redemption = Redemption(coupon_id="c", discount_minor=1)
    for step in (
        lambda: coupon.lock(
            request, T0, TERMS, order_id="o", user_id="u", ttl_seconds=1, order_total_minor=None, quote_digest=None
        ),
        lambda: coupon.confirm(
            request, T0, TERMS, redemption, order_id="o", lock_id=None, order_total_minor=None, paid_minor=None
        ),
        lambda: coupon.unlock(request, T0, order_id="o", lock_id=None, reason="r"),
        lambda: coupon.return_(request, T0, TERMS, order_id="o", reason="order_cancelled"),
        lambda: coupon.void(request, T0, reason="r"),
        lambda: coupon.expire(request, T0),
        lambda: coupon.extend(request, T0, valid_until=after(1), reason="r"),
        lambda: coupon.transfer(request, T0, TERMS, user_id="u", to_user_id="v"),
        lambda: coupon.share(request, T0, TERMS, user_id="u", with_user_ids=["v"]),
    ):
        with pytest.raises(CouponNotFound):
            step()
    assert coupon.collect_events() == []


@pytest.mark.parametrize("discount", [-1, 10**12, 1.0, True, "5"])
def test_a_discount_is_whole_and_bounded(discount: object) -> None:
    with pytest.raises(InvalidField):
        Redemption(coupon_id="c", discount_minor=discount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parts",
    [[499], [250, 251], [501, -1], [250.0, 250.0], [None, 500], ["250", "250"], [True, 499], [0] * 1_001, [{}]],
)
def test_an_allocation_sums_to_the_discount_in_whole_parts(parts: list[object]) -> None:
    allocation = [{"line_id": str(n), "discount_minor": part} if part != {} else {} for n, part in enumerate(parts)]
    with pytest.raises(InvalidField):
        Redemption(coupon_id="c", discount_minor=500, allocation=allocation)


def test_an_allocation_needs_its_discount() -> None:
    with pytest.raises(InvalidField):
        Redemption(coupon_id="c", discount_minor=None, allocation=[{"line_id": "1", "discount_minor": 1}])


FOUND = [{"line_id": "1", "product_id": "tea", "discount_minor": 450}]
LESS = [{"line_id": "1", "product_id": "tea", "discount_minor": 400}]


def lock_again(at: datetime, discount: int, allocation: list[dict[str, Any]]) -> list[Event]:
    """What comes of the order locking once more what the ledger found to be worth 450."""
    coupon = coupon_after(*FRESH, PRICED)
    coupon.lock(
        Request("merchant-1", "test", "request-2"),
        at,
        TERMS,
        order_id="order-1",
        user_id="user-1",
        ttl_seconds=None,
        order_total_minor=4_000,
        quote_digest=None,
        discount_minor=discount,
        allocation=allocation,
    )
    return coupon.collect_events()


def test_the_same_finding_for_the_same_order_keeps_the_lock() -> None:
    assert lock_again(T0, 450, FOUND) == []


def test_another_finding_for_the_same_order_is_another_lock() -> None:
    ended, begun = lock_again(after(seconds=60), 400, LESS)
    assert isinstance(ended, CouponUnlocked) and isinstance(begun, CouponLocked)
    assert (ended.reason, ended.lock_id, ended.occurred_at) == ("locked_again", "lock-order-1", after(seconds=60))
    assert (begun.discount_minor, begun.allocation, begun.order_id) == (400, LESS, "order-1")
    assert begun.lock_id != "lock-order-1"


def test_another_finding_after_the_end_of_validity_takes_the_place_of_the_first() -> None:
    """The shopper was in time. Were it refused, the order could use the coupon as it was found on another basket."""
    coupon = coupon_after(*FRESH, hold(ends=after(10.5)))
    coupon.lock(
        Request("merchant-1", "test", "request-2"),
        VALID_END,
        TERMS,
        order_id="order-1",
        user_id="user-1",
        ttl_seconds=86_400,
        order_total_minor=None,
        quote_digest=None,
        discount_minor=1,
    )
    ended, begun = coupon.collect_events()
    assert isinstance(ended, CouponUnlocked)
    assert isinstance(begun, CouponLocked)
    # No longer than the first lock, for the day counts from when the order began to hold the coupon.
    assert (begun.discount_minor, begun.lock_ends_at) == (1, after(10.5))


def test_a_redemption_and_its_allocation_at_their_bounds() -> None:
    assert Redemption(coupon_id="c", discount_minor=10**12 - 1).discount_minor == 10**12 - 1
    lines = [{"line_id": str(n), "discount_minor": 0} for n in range(999)] + [{"line_id": "x", "discount_minor": 500}]
    assert len(Redemption(coupon_id="c", discount_minor=500, allocation=lines).allocation) == 1_000


@pytest.mark.parametrize("name", ["with a basket, after one without", "without a basket, after one with it"])
def test_a_till_hears_what_a_till_can_do(name: str) -> None:
    backend = MemoryBackend()
    (story,) = [bind(story, backend.tag) for story in COUPON_STORIES["order"] if story.name == name]
    backend.given(numbered(story.given))
    with pytest.raises(NotApplicable, match="send it with each scan"):
        backend.perform(story.when)
