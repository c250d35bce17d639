"""GET /v1/coupons/{id}/qr.svg and .png."""

from __future__ import annotations

import io
import re
import struct
from xml.etree import ElementTree

import pytest
import segno

from ledger import till
from tests.http.conftest import CODE_KEYS


@pytest.fixture
def phone(as_role):
    return as_role("shopper-app")


@pytest.fixture
def coupon_id(shop):
    return shop.coupon()


def picture(text, kind):
    file = io.BytesIO()
    segno.make_qr(text, error="m").save(file, kind=kind, scale=8)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "media_type"), [("svg", "image/svg+xml"), ("png", "image/png")])
def test_shows_the_static_code(kind, media_type, phone, coupon_id, shop):
    response = phone.get(f"/v1/coupons/{coupon_id}/qr.{kind}", code="static", user_id="user-1").response
    assert response.status_code == 200
    assert response.content_type == media_type
    assert response.headers["Cache-Control"] == "no-store"
    assert response.data == picture(till.static_code(CODE_KEYS, shop.merchant_id, coupon_id, "user-1"), kind)


def test_shows_the_code_of_the_moment(phone, coupon_id, shop, ledger):
    before = ledger.store.now()
    response = phone.get(f"/v1/coupons/{coupon_id}/qr.png", headers={"Accept": "image/png"}, user_id="user-1").response
    moments = (before, ledger.store.now())
    codes = {till.till_code(CODE_KEYS, shop.merchant_id, coupon_id, "user-1", now).code for now in moments}
    assert response.data in [picture(code, "png") for code in codes]


def test_is_a_square_with_a_quiet_zone(phone, coupon_id):
    svg = phone.get(f"/v1/coupons/{coupon_id}/qr.svg", user_id="user-1").response.data
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    png = phone.get(f"/v1/coupons/{coupon_id}/qr.png", user_id="user-1").response.data
    width, height = struct.unpack(">II", png[16:24])
    assert width == height == int(root.get("width")) == 8 * (21 + 2 * 4)
    assert re.match(rb"\x89PNG", png)


def test_no_picture_of_what_is_not_there(phone, coupon_id, stranger):
    phone.get(f"/v1/coupons/{'0' * 26}/qr.svg", user_id="user-1").refused(404, "coupon_not_found")
    stranger("shopper-app").get(f"/v1/coupons/{coupon_id}/qr.png", user_id="user-1").refused(404, "coupon_not_found")
    phone.get(f"/v1/coupons/{coupon_id}/qr.png", code="other", user_id="user-1").refused(422, "invalid_field")
    phone.get(f"/v1/coupons/{coupon_id}/qr.png", headers={"Accept": "text/html"}, user_id="user-1").refused(
        406, "not_acceptable"
    )
