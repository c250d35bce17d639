"""Use case of a refund: undo the use of an order's coupons, whole or by its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.commit import Unit
from ledger.coupon import ALLOCATION_LIMIT
from ledger.errors import InvalidField, ReturnNotAllowed
from ledger.events import CouponSpent, Event
from ledger.request import Request
from ledger.use_cases.checks import check_id, check_money, checked_coupon_ids, coupon_streams, terms_of, unit_of
from ledger.work import Loaded, Work


def return_coupons(
    request: Request,
    order_id: str,
    *,
    coupon_ids: Sequence[str],
    reason: str,
    lines: Sequence[Mapping[str, Any]] = (),
) -> Work:
    """Undo the use of coupons after a refund, all or none, as each one's pinned return policy says.

    ``lines`` are ``[{"line_id", "discount_minor"}]``: only what these lines of the order carried is returned, or
    so much of it; without an amount, all that is left. An amount is for one coupon only. A coupon of which nothing is
    left on these lines gives back nothing; ``ReturnNotAllowed`` where that is so of all, and for a line that none of
    the coupons ever had. The coupon comes back with the return that completes the whole. One that this order returned
    whole before gives back nothing more; it is refused as ``NotUsed`` only where that is so of all. Answers each
    coupon's state and ``returned_minor``, which is 0 where the policy keeps it.
    """
    check_id("order_id", order_id)
    coupon_ids = checked_coupon_ids(coupon_ids)
    _check_lines(lines, coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        returned = {coupon.key for coupon in coupons if order_id in coupon.returned_orders}
        if len(returned) == len(coupons):
            returned = set()  # so that they say themselves why nothing is left to return
        given = [
            0
            if coupon.key in returned
            else coupon.return_(
                request, loaded.now, terms_of(loaded, coupon), order_id=order_id, reason=reason, lines=lines
            )
            for coupon in coupons
        ]
        states = [
            {"coupon_id": coupon.key, "state": coupon.state_at(loaded.now), "returned_minor": returned_minor}
            for coupon, returned_minor in zip(coupons, given, strict=True)
        ]
        unit = unit_of(request, {"order_id": order_id, "coupons": states}, *coupons)
        _check_known(order_id, lines, [event for coupon in coupons for event in loaded.streams[coupon.id]])
        if not unit.events:
            raise ReturnNotAllowed("nothing is left of these lines to return", order_id=order_id)
        return unit

    return Work(request, coupon_streams(coupon_ids), decide)


def _check_known(order_id: str, lines: Sequence[Mapping[str, Any]], history: Sequence[Event]) -> None:
    """Raise ``ReturnNotAllowed`` for a line that no use by the order has: a mistyped one would be lost unnoticed."""
    uses = (event for event in history if lines and isinstance(event, CouponSpent) and event.order_id == order_id)
    known = {part["line_id"] for use in uses for part in use.allocation}
    for index, line in enumerate(lines):
        if line["line_id"] not in known:
            raise ReturnNotAllowed(
                "no coupon of the return has this line",
                order_id=order_id,
                line_id=line["line_id"],
                field=f"lines.{index}.line_id",
            )


def _check_lines(lines: Sequence[Mapping[str, Any]], coupon_ids: Sequence[str]) -> None:
    if len(lines) > ALLOCATION_LIMIT:
        raise InvalidField(f"a return names at most {ALLOCATION_LIMIT} lines", field="lines")
    if len({line["line_id"] for line in lines}) != len(lines):
        raise InvalidField("a line is named twice", field="lines")
    for line in lines:
        check_id("line_id", line["line_id"])
        check_money("discount_minor", line.get("discount_minor"))
    if len(coupon_ids) > 1 and any(line.get("discount_minor") is not None for line in lines):
        raise InvalidField("an amount of a line is for one coupon", field="lines")
