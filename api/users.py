"""Users: what is in a wallet."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import answers, contract, coupon_answers, cursors, problems, statistics_answers
from api.access import caller, operation_name
from api.exchange import answer, caught_up, ledger
from api.wire import PAGE_DEFAULT, AtLeastQuery, Cursor, Id, Limit, Moment, UserPath
from ledger import errors
from ledger.aggregate import text_of
from projections import queries, statistics

users = APIBlueprint(
    "users",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="users", description="What a user has.")],
    operation_id_callback=operation_name,
)


class WalletQuery(AtLeastQuery):
    """Which page of the wallet, and how new."""

    state: answers.CouponState | None = Field(None, description="Only coupons in this state.")
    batch_id: Id | None = Field(None, description="Only coupons of this batch.")
    ends_before: Moment | None = Field(None, description="Only coupons whose validity ends before this time.")
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


@users.get(
    "/users/<callers_id:user_id>/coupons",
    responses=contract.read(coupon_answers.Wallet, problems.BadCursor, errors.NotCaughtUp),
)
def list_user_coupons(path: UserPath, query: WalletQuery) -> Response:
    """Read a user's coupons, and those that friends share with the user, the soonest to expire first.

    Whom the ledger does not know has none.
    """
    name = f"user {path.user_id} coupons {query.state} {query.batch_id} {query.ends_before}"
    store = ledger().store
    after = queries.START
    if query.cursor:
        valid_until, coupon_id = cursors.unseal(name, query.cursor)
        after = datetime.fromisoformat(valid_until), coupon_id
    position = caught_up(query.at_least, "wallet", "shared_coupons", "coupon_status")
    states = [query.state] if query.state else queries.STATES
    with store.connection() as connection:
        page = queries.wallet(
            connection,
            caller().merchant_id,
            path.user_id,
            store.now(),
            states=states,
            batch_id=query.batch_id,
            ends_before=query.ends_before,
            after=after,
            limit=query.limit,
        )
    found = {
        "user_id": path.user_id,
        "coupons": [_shown(coupon) for coupon in page.coupons],
        "next_cursor": cursors.seal(name, list(page.next)) if page.next else None,
        "position": position,
    }
    return answer(found)


@users.get(
    "/users/<callers_id:user_id>/coupons/summary",
    responses=contract.read(statistics_answers.WalletSummary, errors.NotCaughtUp),
)
def get_user_coupon_summary(path: UserPath, query: AtLeastQuery) -> Response:
    """Count a user's coupons, and those that friends share with the user, by state; and what the usable are worth.

    Whom the ledger does not know has none.
    """
    store = ledger().store
    position = caught_up(query.at_least, "wallet", "shared_coupons", "coupon_status", "batch_balance")
    now = store.now()
    with store.connection() as connection:
        held = statistics.wallet_summary(connection, caller().merchant_id, path.user_id, now)
    counts = dict.fromkeys(queries.STATES, 0)
    for row in held:
        counts[row.state] += row.coupons
    usable = [row for row in held if row.state == "UNUSED" and row.currency is not None]
    found = {
        "user_id": path.user_id,
        "counts": counts,
        "usable": [
            {
                "currency": row.currency,
                "coupons": row.coupons,
                "worth_minor": row.worth_minor,
                "not_valued": row.not_valued,
            }
            for row in usable
        ],
        "next_expiry": text_of(min((row.first_ends_at for row in usable), default=None)),
        "position": position,
        "as_of": text_of(now),
    }
    return answer(found)


def _shown(coupon: queries.WalletRow) -> dict[str, Any]:
    return {
        "coupon_id": coupon.coupon_id,
        "batch_id": coupon.batch_id,
        "template_id": coupon.template_id,
        "template_version": coupon.template_version,
        "state": coupon.state,
        "valid_from": text_of(coupon.valid_from),
        "valid_until": text_of(coupon.valid_until),
        "order_id": coupon.order_id,
        "holder_id": coupon.holder_id,
        "balance_minor": coupon.balance_minor,
        "shared_by": coupon.shared_by,
        "version": coupon.version,
    }
