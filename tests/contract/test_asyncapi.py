"""The AsyncAPI document is valid, whole, and says of every message what the code writes and takes.

``asyncapi/schema-3.0.0.json`` is the official JSON Schema of AsyncAPI 3.0.0, from version 6.11.1 of the npm package
``@asyncapi/specs`` (Apache License 2.0, beside it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from consumers import topics
from consumers.asyncapi import document
from consumers.dead_letter_copies import copy_of
from consumers.dead_letters import DeadLetter
from consumers.messages import Wire, decode, encode
from consumers.payloads import PAYLOADS
from consumers.publisher import TYPES
from tests.contract.test_events import CONTRACTS
from tests.contract.test_published import sent
from tests.unit.test_messages import NOW, payload_of

CONTRACTS_FOLDER = Path(__file__).parents[2] / "docs" / "contracts"
OFFICIAL = Path(__file__).parent / "asyncapi" / "schema-3.0.0.json"
DOCUMENT: dict[str, Any] = json.loads((CONTRACTS_FOLDER / "asyncapi.json").read_text("utf-8"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def _retrieve(uri: str) -> Resource[Any]:
    return Resource.from_contents(json.loads((CONTRACTS_FOLDER / uri).read_text("utf-8")), DRAFT202012)


FILES: Registry[Any] = Registry(retrieve=_retrieve)  # type: ignore[call-arg]


def check(wire: Wire, name: str) -> None:
    """Raise where a message is not what the document says of it."""
    said = MESSAGES[name]
    headers = {name: (value or b"").decode() for name, value in wire.headers}
    formats = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(said["headers"], format_checker=formats).validate(headers)
    payload = said["payload"]["schema"]
    value = json.loads(wire.value or b"null") if payload is not True else wire.value
    jsonschema.Draft202012Validator(payload, registry=FILES, format_checker=formats).validate(value)
    if "bindings" in said:
        assert wire.key is not None
        jsonschema.validate(wire.key.decode(), said["bindings"]["kafka"]["key"])


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_it_is_valid_asyncapi() -> None:
    official = json.loads(OFFICIAL.read_text("utf-8"))
    jsonschema.validate(document(), official)
    wrong = document() | {"operations": {"send": {"action": "shout", "channel": {"$ref": "#/channels/none"}}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, official)


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert found
    for reference in found:
        if reference.startswith("./"):
            assert (CONTRACTS_FOLDER / reference).exists(), reference
        else:
            place: Any = DOCUMENT
            for part in reference.removeprefix("#/").split("/"):
                place = place[part]


def test_every_topic_is_a_channel_with_its_partitions() -> None:
    counts = topics.PARTITIONS | topics.PUBLISHED
    counts |= {topics.dead_letter_topic(name): 1 for name in topics.PARTITIONS}
    said = {name: channel["bindings"]["kafka"]["partitions"] for name, channel in DOCUMENT["channels"].items()}
    assert said == counts


def test_every_type_of_message_lies_on_a_channel_that_somebody_reads_or_writes() -> None:
    lying = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert lying == MESSAGES.keys() == PAYLOADS.keys() | set(TYPES.values()) | {"dead_letter"}
    used = {operation["channel"]["$ref"].rpartition("/")[2] for operation in DOCUMENT["operations"].values()}
    assert used == DOCUMENT["channels"].keys()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_messages_that_the_ledger_reads_or_its_parts_send_each_other(kind: str) -> None:
    wire = encode(payload_of(kind), source="/shop/checkout", id="order 1", time=NOW)
    check(wire, kind)
    assert decode(wire).payload == payload_of(kind)
    wrong = [*wire.headers[:-1], ("content-type", b"text/plain")]
    with pytest.raises(jsonschema.ValidationError):
        check(wire._replace(headers=wrong), kind)
    with pytest.raises(jsonschema.ValidationError):
        check(wire._replace(value=b"{}"), kind)


@pytest.mark.parametrize("path", CONTRACTS)
def test_messages_that_tell_of_events(path: Path) -> None:
    wire = sent(path)
    check(wire, dict(wire.headers)["ce_type"].decode())
    with pytest.raises(jsonschema.ValidationError):
        check(wire._replace(value=b"{}"), dict(wire.headers)["ce_type"].decode())


@pytest.mark.parametrize("limit_bytes", [10_000, 700, 10])
def test_copies_of_dead_letters(limit_bytes: int) -> None:
    letter = dead_letter(b"x" * 5_000)
    check(copy_of(letter, limit_bytes), "dead_letter")
    with pytest.raises(jsonschema.ValidationError):
        check(Wire(letter.key, letter.value, letter.headers), "dead_letter")


def dead_letter(value: bytes) -> DeadLetter:
    return DeadLetter(
        id=1,
        topic="orders.events.v1",
        partition=2,
        offset=3,
        message_time=datetime(2026, 11, 21, tzinfo=UTC),
        consumer_group="ledger-orders",
        key=b"order-1",
        value=value,
        headers=[("ce_type", b"order.paid.v1")],
        business_time="live",
        reason="malformed_json",
        detail="not JSON",
        dead_at=NOW,
        published_at=None,
        settled_at=None,
        settlement=None,
        settled_by=None,
        settlement_note=None,
        attempts=1,
    )
