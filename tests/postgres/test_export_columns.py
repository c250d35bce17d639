"""The log's columns fit every event: no field has another kind in one event than in another."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ledger.events import EVENTS
from projections.export.log_rows import COLUMNS

KINDS = {"str": "text", "int": "int64", "bool": "boolean", "datetime": "time"}
IN_THE_PAYLOAD_ONLY = {"claim_from": "time"}


@pytest.mark.parametrize("topic", EVENTS)
def test_fields_of_events_have_the_kind_of_their_column(topic):
    kinds = {column.name: column.kind for column in COLUMNS}
    for field in fields(EVENTS[topic]):
        if field.name in kinds:
            assert KINDS[str(field.type).removesuffix(" | None")] == kinds[field.name], field.name


def test_no_id_and_no_amount_of_a_coupon_is_left_out():
    columns = {column.name for column in COLUMNS}
    for topic, event in EVENTS.items():
        if topic.startswith("coupon."):
            named = {f.name for f in fields(event) if f.name.endswith(("_id", "_minor")) and f.name != "originator_id"}
            assert named <= columns, topic
