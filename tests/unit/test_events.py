"""The catalogue and the mapper: what an event is, and how it becomes a row and comes back."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from eventsourcing.persistence import JSONTranscoder, Notification, StoredEvent
from hypothesis import given
from hypothesis import strategies as st

from ledger.batch import Batch
from ledger.coupon import Coupon
from ledger.errors import ForeignEvent
from ledger.events import EVENTS, BatchPaused, BatchStarted, CouponIssued, Event, TemplateCreated
from ledger.mapper import EventMapper
from ledger.request import Request
from tests.unit.coupon_stories import use
from tests.unit.specs import T0, issued

MAPPER = EventMapper(JSONTranscoder())
PAUSED = BatchPaused(
    originator_id="batch-b",
    originator_version=3,
    merchant_id="m",
    actor="test",
    request_id="r",
    occurred_at=T0,
    reason="stock",
)


def test_a_topic_has_one_event() -> None:
    with pytest.raises(TypeError, match="taken by BatchPaused"):
        type("Again", (Event,), {}, topic="batch.paused")
    assert EVENTS["batch.paused"] is BatchPaused


def test_topics_say_what_happened_and_never_where_the_code_is() -> None:
    for topic, kind in EVENTS.items():
        noun, fact = topic.split(".")
        assert kind.__name__.lower() == noun + fact.replace("_", "")


def test_time_fields_are_those_that_hold_times() -> None:
    for kind in EVENTS.values():
        assert set(kind.time_fields) == {f.name for f in fields(kind) if f.type in ("datetime", "datetime | None")}
    assert CouponIssued.time_fields == ("occurred_at", "valid_from", "valid_until")


@pytest.mark.parametrize("version", [1, 3])
def test_an_event_only_follows_the_one_before_it(version: int) -> None:
    coupon = Coupon("coupon-c")
    issued(coupon="c").event(1).mutate(coupon)
    with pytest.raises(ValueError, match="does not follow"):
        replace(use().event(version), originator_id="coupon-c").mutate(coupon)
    assert (coupon.version, coupon.redemption_id) == (1, None)


def test_an_event_of_another_stream_is_not_folded() -> None:
    with pytest.raises(ValueError, match="coupon-d v1 does not follow coupon-c v0"):
        issued(coupon="d").event(1).mutate(Coupon("coupon-c"))


def test_a_row_holds_what_has_no_column_of_its_own() -> None:
    row = MAPPER.to_stored_event(PAUSED)
    assert (row.originator_id, row.originator_version, row.topic) == ("batch-b", 3, "batch.paused")
    assert orjson.loads(row.state) == {
        "merchant_id": "m",
        "actor": "test",
        "request_id": "r",
        "occurred_at": "2026-01-01T00:00:00Z",
        "reason": "stock",
    }
    assert MAPPER.to_domain_event(row) == PAUSED


@pytest.mark.parametrize("topic", ["os:system", "coupon.Issued", "coupon.issued ", "", "ledger.events:CouponIssued"])
def test_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(ForeignEvent, match="not in the catalogue"):
        MAPPER.to_domain_event(StoredEvent("batch-b", 1, topic, b"{}"))


def test_the_library_may_hand_over_a_row_with_its_position() -> None:
    row = vars(MAPPER.to_stored_event(PAUSED))
    assert MAPPER.to_domain_event(Notification(id=7, **row)) == PAUSED


def test_an_old_row_is_upcast_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(payload: dict[str, Any]) -> None:
        payload["why"] = payload.pop("reason")

    def shout(payload: dict[str, Any]) -> None:
        payload["reason"] = payload.pop("why").upper()

    row = MAPPER.to_stored_event(PAUSED)
    monkeypatch.setattr(BatchPaused, "class_version", 3)
    monkeypatch.setattr(BatchPaused, "upcast_v1_v2", staticmethod(rename), raising=False)
    monkeypatch.setattr(BatchPaused, "upcast_v2_v3", staticmethod(shout), raising=False)
    assert MAPPER.to_domain_event(row) == replace(PAUSED, reason="STOCK")
    new = MAPPER.to_stored_event(PAUSED)
    assert orjson.loads(new.state)["class_version"] == 3
    assert MAPPER.to_domain_event(new) == PAUSED


def test_a_row_of_a_newer_release_is_refused() -> None:
    state = orjson.loads(MAPPER.to_stored_event(PAUSED).state) | {"class_version": 2, "mood": "grim"}
    with pytest.raises(ForeignEvent, match=r"batch\.paused v2"):
        MAPPER.to_domain_event(StoredEvent("batch-b", 3, "batch.paused", orjson.dumps(state)))


# Texts that JSON and PostgreSQL treat in a way of their own; a lone surrogate is no text at all.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["\x00", "a\nb", "\u2028\u2029", "\ufeff", "\ufffe", '"\\', "😀", "e\u0301", "\u202e"]
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(reason=texts, request_id=texts, at=moments)
def test_a_row_gives_back_the_event(reason: str, request_id: str, at: datetime) -> None:
    event = replace(PAUSED, reason=reason, request_id=request_id, occurred_at=at)
    row = MAPPER.to_stored_event(event)
    assert b"\n" not in row.state
    assert MAPPER.to_domain_event(row) == event


def test_fifty_thousand_products_are_one_event() -> None:
    terms = {"scope": {"products": [f"product-{n}" for n in range(50_000)]}}
    event = TemplateCreated(
        originator_id="template-t",
        originator_version=1,
        merchant_id="m",
        actor="test",
        request_id="r",
        occurred_at=T0,
        name="n",
        description="two\nlines",
        terms=terms,
    )
    assert MAPPER.to_domain_event(MAPPER.to_stored_event(event)) == event


def test_a_fact_with_other_fields_than_its_own_is_not_recorded() -> None:
    request = Request("m", "test", "r")
    batch = Batch("batch-1")
    with pytest.raises(TypeError, match="reason"):
        batch.trigger(BatchPaused, request, T0)
    with pytest.raises(TypeError, match="colour"):
        batch.trigger(BatchStarted, request, T0, colour="red")
    assert batch.collect_events() == []
