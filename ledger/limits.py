"""Limits beside a batch's quantity and its users': under which keys the guards count them, and which refusal each is.

A guard's row is found by two texts, batch and owner. An id has no space around it (``check_id``), so a key that begins
with a space is nobody's id:

- owner ``" day 2026-11-22"``: coupons of the batch on one day of its zone; with a user id after it, those of the user
- owner ``" person <key>"``: coupons of the batch that one natural person got, whatever the user ids
- batch ``" points <merchant>"``, owner the receipt: the points of one receipt are exchanged once, whatever the batch
- batch ``" order <merchant>"``, owner the order: how often it used coupons, so that two uses at once see each other
- stock ``" budget <batch>"``: what the batch's coupons may be worth together, in minor units
"""

from __future__ import annotations

from datetime import date

from ledger.errors import (
    BudgetConflict,
    BudgetSpent,
    DayLimitReached,
    PersonLimitReached,
    PointsReceiptUsed,
    QuantityConflict,
    Refusal,
    SoldOut,
    UserDayLimitReached,
    UserLimitReached,
)

_BUDGET = " budget "
_POINTS = " points "
_ORDER = " order "
_DAY = " day "
_PERSON = " person "
_DAY_END = len(_DAY) + len("2026-11-22")


def budget_key(batch_id: str) -> str:
    """The stock from which the worth of a batch's coupons is taken."""
    return f"{_BUDGET}{batch_id}"


def day_key(day: date, user_id: str = "") -> str:
    """The owner of what is issued on one day, to everybody or to one user."""
    return f"{_DAY}{day.isoformat()} {user_id}".rstrip(" ")


def person_key(person: str) -> str:
    """The owner of what one natural person got, by its opaque key."""
    return f"{_PERSON}{person}"


def points_key(merchant_id: str) -> str:
    """What stands in the batch's place, so that a receipt is used once over all batches of the merchant."""
    return f"{_POINTS}{merchant_id}"


def uses_key(merchant_id: str, order_id: str) -> tuple[str, str]:
    """The share under which an order's uses of coupons are counted."""
    return f"{_ORDER}{merchant_id}", order_id


def counts_uses(counted_in: str) -> bool:
    """Whether a share counts an order's uses: without room, another came between, and the work is decided again."""
    return counted_in.startswith(_ORDER)


def share_refusal(batch_id: str | None, key: tuple[str, str]) -> Refusal:
    """The refusal when the guard of ``Unit.quota`` under this key has no room. ``batch_id`` is the issuing batch."""
    counted_in, owner = key
    if counted_in.startswith(_POINTS):
        return PointsReceiptUsed(batch_id=batch_id)
    if owner.startswith(_DAY):
        kind = DayLimitReached if len(owner) == _DAY_END else UserDayLimitReached
        return kind(batch_id=batch_id, day=owner[len(_DAY) : _DAY_END])
    if owner.startswith(_PERSON):
        return PersonLimitReached(batch_id=batch_id)
    return UserLimitReached(batch_id=batch_id)


def stock_refusal(batch_id: str | None, key: str) -> Refusal:
    """The refusal when the guard of ``Unit.stock`` under this key has too little left."""
    return BudgetSpent(batch_id=batch_id) if key.startswith(_BUDGET) else SoldOut(batch_id=batch_id)


def supply_refusal(key: str, taken: int | None) -> Refusal:
    """The refusal when ``Unit.supply`` would set less than is already ``taken``."""
    if key.startswith(_BUDGET):
        return BudgetConflict("coupons worth more than the target are already issued", budget_taken_minor=taken)
    return QuantityConflict("more coupons are already issued than the target", issued=taken)
