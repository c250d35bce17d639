"""Projections read events with their times as the stored text, and otherwise as everybody does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from eventsourcing.persistence import JSONTranscoder

from ledger.errors import ForeignEvent
from ledger.events import EVENTS, Event
from ledger.mapper import EventMapper
from projections.chunk import times_as_text

SAMPLES = sorted((Path(__file__).parents[1] / "contract" / "events").glob("*.json"))
UPCAST = {topic for topic, event in EVENTS.items() if event.class_version > 1}
decode = EventMapper(JSONTranscoder()).decode
decode_row = times_as_text(decode)


def row_of(path: Path) -> tuple[str, int, str, bytes]:
    sample = orjson.loads(path.read_bytes())["sample"]
    return sample["stream"], sample["version"], sample["topic"], orjson.dumps(sample["state"])


def texts(event: Event) -> dict[str, Any]:
    """The fields, as they are stored."""
    fields: dict[str, Any] = orjson.loads(orjson.dumps(vars(event), option=orjson.OPT_UTC_Z))
    return fields


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_an_event_is_the_same_but_for_its_times(path: Path) -> None:
    row = row_of(path)
    event = decode_row(*row)
    assert type(event) is type(decode(*row))
    assert texts(event) == texts(decode(*row))
    assert isinstance(event.occurred_at, str)


def test_an_old_version_is_upcast_like_everywhere() -> None:
    """With its times as text all the same, so that an old log is folded as fast as a new one."""
    old = [path for path in SAMPLES if orjson.loads(path.read_bytes())["sample"]["topic"] in UPCAST]
    found = [decode_row(*row_of(path)) for path in old if path.stem.endswith(".v1")]
    assert {event.TOPIC for event in found} == UPCAST
    for event in found:
        assert vars(event).keys() == type(event).field_names
        assert isinstance(event.occurred_at, str)


def test_a_newer_version_is_left_to_the_full_decoder() -> None:
    stream, version, topic, state = row_of(SAMPLES[0])
    newer = orjson.dumps({**orjson.loads(state), "class_version": 99})
    with pytest.raises(ForeignEvent, match="newer release"):
        decode_row(stream, version, topic, newer)


def test_a_foreign_topic_is_refused() -> None:
    with pytest.raises(ForeignEvent, match="not in the catalogue"):
        decode_row("coupon-1", 1, "coupon.gilded", b"{}")
