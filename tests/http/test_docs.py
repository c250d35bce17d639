"""GET /openapi.json and GET /docs."""

from __future__ import annotations

import re


def test_the_page_is_served_by_us_alone(nobody):
    page = nobody.get("/docs")
    assert page.response.mimetype == "text/html"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    addresses = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.response.text)
    assert len(addresses) == 4
    for address in addresses:
        assert address.startswith("/")
        assert not address.startswith("//")
        asset = nobody.get(address)
        assert asset.status == 200
        assert asset.response.data
        asset.response.close()


def test_an_asset_stays_in_its_folder(nobody):
    for name in ("nothing.js", "../__init__.py", "%2e%2e/__init__.py", "css/../../__init__.py"):
        nobody.get(f"/docs/assets/{name}").refused(404, "not_found")


def test_the_description_is_public_json(nobody):
    answer = nobody.get("/openapi.json")
    assert answer.ok()["openapi"] == "3.1.0"
