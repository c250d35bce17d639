"""What an order held and used at a moment, and what a user had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.events import Recorded
from ledger.history.coupons import coupon_state, folded
from ledger.history.moment import Connection, Cut, Moment
from ledger.history.past import Past
from ledger.request import Request
from ledger.store import Store
from ledger.use_cases import order_coupons
from ledger.work import Receipt

COUPON_FIELDS = ("batch_id", "template_id", "template_version", "state", "valid_from", "valid_until", "balance_minor",
                 "version", "position")  # fmt: skip
"""What is shown of a coupon in a wallet of the past; all of it is in the state of the coupon itself."""


def order_moment(
    store: Store, connection: Connection, merchant_id: str, order_id: str, moment: Moment
) -> dict[str, Any]:
    """What the order held and had used, as the log knew it and as it was, each as ``use_cases.order_coupons`` has it.

    Raises ``InvalidField`` for what is no order's id.
    """
    cuts = (("known", moment.known), ("true", moment.true))
    return {name: order_view(store, connection, merchant_id, order_id, cut) for name, cut in cuts}


def order_view(store: Store, connection: Connection, merchant_id: str, order_id: str, cut: Cut) -> list[dict[str, Any]]:
    """What the order held and had used, by the events that count."""
    work = order_coupons(Request(merchant_id, "history", " history"), order_id)
    decided = work.decide(Past(store, connection, cut).loaded(work))
    assert isinstance(decided, Receipt)
    coupons: list[dict[str, Any]] = decided.answer["coupons"]
    return coupons


def user_moment(histories: Mapping[str, Sequence[Recorded]], user_id: str, moment: Moment) -> dict[str, Any]:
    """Which of these coupons the user owned or could use as a friend, as the log knew it and as it was, by id."""
    cuts = (("known", moment.known), ("true", moment.true))
    return {name: user_view(histories, user_id, cut) for name, cut in cuts}


def user_view(histories: Mapping[str, Sequence[Recorded]], user_id: str, cut: Cut) -> list[dict[str, Any]]:
    """The same by the events that count."""
    return [
        found
        for stream, history in sorted(histories.items())
        if (found := _in_wallet(stream, cut.of(history), user_id, cut))
    ]


def _in_wallet(stream: str, history: Sequence[Recorded], user_id: str, cut: Cut) -> dict[str, Any] | None:
    if not history:
        return None
    coupon = folded(history)
    owned, shared = coupon.user_id == user_id, user_id in coupon.shared_with
    # A friend's live lock outlasts the end of the sharing.
    held = coupon.state_at(cut.at) == "LOCKED" and coupon.locked is not None and coupon.locked.holder_id == user_id
    if not (owned or shared or held):
        return None
    state = coupon_state(history, cut)
    assert state is not None
    return {
        "coupon_id": stream.removeprefix("coupon-"),
        **{name: state[name] for name in COUPON_FIELDS},
        "order_id": state["lock"]["order_id"] if state["lock"] else (state["redemption"] or {}).get("order_id"),
        "shared_by": None if owned else coupon.user_id,
    }
