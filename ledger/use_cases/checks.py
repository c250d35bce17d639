"""What the use cases share: the checks of what callers ask, and the unit made of what aggregates decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.aggregate import Aggregate
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.commit import Unit
from ledger.coupon import Coupon
from ledger.errors import InvalidField, VersionConflict
from ledger.request import Request
from ledger.terms import Terms
from ledger.work import Loaded

ORDER_COUPON_LIMIT = 100
"""Coupons that one command may name."""
ID_LIMIT = 128
"""Characters of a caller's id: user, order, line."""
REASON_LIMIT = 200


def check_id(field: str, value: str) -> None:
    """Raise ``InvalidField`` unless it is 1 to 128 printable characters without surrounding space."""
    if not 1 <= len(value) <= ID_LIMIT or not value.isprintable() or value != value.strip():
        raise InvalidField(f"{field} is 1 to {ID_LIMIT} printable characters", field=field)


def unit_of(request: Request, answer: dict[str, Any], *aggregates: Aggregate) -> Unit:
    """What these aggregates decided, to be committed together, and the answer that a repeat of the request gets."""
    return Unit([event for aggregate in aggregates for event in aggregate.collect_events()], request, answer)


def terms_of(loaded: Loaded, coupon: Coupon) -> Terms:
    """The terms that the coupon pinned."""
    return loaded.terms(coupon.template_id, coupon.template_version)


def held(unit: Unit, loaded: Loaded, coupons: Sequence[Coupon]) -> Unit:
    """The unit, counting these locks where the terms limit how many one user may hold at once."""
    for coupon in coupons:
        most = terms_of(loaded, coupon).live_locks_per_user
        if most is not None and coupon.locked is not None and coupon.lock_ends_at is not None:
            owner = f"{coupon.merchant_id} {coupon.template_id} {coupon.locked.holder_id}"
            unit.holds[coupon.key] = (owner, coupon.lock_ends_at, most)
    return unit


def released(unit: Unit, loaded: Loaded, coupons: Sequence[Coupon]) -> Unit:
    """The unit, letting go of what ``held`` counted."""
    if released := [coupon.key for coupon in coupons if terms_of(loaded, coupon).live_locks_per_user is not None]:
        unit.releases = released
    return unit


def coupon_streams(coupon_ids: Sequence[str]) -> tuple[str, ...]:
    """The streams of these coupons, in the same order."""
    return tuple(f"coupon-{id}" for id in coupon_ids)


def checked_coupon_ids(coupon_ids: Sequence[str]) -> list[str]:
    """The ids, sorted. Raises ``InvalidField`` unless they are 1 to 100 valid ids and no two the same."""
    if not 1 <= len(coupon_ids) <= ORDER_COUPON_LIMIT:
        raise InvalidField(f"1 to {ORDER_COUPON_LIMIT} coupons are named", field="coupon_ids")
    if len(set(coupon_ids)) != len(coupon_ids):
        raise InvalidField("a coupon is named twice", field="coupon_ids")
    for id in coupon_ids:
        check_id("coupon_id", id)
    return sorted(coupon_ids)


def check_money(field: str, value: int | None) -> None:
    """Raise ``InvalidField`` unless it is a whole number of minor units from 0 to below 10^12, or ``None``."""
    if value is not None and not (type(value) is int and 0 <= value < MONEY_LIMIT_MINOR):
        raise InvalidField(f"{field} is a whole number from 0 to below 10^12", field=field)


def check_reason(reason: str) -> None:
    """Raise ``InvalidField`` unless it is 1 to 200 printable characters."""
    if not 1 <= len(reason) <= REASON_LIMIT or not reason.isprintable():
        raise InvalidField(f"reason is 1 to {REASON_LIMIT} printable characters", field="reason")


def check_version(aggregate: Aggregate, expected: int | None) -> None:
    """Raise ``VersionConflict`` unless the stream is at the expected version; ``None`` expects nothing."""
    if expected not in (None, aggregate.version):
        raise VersionConflict(expected=expected, version=aggregate.version)
