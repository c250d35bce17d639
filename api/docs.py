"""The description of this interface, for machines and for people; everything comes from this server."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import orjson
from flask import Blueprint, Response, current_app, send_from_directory
from flask_openapi3.openapi import OpenAPI

from api.contract import document
from api.problems import kinds, status_of
from ledger.errors import NotFound

docs = Blueprint("docs", __name__)

_ASSETS = Path(str(resources.files("flask_openapi3_swagger"))) / "templates" / "swagger"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Coupon Ledger API</title>
<link rel="icon" href="/docs/assets/images/swagger.svg">
<link rel="stylesheet" href="/docs/assets/css/swagger-ui.css">
<style>body { margin: 0 }</style>
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/js/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
                  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout" })
</script>
</body>
</html>
"""

# The browser itself then refuses every other host.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"
)


@docs.get("/openapi.json")
def openapi_document() -> Response:
    """The description for machines (OpenAPI 3.1)."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    assert isinstance(app, OpenAPI)
    return Response(orjson.dumps(document(app)), content_type="application/json")


@docs.get("/docs")
def docs_page() -> Response:
    """The description for people."""
    return Response(_PAGE, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})


@docs.get("/docs/assets/<path:name>")
def docs_asset(name: str) -> Response:
    """A script, style or picture of the page."""
    return send_from_directory(_ASSETS, name)


@docs.get("/problems/<code>")
def problem_page(code: str) -> Response:
    """What the type of a problem stands for: its status, its title, and what more its class says."""
    kind = kinds().get(code)
    if kind is None:
        raise NotFound
    text = f"{code}\n\nStatus {status_of(kind)}\n\n{(kind.__doc__ or '').strip()}\n"
    return Response(text, content_type="text/plain; charset=utf-8")
