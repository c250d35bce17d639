"""Messages: what is written is read, by us and by anybody who speaks CloudEvents; anything else has a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from consumers.messages import Undecodable, Wire, decode, encode
from consumers.payloads import PAYLOADS, IssueRequested, OrderCreated, Payload

NOW = datetime(2026, 11, 21, 9, 30, 0, 250_000, tzinfo=UTC)
ISSUE = IssueRequested(merchant_id="m-1", batch_id="b-1", user_id="u-1", channel="mail")
LIFE: dict[str, dict[str, Any]] = {
    "coupon.issue.requested.v1": {"batch_id": "b-1", "user_id": "u-1"},
    "order.created.v1": {
        "order_id": "o-1",
        "user_id": "u-1",
        "coupon_ids": ["c-1", "c-2"],
        "order_total_minor": 2_000,
        "lines": [{"line_id": "1", "product_id": "apple", "amount_minor": 2_000}],
        "basket": {
            "lines": [{"line_id": "1", "product_id": "apple", "quantity": 4, "unit_price_minor": 500}],
            "currency": "EUR",
        },
        "quote_digest": "a1",
    },
    "order.paid.v1": {
        "order_id": "o-1",
        "redemptions": [
            {
                "coupon_id": "c-1",
                "discount_minor": 500,
                "allocation": [{"line_id": "1", "product_id": "apple", "discount_minor": 500}],
            },
            {"coupon_id": "c-2"},
        ],
        "channel": "in_store",
    },
    "order.cancelled.v1": {"order_id": "o-1", "coupon_ids": ["c-1"]},
    "order.closed.v1": {"order_id": "o-1", "coupon_ids": ["c-1"]},
    "order.payment_timeout.v1": {"order_id": "o-1", "coupon_ids": ["c-1"]},
    "order.refunded.v1": {
        "order_id": "o-1",
        "coupon_ids": ["c-1"],
        "reason": "buyer_refund",
        "lines": [{"line_id": "1", "discount_minor": 250}, {"line_id": "2"}],
    },
    "member.registered.v1": {"user_id": "u-1", "facts": {"newcomer": True, "points": 5, "tags": ["student"]}},
    "member.referred.v1": {"user_id": "u-1", "referrer_id": "u-2", "referrer_facts": {"person": "p-2"}},
    "member.tier_changed.v1": {"user_id": "u-1", "tier": "gold"},
    "coupon.reminder.due.v1": {
        "user_id": "u-1",
        "batch_id": "b-1",
        "reminder": "expiry",
        "notify_day": "2026-11-20",
        "ends_at": "2026-11-21T23:00:00Z",
        "coupon_ids": ["c-1"],
    },
    "coupon.alert.v1": {
        "batch_id": "b-1",
        "template_id": "t-1",
        "alert": "stock_below",
        "number": 1,
        "position": 5,
        "threshold": 10,
        "level": 91,
        "capacity": 100,
    },
}
"""A payload of each type, without the merchant."""


def payload_of(kind: str) -> Payload:
    return PAYLOADS[kind].model_validate_json(json.dumps({"merchant_id": "m-1", **LIFE[kind]}))


def wire(payload: Payload = ISSUE, **changed: Any) -> Wire:
    return encode(payload, source="/shop", id="1", time=NOW)._replace(**changed)


def reason(wire: Wire) -> str:
    with pytest.raises(Undecodable) as refused:
        decode(wire)
    assert refused.value.detail
    return refused.value.reason


def test_every_type_has_a_sample() -> None:
    assert LIFE.keys() == PAYLOADS.keys()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_what_is_written_is_read(kind: str) -> None:
    message = decode(wire(payload_of(kind)))
    assert message.payload == payload_of(kind)
    assert (message.request_id, message.time) == ("/shop 1", NOW)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_the_cloudevents_library_reads_what_we_write_and_writes_what_we_read(kind: str) -> None:
    ours = wire(payload_of(kind))
    event = from_binary(KafkaMessage(dict(ours.headers), ours.key, ours.value or b""), JSONFormat())
    assert (event.get_id(), event.get_source(), event.get_type()) == ("1", "/shop", kind)
    assert (event.get_time(), event.get_specversion()) == (NOW, "1.0")
    assert event.get_data() == {"merchant_id": "m-1", **LIFE[kind]}
    assert event.get_extension("partitionkey") == payload_of(kind).key
    theirs = to_binary(event, JSONFormat())
    assert isinstance(theirs.key, str)
    message = decode(Wire(theirs.key.encode(), theirs.value, list(theirs.headers.items())))
    assert message[:3] == decode(ours)[:3]
    assert message.body_hash() == decode(ours).body_hash()


def test_unknown_fields_and_headers_of_a_newer_producer_are_ignored() -> None:
    newer = wire(value=b'{"merchant_id":"m-1","batch_id":"b-1","user_id":"u-1","channel":"mail","new":{"a":[1]}}')
    assert decode(newer._replace(headers=[*newer.headers, ("ce_dataschema", b"x")])).payload == ISSUE


def test_the_body_hash_covers_all_fields_and_the_type_and_no_layout() -> None:
    def hash_of(value: bytes) -> str:
        return decode(wire(value=value)).body_hash()

    plain = b'{"merchant_id":"m-1","batch_id":"b-1","user_id":"u-1"}'
    assert hash_of(plain) == hash_of(b'{ "user_id" : "u-1","batch_id":"b-1", "merchant_id":"m-1"}')
    others = [plain.replace(b"b-1", b"b-2"), plain[:-1] + b',"channel":"mail"}', plain[:-1] + b',"unknown":1}']
    assert len({hash_of(value) for value in [plain, *others]}) == 4
    same = {"order_id": "o-1", "coupon_ids": ["c-1"]}
    kinds = [PAYLOADS[kind](merchant_id="m-1", **same) for kind in ("order.cancelled.v1", "order.closed.v1")]
    assert len({decode(wire(payload)).body_hash() for payload in kinds}) == 2


def test_times_of_any_zone_are_read_as_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=8)))
    assert decode(encode(ISSUE, source="/shop", id="1", time=east)).time == NOW
    headers = [(name, b"2026-11-21T17:30:00.25+08:00" if name == "ce_time" else old) for name, old in wire().headers]
    assert decode(wire(headers=headers)).time == NOW
    assert decode(wire(headers=headers)).time.tzinfo is UTC


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_say_its_charset(content_type: str) -> None:
    headers = [(name, content_type.encode() if name == "content-type" else old) for name, old in wire().headers]
    assert decode(wire(headers=headers)).payload == ISSUE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("merchant_id", '""'), ("merchant_id", "null"), ("merchant_id", "1"), ("user_id", '" u"'), ("user_id", '"u "'),
        ("user_id", '"a\\nb"'), ("user_id", '"a\\u0000b"'), ("user_id", f'"{"x" * 129}"'), ("user_id", '["u-1"]'),
        ("coupon_ids", "[]"), ("coupon_ids", '["c", 1]'), ("coupon_ids", str(["c"] * 101).replace("'", '"')),
        ("coupon_ids", '{"0": "c"}'), ("order_total_minor", "-1"), ("order_total_minor", "1.5"),
        ("order_total_minor", '"1"'), ("order_total_minor", "true"), ("order_total_minor", "1000000000000"),
        ("order_total_minor", "1e3"), ("order_total_minor", "NaN"), ("ttl_seconds", "0"), ("ttl_seconds", "86401"),
    ],
)  # fmt: skip
def test_known_fields_are_checked_strictly(field: str, value: str) -> None:
    fields = {"merchant_id": '"m-1"', "order_id": '"o-1"', "user_id": '"u-1"', "coupon_ids": '["c-1"]'} | {field: value}
    text = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    order = OrderCreated(merchant_id="m-1", order_id="o-1", user_id="u-1", coupon_ids=["c-1"])
    with pytest.raises(Undecodable) as refused:
        decode(wire(order, value=text.encode()))
    assert refused.value.reason == "invalid_field"
    assert refused.value.detail.startswith(field)


def test_a_key_that_does_not_match_the_payload_is_refused() -> None:
    assert reason(wire(key=b"u-2")) == "wrong_key"


def test_a_lone_surrogate_is_no_json() -> None:
    assert reason(wire(value=b'{"merchant_id":"\\ud800","batch_id":"b","user_id":"u"}')) == "malformed_json"


@pytest.mark.parametrize("bad", [{"source": "two words"}, {"source": ""}, {"id": ""}, {"id": "é"}, {"id": "x" * 250}])
def test_a_producer_learns_of_an_id_that_nobody_would_read(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="ce_source"):
        encode(ISSUE, **{"source": "/shop", "id": "1", "time": NOW} | bad)


def test_a_producer_learns_of_a_time_without_a_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        encode(ISSUE, source="/shop", id="1", time=NOW.replace(tzinfo=None))


NAMES = [name for name, _ in wire().headers]


@given(
    st.binary() | st.none(),
    st.binary() | st.none() | st.just(wire().value),
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(), st.binary() | st.none())),
)
def test_whatever_lies_on_the_topic_is_read_or_has_a_reason(
    key: bytes | None, value: bytes | None, changed: list[tuple[str, bytes | None]]
) -> None:
    refusals = []
    try:
        decode(Wire(key, value, [*wire().headers, *changed]))
    except Undecodable as refused:
        refusals.append(refused)
    assert all(refused.reason.isidentifier() and refused.detail for refused in refusals)
