"""Stored events are read for ever: no payload changes without a new version, an upcaster and a sample of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from eventsourcing.persistence import JSONTranscoder

from ledger.aggregate import Aggregate
from ledger.batch import Batch
from ledger.codes import Codes
from ledger.coupon import Coupon
from ledger.database import Database
from ledger.events import EVENTS, Event
from ledger.issuance.job import Job
from ledger.mapper import EventMapper
from ledger.rules import Rules
from ledger.subjects import Subject
from ledger.template import Template
from ledger.use_cases import ClaimReminder
from tests.contract.catalogue import DOCUMENT, FOLDER, document, path_of, schema_of, stored_story

MAPPER = EventMapper(JSONTranscoder())
PATHS = sorted(FOLDER.glob("*.json"))
AGGREGATES: dict[str, type[Aggregate]] = {
    kind.category: kind for kind in (Template, Batch, Rules, Codes, Coupon, ClaimReminder, Job, Subject)
}
KINDS = [pytest.param(kind, id=topic) for topic, kind in EVENTS.items()]
CONTRACTS = [pytest.param(path, id=path.stem) for path in PATHS]


def contract(path: Path) -> dict[str, Any]:
    whole: dict[str, Any] = orjson.loads(path.read_bytes())
    return whole


def decoded(sample: dict[str, Any]) -> Event:
    return MAPPER.decode(sample["stream"], sample["version"], sample["topic"], orjson.dumps(sample["state"]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_version_of_a_topic_has_a_contract(kind: type[Event]) -> None:
    for version in range(1, kind.class_version + 1):
        assert path_of(kind.TOPIC, version).exists()


@pytest.mark.parametrize("path", CONTRACTS)
def test_every_contract_belongs_to_a_topic(path: Path) -> None:
    match = re.fullmatch(r"([a-z_]+\.[a-z_]+)\.v(\d+)", path.stem)
    assert match is not None
    assert 1 <= int(match[2]) <= EVENTS[match[1]].class_version
    assert contract(path)["sample"]["topic"] == match[1]
    assert contract(path)["sample"]["state"].get("class_version", 1) == int(match[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_is_what_its_contract_says(kind: type[Event]) -> None:
    """When this fails the payload changed: raise ``class_version``, write the upcaster and a new contract."""
    assert schema_of(kind) == contract(path_of(kind.TOPIC, kind.class_version))["schema"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_older_version_has_an_upcaster(kind: type[Event]) -> None:
    for version in range(1, kind.class_version):
        assert callable(getattr(kind, f"upcast_v{version}_v{version + 1}", None))


@pytest.mark.parametrize("path", CONTRACTS)
def test_a_sample_obeys_its_schema(path: Path) -> None:
    whole = contract(path)
    jsonschema.Draft202012Validator.check_schema(whole["schema"])
    jsonschema.validate(whole["sample"]["state"], whole["schema"], format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("path", CONTRACTS)
def test_a_sample_of_any_version_is_read_and_folded_today(path: Path) -> None:
    sample = contract(path)["sample"]
    event = decoded(sample)
    assert set(vars(event)) == {f.name for f in fields(event)}
    aggregate = AGGREGATES[sample["stream"].split("-", maxsplit=1)[0]](sample["stream"])
    aggregate.version = sample["version"] - 1
    assert event.mutate(aggregate) is aggregate
    assert aggregate.version == sample["version"]
    stored = MAPPER.to_stored_event(event)
    jsonschema.validate(orjson.loads(stored.state), schema_of(type(event)))
    assert MAPPER.to_domain_event(stored) == event


def test_what_the_ledger_stores_today_obeys_the_contracts(database: Database) -> None:
    story = stored_story(database)
    assert set(story) == set(EVENTS)
    for topic, row in story.items():
        schema = contract(path_of(topic, EVENTS[topic].class_version))["schema"]
        jsonschema.validate(row["state"], schema, format_checker=jsonschema.FormatChecker())


def test_a_changed_field_changes_the_schema() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Before:
        reason: str

    @dataclass(frozen=True, kw_only=True)
    class Renamed:
        cause: str

    @dataclass(frozen=True, kw_only=True)
    class Retyped:
        reason: str | None

    assert len({str(schema_of(kind)) for kind in (Before, Renamed, Retyped)}) == 3


def test_the_catalogue_is_documented() -> None:
    assert DOCUMENT.read_text("utf-8") == document(), "run python -m tests.contract.catalogue"
    for topic in EVENTS:
        assert f"`{topic}`" in document()
