"""Events of one chunk collapse to one move a coupon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.events import CouponExpired, CouponIssued, CouponLocked, CouponReturned, CouponUsed, Recorded
from projections.bulk import joined
from projections.moves import moves_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = T0 + timedelta(days=30)
COMMON: dict[str, Any] = {
    "originator_id": "coupon-1", "merchant_id": "m", "actor": "test", "request_id": "r", "occurred_at": T0,
    "batch_id": "b", "user_id": "u",
}  # fmt: skip


def issued() -> CouponIssued:
    return CouponIssued(
        **COMMON, originator_version=1, template_id="t", template_version=1, channel="claim",
        valid_from=T0, valid_until=T1,
    )  # fmt: skip


def locked(version: int) -> CouponLocked:
    return CouponLocked(
        **COMMON, originator_version=version, order_id="o", lock_id="l", lock_ends_at=T1, order_total_minor=None,
        quote_digest=None,
    )  # fmt: skip


def used(version: int) -> CouponUsed:
    return CouponUsed(
        **COMMON, originator_version=version, order_id="o", lock_id="l", redemption_id="x", currency="EUR",
        discount_minor=300, merchant_funded_minor=300, platform_funded_minor=0, order_total_minor=None,
        paid_minor=None, allocation=[],
    )  # fmt: skip


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
