"""The description of this interface (OpenAPI 3.1): what routes declare, and what all of them share."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from api import problems
from api.access import ASKING
from api.problems import status_of
from api.throttle import THROTTLED
from ledger import errors
from ledger.errors import LedgerError

HEAR_OF_ALL: tuple[type[LedgerError], ...] = (
    problems.BadRequest,
    problems.Unauthenticated,
    problems.ForbiddenScope,
    problems.NotAcceptable,
    problems.UriTooLong,
    problems.RateLimited,
    errors.InvalidField,
    problems.InternalError,
    errors.Unavailable,
)
HEAR_OF_WRITES: tuple[type[LedgerError], ...] = (
    problems.MalformedJson,
    problems.IdempotencyKeyRequired,
    problems.IdempotencyKeyInvalid,
    problems.TooLarge,
    problems.UnsupportedMediaType,
    errors.IdempotencyKeyReused,
    errors.QueueFull,
    errors.OutcomeUnknown,
)

Responses = dict[Any, Any]


def read(model: type[BaseModel], *refusals: type[LedgerError]) -> Responses:
    """What a reading route may answer."""
    return {200: model} | _declared(*HEAR_OF_ALL, *refusals)


def file(media_type: str, *refusals: type[LedgerError]) -> Responses:
    """What a route may answer that reads something else than JSON."""
    is_text = media_type.startswith("text/") or media_type.endswith("+xml")
    kind = {"type": "string"} if is_text else {"type": "string", "format": "binary"}
    return {200: {"content": {media_type: {"schema": kind}}}} | _declared(*HEAR_OF_ALL, *refusals)


def figures_csv(*refusals: type[LedgerError]) -> Responses:
    """What a route may answer that reads a read model as CSV, which tells in a header how new it is."""
    responses = file("text/csv", *refusals)
    responses[200]["headers"] = {"Ledger-Position": {"$ref": "#/components/headers/Ledger-Position"}}
    return responses


def write(status: int, model: type[BaseModel], *refusals: type[LedgerError]) -> Responses:
    """What a writing route may answer."""
    return {status: model} | _declared(*HEAR_OF_ALL, *HEAR_OF_WRITES, *refusals)


def public(model: type[BaseModel], *refusals: type[LedgerError]) -> Responses:
    """What a route without a key may answer."""
    return {200: model} | _declared(problems.InternalError, *refusals)


def _declared(*refusals: type[LedgerError]) -> Responses:
    by_status: dict[int, list[type[LedgerError]]] = defaultdict(list)
    for refusal in refusals:
        by_status[status_of(refusal)].append(refusal)
    return {
        status: {
            "description": "\n".join(f"- `{kind.code()}`: {kind.title()}." for kind in kinds),
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, kinds in by_status.items()
    }


# --- what every operation shares, added to the document once --------------------------------------------


def _header(name: str, description: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
    }


IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "The caller's own name for this write, unique within the merchant: 1 to 255 printable ASCII characters without a"
    " space, bare or as a quoted string. The same key with the same method, path and body has one effect and one"
    " answer, for ever; with others it is refused.",
    required=True,
    pattern=r'^(?:[!#-~][!-~]{0,254}|"(?:[!#-\[\]-~]|\\["\\]){1,255}")$',
)
IF_MATCH = _header(
    "If-Match",
    "The ETag that the object must still have, or `*`. Refused with 412 when somebody changed it meanwhile.",
    pattern=r'^(?:\*|(?:W/)?"[!#-~]*")$',
)
HEADERS = {
    "X-Request-Id": "The caller's own, or one made here; it is in the logs.",
    "ETag": "The object's version, in quotes.",
    "Location": "Where the new object is.",
    "Ledger-Position": "The position of the last event of this write; pass it as `at_least` to read models. Of a read"
    " model as CSV, the position that its rows show at least.",
    "Idempotent-Replayed": "`true` when the same request had its effect before.",
    "Retry-After": "Seconds after which the same request, with the same key, may be sent again.",
    "RateLimit-Policy": "The limits that were looked at, as draft-ietf-httpapi-ratelimit-headers has them: how many"
    " requests at once (`q`), and the seconds in which they come back (`w`).",
    "RateLimit": "How many more requests each limit lets through now (`r`), and after how many seconds all of them are"
    " there again (`t`); with 429, after how many the next one is.",
    "WWW-Authenticate": "Bearer.",
}


def document(app: OpenAPI) -> dict[str, Any]:
    """The whole description: the routes as they declare themselves, with the headers that all of them share."""
    spec: dict[str, Any] = _tidied(app.api_doc)
    components = spec["components"]
    components["headers"] = {
        name: {"description": description, "schema": {"type": "string"}} for name, description in HEADERS.items()
    }
    for schema in components["schemas"].values():
        schema.pop("$defs", None)  # they are components of their own
    for item in spec["paths"].values():
        for method, operation in item.items():
            writes = method == "post" and operation["operationId"] not in ASKING
            _complete(operation, writes, components["schemas"])
    return spec


def _tidied(value: Any) -> Any:
    """A copy in which whole bounds are whole numbers again, which the library keeps as floats."""
    if isinstance(value, dict):
        return {name: _tidied(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_tidied(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_RATE_LIMIT = ("RateLimit-Policy", "RateLimit")
_HEADERS_OF = {
    "201": ("Location",),
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After", *_RATE_LIMIT),
    "503": ("Retry-After",),
}


def _complete(operation: dict[str, Any], writes: bool, schemas: dict[str, Any]) -> None:
    responses = operation["responses"] = dict(sorted(operation["responses"].items()))
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        # A parameter that may be left out is absent, never null; in an address null is the text of four letters.
        schema = parameter["schema"]
        if "anyOf" in schema:
            schema |= schema.pop("anyOf")[0]
            del schema["default"]
    if "401" in responses:
        operation["security"] = [{"bearer": []}]
    if writes:
        parameters.append(IDEMPOTENCY_KEY)
    if "412" in responses:
        parameters.append(IF_MATCH)
    for status, response in responses.items():
        names = [*_HEADERS_OF.get(status, ())]
        if status == "201" and operation["operationId"] in THROTTLED:
            names += _RATE_LIMIT
        if status in ("200", "201") and "application/json" in response["content"]:
            reference = response["content"]["application/json"]["schema"]["$ref"]
            names += ["ETag"] if "version" in schemas[reference.rpartition("/")[2]]["properties"] else []
            names += ["Ledger-Position", "Idempotent-Replayed"] if writes else []
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in ["X-Request-Id", *names]}
        response["headers"] = headers | response.get("headers", {})
