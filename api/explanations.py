"""For auditors: why something was refused, found out from the log by deciding on it again."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import contract, problems
from api.access import caller, operation_name
from api.exchange import answer, ledger
from api.explanation_bodies import Explanation, ExplanationBody
from ledger import errors
from ledger.aggregate import text_of
from ledger.errors import CouponNotFound, NotOwner, Refusal
from ledger.history import explaining
from ledger.history.batches import EVENT_LIMIT
from ledger.history.moment import Connection, Cut, moment
from ledger.published import published
from ledger.request import Request
from ledger.store import Store
from projections.timelines import user_streams

explanations = APIBlueprint(
    "explanations",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="audit", description="What was, what was known, and why.")],
    operation_id_callback=operation_name,
)

NO_KEY = " explanation"
"""In the place of a request id that nobody told: it begins with a space, so it is none that a request can have."""
OUTSIDE_THE_LOG = "the log has no part in {code}: it is said before the ledger decides, or because it could not"


@explanations.post(
    "/audit/explanations",
    responses=contract.read(
        Explanation,
        problems.MalformedJson,
        problems.TooLarge,
        problems.UnsupportedMediaType,
        errors.NotCaughtUp,
    ),
)
def explain_refusal(body: ExplanationBody) -> Response:
    """Decide again on what an order system sent, on the log as it was and with the clock of then.

    Nothing is written. Limits are counted again from the events; what cannot be found out is named as unknown.
    """
    store = ledger().store
    with store.connection() as connection:
        found = explained(store, connection, caller().merchant_id, body, EVENT_LIMIT)
    return answer(found)


def explained(
    store: Store, connection: Connection, merchant_id: str, body: ExplanationBody, limit: int | None
) -> dict[str, Any]:
    """The answer, with batches counted whose coupons have at most ``limit`` events.

    Raises ``InvalidField`` for a moment that lies ahead.
    """
    then = moment(connection, at=body.at, position=body.position)
    cut = Cut(then.at, then.known.position)
    request = Request(merchant_id, "auditor", body.request_id or NO_KEY, at=body.occurred_at)
    try:
        work = body.asked().work(request)
    except Refusal as refusal:  # a contradiction in itself: no log could change it
        found = explaining.Explanation(refusal=refusal)
    else:

        def streams_of(user_id: str) -> list[str]:
            return user_streams(connection, merchant_id, user_id, cut.position)

        found = explaining.explain(store, connection, work, cut, streams_of, limit)
    return _shown(found, body, cut)


def _shown(found: explaining.Explanation, body: ExplanationBody, cut: Cut) -> dict[str, Any]:
    refusal, unknown = found.refusal, list(found.unknown)
    code = refusal.code() if refusal else None
    told_as = CouponNotFound.code() if isinstance(refusal, NotOwner) else code
    undecided = refusal is None and bool(unknown)
    agrees: bool | None = None
    if body.code is not None:
        kind = problems.kinds().get(body.code)
        if kind is None or not issubclass(kind, Refusal):
            unknown.append(OUTSIDE_THE_LOG.format(code=body.code))
        elif not undecided:
            agrees = body.code in (code, told_as)
    return {
        "refused": None if undecided and found.replayed_position is None else refusal is not None,
        "code": code,
        "told_as": told_as,
        "title": refusal.title() if refusal else None,
        "detail": refusal.detail if refusal else None,
        "facts": refusal.facts if refusal else {},
        "agrees": agrees,
        "answer": found.answer,
        "replayed_position": found.replayed_position,
        "clock": text_of(body.occurred_at or cut.at),
        "position": cut.position,
        "terms": found.terms,
        "because": [published(recorded) for recorded in found.because],
        "unknown": unknown,
    }
