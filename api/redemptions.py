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
from api.code_bodies import ShownCodeQuery, TillBody, TillCode
from api.codes import code_keys, command_with_code
from api.exchange import answer, answer_receipt, ledger, owned_history
from api.wire import CouponPath, NoQuery
from ledger import errors, till
from ledger.aggregate import text_of
from ledger.code_jobs import check_keys
from ledger.codes import shown
from ledger.errors import CouponNotFound
from ledger.typed_codes import use_at_till

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
def get_till_code(path: CouponPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read the codes that the shopper's app shows at a till. Whether the coupon may be used, the till hears."""
    now = _known(path.coupon_id)
    merchant_id = caller().merchant_id
    made = till.till_code(code_keys(), merchant_id, path.coupon_id, now)
    found = {
        "coupon_id": path.coupon_id,
        "code": shown(made.code),
        "changes_at": text_of(made.changes_at),
        "static_code": shown(till.static_code(code_keys(), merchant_id, path.coupon_id)),
    }
    return answer(found)


@redemptions.get("/coupons/<coupon_id>/qr.svg", responses=contract.file("image/svg+xml", errors.CouponNotFound))
def get_coupon_qr_svg(path: CouponPath, query: ShownCodeQuery) -> Response:
    """Draw the till code as a QR code, for screens and paper of any size."""
    return _picture(path.coupon_id, query.code, "svg", "image/svg+xml")


@redemptions.get("/coupons/<coupon_id>/qr.png", responses=contract.file("image/png", errors.CouponNotFound))
def get_coupon_qr_png(path: CouponPath, query: ShownCodeQuery) -> Response:
    """Draw the till code as a QR code, in pixels."""
    return _picture(path.coupon_id, query.code, "png", "image/png")


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
    ),
)
def redeem_in_store(body: TillBody) -> Response:
    """Use the coupon whose code was scanned or typed: held and spent at once.

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


def _known(coupon_id: str) -> datetime:
    """The time, once the coupon is known to be the caller's. Raises ``CouponNotFound``."""
    check_keys(code_keys())
    owned_history("coupon", coupon_id, CouponNotFound)
    if not till.has_handle(coupon_id):
        raise CouponNotFound(id=coupon_id)
    return ledger().store.now()


def _picture(coupon_id: str, which: str, kind: str, media_type: str) -> Response:
    now = _known(coupon_id)
    merchant_id = caller().merchant_id
    if which == "static":
        text = till.static_code(code_keys(), merchant_id, coupon_id)
    else:
        text = till.till_code(code_keys(), merchant_id, coupon_id, now).code
    file = io.BytesIO()
    segno.make_qr(text, error="m").save(file, kind=kind, scale=PIXELS)
    return Response(file.getvalue(), content_type=media_type)
