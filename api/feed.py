"""The feed: the merchant's part of the log in the order of positions, for machines that follow it."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import answers, contract
from api.access import caller, operation_name
from api.exchange import answer, ledger
from api.wire import PAGE_DEFAULT, Limit, Parameters, Position
from ledger.published import published

CHUNK_EVENTS = 500
SCAN_EVENTS = 10_000
"""Events of other merchants that one page passes over at most; then it ends early and says so."""

feed = APIBlueprint(
    "feed",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="events", description="Every fact, in the order of the log.")],
    operation_id_callback=operation_name,
)


class FeedQuery(Parameters):
    """Where to go on."""

    after: Position = Field(0, description="The `next` of the page before; 0 for the beginning.")
    limit: Limit = PAGE_DEFAULT


@feed.get("/events", responses=contract.read(answers.EventPage))
def list_events(query: FeedQuery) -> Response:
    """Follow the log. The order of positions is the order of commits, so nothing appears before `next` later on."""
    mine, store = caller().merchant_id, ledger().store
    found: list[dict[str, Any]] = []
    place, passed, ended = query.after, 0, False
    with store.connection() as connection:
        while not ended and len(found) < query.limit and passed < SCAN_EVENTS:
            seen = 0
            for recorded in store.read(connection, place, CHUNK_EVENTS):
                if len(found) == query.limit:
                    break
                seen, place = seen + 1, recorded.position
                if recorded.event.merchant_id == mine:
                    found.append(published(recorded))
            passed += seen
            ended = seen < CHUNK_EVENTS
    return answer({"events": found, "next": place, "more": len(found) == query.limit or not ended})
