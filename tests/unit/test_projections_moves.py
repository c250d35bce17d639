"""Events of one chunk collapse to one move a coupon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponExpired,
    CouponExtended,
    CouponIssued,
    CouponLocked,
    CouponLockExtended,
    CouponReturned,
    CouponShared,
    CouponTransferred,
    CouponUsed,
    Recorded,
)
from projections.models.bulk import joined
from projections.models.moves import moves_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = T0 + timedelta(days=30)
COMMON: dict[str, Any] = {
    "originator_id": "coupon-1", "merchant_id": "m", "actor": "test", "request_id": "r", "occurred_at": T0,
    "batch_id": "b", "user_id": "u",
}  # fmt: skip


def issued() -> CouponIssued:
    return CouponIssued(
        **COMMON, originator_version=1, template_id="t", template_version=1, channel="claim",
        valid_from=T0, valid_until=T1, facts={},
    )  # fmt: skip


def locked(version: int, holder_id: str = "u") -> CouponLocked:
    return CouponLocked(
        **COMMON, originator_version=version, order_id="o", lock_id="l", lock_ends_at=T1, order_total_minor=None,
        quote_digest=None, holder_id=holder_id, discount_minor=None, allocation=[], channel=None, lines_in_scope=[],
    )  # fmt: skip


SPENDING: dict[str, Any] = {
    "order_id": "o", "lock_id": "l", "redemption_id": "x", "currency": "EUR", "discount_minor": 300,
    "merchant_funded_minor": 300, "platform_funded_minor": 0, "order_total_minor": None, "paid_minor": None,
    "allocation": [], "channel": "online", "late": False,
}  # fmt: skip


def used(version: int, holder_id: str = "u") -> CouponUsed:
    return CouponUsed(**COMMON, **SPENDING, originator_version=version, holder_id=holder_id)


def debited(version: int, balance_minor: int) -> CouponDebited:
    return CouponDebited(**COMMON, **SPENDING, originator_version=version, holder_id="u", balance_minor=balance_minor)


def credited(version: int, balance_minor: int, *, restored: bool = False) -> CouponCredited:
    return CouponCredited(
        **COMMON, originator_version=version, order_id="o", redemption_id="x", reason="order_cancelled",
        credited_minor=300, balance_minor=balance_minor, restored=restored, lines=[],
    )  # fmt: skip


def transferred(version: int, user_id: str, to_user_id: str) -> CouponTransferred:
    return CouponTransferred(**COMMON | {"user_id": user_id}, originator_version=version, to_user_id=to_user_id)


def lock_extended(version: int, hours: int) -> CouponLockExtended:
    return CouponLockExtended(
        **COMMON, originator_version=version, order_id="o", lock_id="l", lock_ends_at=T1 + timedelta(hours=hours)
    )


def returned(version: int, *, restored: bool) -> CouponReturned:
    return CouponReturned(
        **COMMON, originator_version=version, order_id="o", redemption_id="x", reason="buyer_refund",
        restored=restored, valid_until=T1 + timedelta(days=7), returned_minor=300, lines=[],
    )  # fmt: skip


def moved(*events: Any) -> Any:
    log = [Recorded(100 + number, T0, event) for number, event in enumerate(events)]
    [move] = moves_of(log).values()
    return move


def test_a_coupon_issued_locked_and_used_is_one_move() -> None:
    move = moved(issued(), locked(2), used(3))
    assert (move.first_version, move.version, move.position) == (1, 3, 102)
    assert move.issued == issued()
    assert (move.state, move.order_id, move.lock_id, move.lock_ends_at) == ("USED", "o", None, None)
    assert (move.redemption_id, move.discount_minor, move.valid_until) == ("x", 300, T1)


def test_a_return_that_keeps_the_coupon_used_moves_only_the_end_of_validity() -> None:
    move = moved(returned(4, restored=False))
    assert move.state is None
    assert move.valid_until == T1 + timedelta(days=7)


def test_a_return_that_restores_leaves_nothing_of_the_use() -> None:
    move = moved(used(3), returned(4, restored=True))
    assert (move.state, move.order_id, move.redemption_id, move.discount_minor) == ("UNUSED", None, None, 0)
    assert move.issued is None
    assert move.first_version == 3


def test_a_longer_hold_alone_moves_only_its_end() -> None:
    move = moved(lock_extended(3, 1), lock_extended(4, 2))
    assert (move.state, move.order_id, move.lock_id) == (None, None, None)
    assert move.lock_ends_at == T1 + timedelta(hours=2)
    move = moved(locked(2), lock_extended(3, 1))
    assert (move.state, move.lock_id, move.lock_ends_at) == ("LOCKED", "l", T1 + timedelta(hours=1))
    assert moved(lock_extended(3, 1), used(4)).lock_ends_at is None


def test_a_voucher_keeps_its_last_balance() -> None:
    move = moved(debited(3, 200), credited(4, 500))
    assert (move.state, move.order_id, move.discount_minor, move.balance_minor) == ("UNUSED", None, 0, 500)
    alone = moved(credited(7, 0))
    assert (alone.state, alone.balance_minor) == (None, 0)
    assert moved(used(3)).balance_minor is None
    reopened = moved(used(7), returned(8, restored=False), credited(9, 300, restored=True))
    assert (reopened.state, reopened.redemption_id, reopened.balance_minor) == ("UNUSED", None, 300)


def test_a_coupon_is_known_by_its_first_owner_and_goes_to_the_last() -> None:
    move = moved(issued(), transferred(2, "u", "v"), transferred(3, "v", "w"))
    assert (move.user_id, move.to_user_id, move.state) == ("u", "w", "UNUSED")
    move = moved(transferred(5, "v", "w"), transferred(6, "w", "v"))
    assert (move.user_id, move.to_user_id, move.state) == ("v", "v", None)


def test_only_a_friend_is_named_as_the_holder() -> None:
    assert moved(locked(2)).holder_id is None
    assert moved(locked(2, "friend")).holder_id == "friend"
    assert moved(locked(2, "friend"), used(3, "friend")).holder_id == "friend"
    assert moved(used(3, "friend"), returned(4, restored=True)).holder_id is None


def test_sharing_and_a_longer_validity_change_no_state() -> None:
    shared = CouponShared(**COMMON, originator_version=2, with_user_ids=["v"])
    longer = CouponExtended(
        **COMMON, originator_version=3, valid_until_before=T1, valid_until=T1 + timedelta(days=1), reason="storm"
    )
    move = moved(shared, longer)
    assert (move.state, move.valid_until, move.version) == (None, T1 + timedelta(days=1), 3)


@pytest.mark.parametrize("later", [locked(3), used(1)], ids=["hole", "repeat"])
def test_a_stream_that_does_not_go_on_is_an_error(later: Any) -> None:
    with pytest.raises(ValueError, match="does not follow"):
        moved(issued(), later)


def test_the_last_event_decides() -> None:
    expired = CouponExpired(**COMMON, originator_version=2, valid_until=T1)
    assert moved(issued(), expired).state == "EXPIRED"


def test_a_value_with_a_line_feed_cannot_shift_a_column() -> None:
    with pytest.raises(ValueError, match="line feed"):
        joined(["a", "b\nc"])
