"""The shop's till: the code that a shopper's app shows, as text and as a picture, and its use."""

from __future__ import annotations

import io
from datetime import datetime

import segno
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import contract, coupon_answers
from api.access import caller, operation_name
from api.code_bodies import ShownCodeQuery, TillBody, TillCode, TillCodeQuery
from api.codes import code_keys, command_with_code
from api.exchange import answer, answer_receipt, ledger, owned_history
from api.wire import CouponPath
from ledger import errors, till
from ledger.aggregate import text_of
from ledger.code_jobs import check_keys
from ledger.codes import shown
from ledger.coupon import Coupon
from ledger.errors import CouponNotFound
from ledger.typed_codes import use_at_till
from ledger.work import fold

redemptions = APIBlueprint(
    "redemptions",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="redemptions", description="Coupons used in a shop, by a code that is shown or typed.")],
    operation_id_callback=operation_name,
)

PIXELS = 8
"""Of a module, the smallest square of the picture: it can be scanned from a screen at arm's length."""


@redemptions.get("/coupons/<coupon_id>/till-code", responses=contract.read(TillCode, errors.CouponNotFound))
def get_till_code(path: CouponPath, query: TillCodeQuery) -> Response:
    """Read the codes that the shopper's app shows a user at a till. Whether the coupon may be used, the till hears.

    They end when the user gives the coupon away, or is no longer among those with whom it is shared.
    """
    now = _known(path.coupon_id, query.user_id)
    whose = (code_keys(), caller().merchant_id, path.coupon_id, query.user_id)
    made = till.till_code(*whose, now)
    found = {
        "coupon_id": path.coupon_id,
        "code": shown(made.code),
        "changes_at": text_of(made.changes_at),
        "static_code": shown(till.static_code(*whose)),
    }
    return answer(found)


@redemptions.get("/coupons/<coupon_id>/qr.svg", responses=contract.file("image/svg+xml", errors.CouponNotFound))
def get_coupon_qr_svg(path: CouponPath, query: ShownCodeQuery) -> Response:
    """Draw the till code as a QR code, for screens and paper of any size."""
    return _picture(path.coupon_id, query, "svg", "image/svg+xml")


@redemptions.get("/coupons/<coupon_id>/qr.png", responses=contract.file("image/png", errors.CouponNotFound))
def get_coupon_qr_png(path: CouponPath, query: ShownCodeQuery) -> Response:
    """Draw the till code as a QR code, in pixels."""
    return _picture(path.coupon_id, query, "png", "image/png")


@redemptions.post(
    "/redemptions",
    responses=contract.write(
        200,
        coupon_answers.Redemptions,
        errors.RedemptionCodeInvalid,
        errors.TooManyMisses,
        errors.CouponNotStarted,
        errors.CouponLocked,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.NotApplicable,
        errors.BelowMinSpend,
        errors.OutOfHours,
        errors.OutOfScope,
        errors.ExclusiveConflict,
    ),
)
def redeem_in_store(body: TillBody) -> Response:
    """Use the coupon whose code was scanned or typed, by the user who showed it: held and spent at once.

    With a basket the ledger prices the coupon on it. Without one the till says what comes off, and only what can be
    told from the total, the channel and the products of the allocation is judged.
    """
    receipt = use_at_till(
        ledger(),
        code_keys(),
        command_with_code(),
        body.code,
        body.order_id,
        coupon_id=body.coupon_id,
        discount_minor=body.discount_minor,
        user_id=body.user_id,
        order_total_minor=body.order_total_minor,
        allocation=body.parts(),
        basket=body.basket.to_basket() if body.basket else None,
    )
    return answer_receipt(receipt)


def _known(coupon_id: str, user_id: str) -> datetime:
    """The time, once the coupon is known to be the caller's, and the user's to show. Raises ``CouponNotFound``."""
    check_keys(code_keys())
    history = owned_history("coupon", coupon_id, CouponNotFound)
    fold(Coupon(f"coupon-{coupon_id}"), [recorded.event for recorded in history]).check_holder(user_id)
    if not till.has_handle(coupon_id):
        raise CouponNotFound(id=coupon_id)
    return ledger().store.now()


def _picture(coupon_id: str, query: ShownCodeQuery, kind: str, media_type: str) -> Response:
    now = _known(coupon_id, query.user_id)
    whose = (code_keys(), caller().merchant_id, coupon_id, query.user_id)
    text = till.static_code(*whose) if query.code == "static" else till.till_code(*whose, now).code
    file = io.BytesIO()
    segno.make_qr(text, error="m").save(file, kind=kind, scale=PIXELS)
    return Response(file.getvalue(), content_type=media_type)
