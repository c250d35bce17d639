"""Single coupons: their state now or at any past moment, their history; withdrawn, extended, given away, shared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import answers, contract, coupon_answers, cursors, problems
from api.access import operation_name
from api.coupon_bodies import ExtensionBody, ShareBody, TransferBody
from api.exchange import answer, command, expected_version, ledger, owned_history, perform
from api.wire import PAGE_DEFAULT, CouponPath, Cursor, Limit, Moment, Parameters, ReasonBody, Version
from ledger import errors, use_cases
from ledger.aggregate import text_of
from ledger.coupon import Coupon
from ledger.errors import CouponNotFound, InvalidField
from ledger.events import Recorded
from ledger.published import published
from ledger.work import fold

coupons = APIBlueprint(
    "coupons",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="coupons", description="One coupon of one user, now and at any past moment.")],
    operation_id_callback=operation_name,
)


class MomentQuery(Parameters):
    """Which past state is asked for; at most one of the two."""

    as_of: Moment | None = Field(None, description="The state at this business time, not in the future.")
    version: Version | None = Field(None, description="The state right after this event of the coupon's stream.")


class HistoryQuery(Parameters):
    """Which page of the history."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


@coupons.get(
    "/coupons/<coupon_id>", responses=contract.read(coupon_answers.Coupon, errors.CouponNotFound, errors.InvalidPeriod)
)
def get_coupon(path: CouponPath, query: MomentQuery) -> Response:
    """Read a coupon's state from its events: now, at a past time, or after one of its events."""
    history = owned_history("coupon", path.coupon_id, CouponNotFound)
    now = ledger().store.now()
    if query.as_of is not None and (query.version is not None or query.as_of > now):
        raise InvalidField(errors=[_MOMENT])
    moment = query.as_of or now
    if query.as_of is not None:
        history = list(takewhile(lambda recorded: recorded.event.occurred_at <= moment, history))
    elif query.version is not None:
        history = history[: query.version] if query.version <= len(history) else []
        moment = history[-1].event.occurred_at if history else now
    if not history:
        raise CouponNotFound(id=path.coupon_id)
    return answer(_shown(path.coupon_id, history, moment), version=len(history))


_MOMENT = {"parameter": "as_of", "code": InvalidField.code(), "detail": "not in the future, and not with a version"}


def _shown(coupon_id: str, history: Sequence[Recorded], moment: datetime) -> dict[str, Any]:
    coupon = fold(Coupon(f"coupon-{coupon_id}"), [recorded.event for recorded in history])
    state = coupon.state_at(moment)
    held, used = state == "LOCKED", coupon.redemption_id is not None
    return {
        "coupon_id": coupon_id,
        "batch_id": coupon.batch_id,
        "template_id": coupon.template_id,
        "template_version": coupon.template_version,
        "user_id": coupon.user_id,
        "state": state,
        "valid_from": text_of(coupon.valid_from),
        "valid_until": text_of(coupon.valid_until),
        "lock": {
            "order_id": coupon.order_id,
            "lock_id": coupon.lock_id,
            "lock_ends_at": text_of(coupon.lock_ends_at),
        }
        if held
        else None,
        "balance_minor": 0 if used and coupon.balance_minor is not None else coupon.balance_minor,
        "shared_with": list(coupon.shared_with),
        "redemption": {
            "order_id": coupon.used_order_id,
            "redemption_id": coupon.redemption_id,
            "discount_minor": coupon.discount_minor,
            "allocation": coupon.used.allocation if coupon.used else [],
        }
        if used
        else None,
        "version": coupon.version,
        "position": history[-1].position,
        "as_of": text_of(moment),
    }


@coupons.get(
    "/coupons/<coupon_id>/events",
    responses=contract.read(answers.CouponEvents, errors.CouponNotFound, problems.BadCursor),
)
def list_coupon_events(path: CouponPath, query: HistoryQuery) -> Response:
    """Read a coupon's whole history, oldest first."""
    name = f"coupon-{path.coupon_id} events"
    after = cursors.unseal(name, query.cursor)[0] if query.cursor else 0
    history = owned_history("coupon", path.coupon_id, CouponNotFound)
    page = history[after : after + query.limit]
    more = after + len(page) < len(history)
    found = {
        "coupon_id": path.coupon_id,
        "events": [published(recorded) for recorded in page],
        "next_cursor": cursors.seal(name, [after + len(page)]) if more else None,
    }
    return answer(found)


@coupons.post(
    "/coupons/<coupon_id>/void",
    responses=contract.write(
        200,
        coupon_answers.CouponInState,
        errors.CouponNotFound,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.VersionConflict,
    ),
)
def void_coupon(path: CouponPath, body: ReasonBody) -> Response:
    """Withdraw a coupon that is not used. A live lock ends with it."""
    work = use_cases.void(command(), path.coupon_id, reason=body.reason, expected_version=expected_version())
    return perform(work)


@coupons.post(
    "/coupons/<coupon_id>/extensions",
    responses=contract.write(
        200,
        coupon_answers.ExtendedCoupon,
        errors.CouponNotFound,
        errors.CouponLocked,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.VersionConflict,
        errors.InvalidPeriod,
    ),
)
def extend_coupon(path: CouponPath, body: ExtensionBody) -> Response:
    """Let an unused coupon be valid for longer. One that has expired stays so."""
    work = use_cases.extend(
        command(),
        path.coupon_id,
        valid_until=body.valid_until,
        reason=body.reason,
        expected_version=expected_version(),
    )
    return perform(work)


@coupons.post(
    "/coupons/<coupon_id>/transfers",
    responses=contract.write(
        200,
        coupon_answers.TransferredCoupon,
        errors.CouponNotFound,
        errors.CouponLocked,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.NotTransferable,
        errors.VersionConflict,
    ),
)
def transfer_coupon(path: CouponPath, body: TransferBody) -> Response:
    """Give a coupon to another user, where its terms allow that. It ends the sharing; nobody may hold the coupon.

    The receiver's limits are not charged, for they count what a user is issued.
    """
    work = use_cases.transfer(
        command(),
        path.coupon_id,
        user_id=body.user_id,
        to_user_id=body.to_user_id,
        expected_version=expected_version(),
    )
    return perform(work)


@coupons.post(
    "/coupons/<coupon_id>/shares",
    responses=contract.write(
        200,
        coupon_answers.SharedCoupon,
        errors.CouponNotFound,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.NotShareable,
        errors.VersionConflict,
    ),
)
def share_coupon(path: CouponPath, body: ShareBody) -> Response:
    """Let friends use a coupon too, where its terms allow that; the first to lock it holds it.

    The list takes the place of the one before; an empty one ends the sharing.
    """
    work = use_cases.share(
        command(),
        path.coupon_id,
        user_id=body.user_id,
        with_user_ids=body.with_user_ids,
        expected_version=expected_version(),
    )
    return perform(work)
