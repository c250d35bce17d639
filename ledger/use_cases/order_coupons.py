"""Use case of an order's own view: which coupons it holds, and which it used. It writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.aggregate import text_of
from ledger.coupon import Coupon
from ledger.events import CouponCredited, CouponReturned, CouponSpent, Event
from ledger.request import Request
from ledger.use_cases.checks import check_id
from ledger.work import Loaded, Receipt, Work


def order_coupons(request: Request, order_id: str) -> Work:
    """The coupons that the order holds or has used, returned ones among them, by id; it is for ``Ledger.ask``.

    Decides on what the coupons' streams say now. What the order locked and let go is not shown, and an order that the
    ledger does not know has none.
    """
    check_id("order_id", order_id)

    def decide(loaded: Loaded) -> Receipt:
        shown = []
        for stream in sorted(loaded.order_streams):
            coupon = loaded.coupon(stream.removeprefix("coupon-"))
            held = coupon.state_at(loaded.now) == "LOCKED" and coupon.order_id == order_id
            redemption = _redemption(order_id, loaded.streams[stream])
            if held or redemption:
                shown.append(
                    {
                        "coupon_id": coupon.key,
                        "template_id": coupon.template_id,
                        "template_version": coupon.template_version,
                        "state": coupon.state_at(loaded.now),
                        "lock": _lock(coupon) if held else None,
                        "redemption": redemption,
                    }
                )
        return Receipt({"order_id": order_id, "coupons": shown, "as_of": text_of(loaded.now)}, 0)

    return Work(request, (), decide, order_id=order_id)


def _lock(coupon: Coupon) -> dict[str, Any]:
    assert coupon.locked is not None
    return {
        "lock_id": coupon.lock_id,
        "lock_ends_at": text_of(coupon.lock_ends_at),
        "holder_id": coupon.locked.holder_id,
        "discount_minor": coupon.locked.discount_minor,
        "allocation": coupon.locked.allocation,
    }


def _redemption(order_id: str, history: Sequence[Event]) -> dict[str, Any] | None:
    """The order's last use, and what of it was given back since."""
    use: CouponSpent | None = None
    returned_minor = 0
    for event in history:
        if isinstance(event, CouponSpent) and event.order_id == order_id:
            use, returned_minor = event, 0
        elif isinstance(event, CouponReturned | CouponCredited) and use and event.redemption_id == use.redemption_id:
            returned_minor += event.returned_minor if isinstance(event, CouponReturned) else event.credited_minor
    if use is None:
        return None
    return {
        "redemption_id": use.redemption_id,
        "used_at": text_of(use.occurred_at),
        "holder_id": use.holder_id,
        "channel": use.channel,
        "discount_minor": use.discount_minor,
        "allocation": use.allocation,
        "returned_minor": returned_minor,
    }
