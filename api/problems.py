"""Everything that HTTP says no with: RFC 9457 problem documents, and the one table from refusals to statuses.

A refusal of the ledger keeps its code; what only HTTP can refuse is a class here, named and titled the same way.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from flask import Response, g, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from ledger import errors
from ledger.errors import LedgerError

logger = logging.getLogger("api")

RETRY_AFTER_SECONDS = 1
MEDIA_TYPE = "application/problem+json"


class RequestError(LedgerError):
    """The request is not one that this interface understands."""


class BadRequest(RequestError):
    """The request is malformed."""


class MalformedJson(RequestError):
    """The body is not the JSON that this interface accepts."""


class IdempotencyKeyRequired(RequestError):
    """A write needs an Idempotency-Key header."""


class IdempotencyKeyInvalid(RequestError):
    """An idempotency key is 1 to 255 printable ASCII characters without a space."""


class BadCursor(RequestError):
    """The cursor was not given out for this list and this caller."""


class Unauthenticated(RequestError):
    """The request needs a valid API key."""


class ForbiddenScope(RequestError):
    """The API key's role does not allow this."""


class MethodRefused(RequestError):
    """The method is not allowed here."""

    @classmethod
    def code(cls) -> str:
        """The code by which the method is known elsewhere."""
        return "method_not_allowed"


class NotAcceptable(RequestError):
    """Answers are application/json."""


class TooLarge(RequestError):
    """The body is too large."""


class UriTooLong(RequestError):
    """The address is too long."""


class UnsupportedMediaType(RequestError):
    """The body must be application/json in UTF-8."""


class RateLimited(RequestError):
    """Too many requests of one user, address or key came at once; wait before the next."""


class InternalError(RequestError):
    """Something went wrong here; it is logged under the request id."""


class NotReady(RequestError):
    """The service cannot do its work now."""


STATUSES: dict[type[LedgerError], int] = {
    LedgerError: 500,
    # The rules of the domain: a refusal is a conflict with the present state unless it says otherwise.
    errors.Refusal: 409,
    errors.NotFound: 404,
    errors.NotOwner: 404,
    errors.CouponExpired: 410,
    errors.CouponVoid: 410,
    errors.VersionConflict: 412,
    errors.TooManyMisses: 429,
    errors.InvalidInput: 422,
    errors.IdempotencyKeyReused: 422,
    errors.ServiceError: 503,
    # What only HTTP refuses.
    RequestError: 400,
    Unauthenticated: 401,
    ForbiddenScope: 403,
    MethodRefused: 405,
    NotAcceptable: 406,
    TooLarge: 413,
    UriTooLong: 414,
    UnsupportedMediaType: 415,
    RateLimited: 429,
    InternalError: 500,
    NotReady: 503,
}
"""The nearest class in a refusal's line of bases decides its status."""

BY_STATUS: dict[int, type[LedgerError]] = {
    404: errors.NotFound,
    405: MethodRefused,
    406: NotAcceptable,
    413: TooLarge,
    414: UriTooLong,
    415: UnsupportedMediaType,
}
"""What the framework's own refusals are called."""


def status_of(kind: type[LedgerError]) -> int:
    """The HTTP status of a refusal."""
    return next(STATUSES[base] for base in kind.__mro__ if base in STATUSES)


def kinds() -> dict[str, type[LedgerError]]:
    """Every refusal by its code."""

    def below(kind: type[LedgerError]) -> list[type[LedgerError]]:
        return [kind, *(found for sub in kind.__subclasses__() for found in below(sub))]

    return {kind.code(): kind for kind in below(LedgerError)}


def problem(error: LedgerError) -> Response:
    """The answer to a request that was refused."""
    if isinstance(error, errors.NotOwner):
        # A coupon of another user looks like one that does not exist, so that nobody learns of it by asking.
        error = errors.CouponNotFound(id=error.facts["coupon_id"])
    status = status_of(type(error))
    facts = dict(error.facts)
    body: dict[str, Any] = {
        "type": f"/problems/{error.code()}",
        "title": error.title(),
        "status": status,
        "detail": error.detail,
        "code": error.code(),
    }
    if field := facts.pop("field", None):
        body["errors"] = [{"pointer": pointer(str(field).split(".")), "code": error.code(), "detail": error.detail}]
    if "errors" in facts:
        body["errors"] = facts.pop("errors")
    if facts:
        body["facts"] = facts
    response = Response(orjson.dumps(body), status, content_type=MEDIA_TYPE)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="coupon-ledger"'
    if status in (429, 503):
        response.headers["Retry-After"] = str(facts.get("retry_after_seconds", RETRY_AFTER_SECONDS))
    return response


def pointer(path: list[Any] | tuple[Any, ...]) -> str:
    """A JSON pointer (RFC 6901) to a member of the body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def refuse_fields(error: ValidationError) -> Response:
    """Turn failed validation of a path, a query or a body into one refusal that names each field."""
    in_body = not error.title.endswith(("Path", "Query"))
    found = []
    for each in error.errors(include_url=False, include_input=False):
        context = each.get("ctx", {})
        path = [*each["loc"], *([context["field"]] if context.get("field") else [])]
        code = each["type"] if each["type"].startswith("invalid_") else errors.InvalidField.code()
        where = {"pointer": pointer(path)} if in_body else {"parameter": ".".join(map(str, path))}
        found.append({**where, "code": code, "detail": each["msg"]})
    codes = {each["code"] for each in found}
    kind = kinds().get(codes.pop(), errors.InvalidField) if len(codes) == 1 else errors.InvalidField
    raise kind(errors=found)


def on_ledger_error(error: LedgerError) -> Response:
    """Answer a refusal; what is a fault of ours is logged and told without detail."""
    if status_of(type(error)) == 500:
        return on_exception(error)
    return problem(error)


def on_http_exception(error: HTTPException) -> Response:
    """Answer a refusal of the framework itself."""
    status = error.code or 500
    if status >= 500:
        return on_exception(error)
    if status < 400:
        return Response(status=status, headers=error.get_headers())
    kind = BY_STATUS.get(status, BadRequest)
    detail = "" if isinstance(error, RequestEntityTooLarge) else error.description or ""
    response = problem(kind(detail))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def on_exception(error: Exception) -> Response:
    """Answer a fault of ours: nothing of it leaves this process but its place in the log."""
    request_id = g.get("http_request_id", "")
    logger.error("%s %s failed (request id %s)", request.method, request.path, request_id, exc_info=error)
    return problem(InternalError())
