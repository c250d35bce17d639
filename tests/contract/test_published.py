"""What the publisher sends is a contract of its own: a changed stored payload cannot change it unnoticed."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from consumers import contracts
from consumers.contracts import breaks, files, published_schemas, write
from consumers.messages import Wire
from consumers.publisher import TYPES, VERSIONS, message_of
from ledger.events import EVENTS, Recorded
from tests.contract.test_events import CONTRACTS, contract, decoded

FOLDER = Path(__file__).parents[2] / "docs" / "contracts"
RECORDED_AT = datetime(2026, 11, 21, 9, 30, 0, 250_000, tzinfo=UTC)


def sent(path: Path) -> Wire:
    """The message that tells of a stored sample."""
    return message_of(Recorded(7, RECORDED_AT, decoded(contract(path)["sample"])), "/coupon-ledger/test")


def committed(wire: Wire) -> dict[str, Any]:
    kind = dict(wire.headers)["ce_type"].decode()
    schema: dict[str, Any] = json.loads((FOLDER / "published" / f"{kind}.json").read_text("utf-8"))
    return schema


def test_the_files_are_those_of_the_code() -> None:
    """After a lawful change (an addition) run ``python -m consumers.contracts docs/contracts``."""
    there = {str(file.relative_to(FOLDER)): file.read_text("utf-8") for file in FOLDER.rglob("*.json")}
    made = files()
    for name in there.keys() - made.keys():  # schemas of older versions stay, since such messages do
        older = re.fullmatch(r"published/ledger\.(.+)\.v(\d+)\.json", name)
        assert older is not None, name
        assert int(older[2]) < VERSIONS[older[1]], name
    assert {name: there.get(name) for name in made} == made


@pytest.mark.parametrize("path", CONTRACTS)
def test_what_is_sent_of_every_stored_version_obeys_the_committed_schema(path: Path) -> None:
    wire = sent(path)
    schema, value = committed(wire), json.loads(wire.value or b"")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())
    # Nothing is sent that the contract does not name, so an added field is a decision too.
    assert value.keys() == schema["properties"].keys()
    assert value["payload"].keys() == schema["properties"]["payload"]["properties"].keys()
    assert value["topic"] == schema["properties"]["topic"]["const"]


def test_a_message_names_its_event() -> None:
    wire = sent(next(param.values[0] for param in CONTRACTS if param.id == "coupon.used.v2"))
    value = json.loads(wire.value or b"")
    assert wire.key == value["stream"].encode()
    assert value["stream"].startswith("coupon-")
    assert dict(wire.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"7",
        "ce_source": b"/coupon-ledger/test",
        "ce_type": b"ledger.coupon.used.v1",
        "ce_time": value["occurred_at"].encode(),
        "content-type": b"application/json",
    }
    assert (value["position"], value["recorded_at"]) == (7, "2026-11-21T09:30:00.250000Z")


def test_every_event_is_published() -> None:
    assert TYPES.keys() == EVENTS.keys()
    assert len(set(TYPES.values())) == len(EVENTS)


SCHEMA = published_schemas()["ledger.coupon.used.v1"]
PAYLOAD = ("properties", "payload")
LINE = (*PAYLOAD, "properties", "allocation", "items")


def changed(path: tuple[str, ...], change: Any) -> dict[str, Any]:
    """The schema, with a change of the object at this path."""
    schema = copy.deepcopy(SCHEMA)
    place: Any = schema
    for name in path:
        place = place[name]
    change(place)
    return schema


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (PAYLOAD, lambda place: place["properties"].pop("lock_id"), "/payload/lock_id is gone"),
        (PAYLOAD, lambda place: place["required"].remove("lock_id"), "/payload/lock_id may be absent"),
        (PAYLOAD, lambda place: place["properties"].update(late={"type": "string"}), "/payload/late has another type"),
        (LINE, lambda place: place["properties"].pop("line_id"), "/payload/allocation/*/line_id is gone"),
        (("properties", "topic"), lambda place: place.update(const="coupon.spent"), "/topic has another const"),
        (("properties", "recorded_at"), lambda place: place.pop("format"), "/recorded_at has another format"),
    ],
)
def test_what_breaks_a_reader_is_seen(path: tuple[str, ...], change: Any, says: str) -> None:
    assert list(breaks(SCHEMA, changed(path, change))) == [says]


def test_a_word_that_is_never_said_any_more_breaks_a_reader_and_an_addition_does_not() -> None:
    words: dict[str, Any] = {"type": "string", "enum": ["a", "b"]}
    assert list(breaks(words, words | {"enum": ["a"]}, "/mode")) == ["/mode is never 'b' any more"]
    assert list(breaks(words, words | {"enum": ["a", "b", "c"]})) == []
    added = changed(PAYLOAD, lambda place: place["properties"].update(more={"type": "string"}))
    assert list(breaks(SCHEMA, added)) == []


def test_a_breaking_change_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    before = {file: file.read_text("utf-8") for file in tmp_path.rglob("*.json")}
    kind = "ledger.coupon.used.v1"
    broken = changed(PAYLOAD, lambda place: place["properties"].pop("lock_id"))
    monkeypatch.setattr(contracts, "published_schemas", lambda: {kind: broken})
    with pytest.raises(ValueError, match=f"{kind} needs a new version: /payload/lock_id is gone"):
        write(tmp_path)
    assert {file: file.read_text("utf-8") for file in tmp_path.rglob("*.json")} == before
