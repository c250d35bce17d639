"""What ``coupon-ledger history`` and ``coupon-ledger explain`` print: JSON, or tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import orjson

from coupon_ledger.commands.output import show_rows
from ledger.aggregate import text_of
from ledger.events import Recorded
from ledger.history.moment import Moment
from ledger.published import published


@dataclass(frozen=True, slots=True)
class EventRow:
    """A fact, as a table shows it."""

    position: int
    occurred_at: str | None
    recorded_at: str | None
    stream: str
    topic: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class StateRow:
    """A member of a state, as the log knew it and as it was."""

    member: str
    known: Any
    true: Any


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A member of a state, before and after."""

    member: str
    before: Any
    after: Any


def show_events(events: Sequence[Recorded] | Iterator[Recorded], as_json: bool) -> None:
    """A timeline."""
    shown = [published(recorded) for recorded in events]
    if as_json:
        _echo_json(shown)
    else:
        show_rows([_row(event) for event in shown], as_json)


def show_state(then: Moment, state: Mapping[str, Any], as_json: bool) -> None:
    """What was at a moment, as the log knew it and as it was."""
    found = {**_as_of(then), **state}
    if as_json:
        _echo_json(found)
        return
    for name, value in found.items():
        if name not in ("known", "true"):
            click.echo(f"{name:<15} {_cell(value)}")
    known, true = _members(found["known"]), _members(found["true"])
    show_rows([StateRow(name, known.get(name, ""), true.get(name, "")) for name in {**known, **true}], as_json)


def show_difference(then: Moment, end: Moment, found: Mapping[str, Any], as_json: bool) -> None:
    """What changed between two moments, and by which events."""
    between = {"begin": _as_of(then), "end": _as_of(end)}
    if as_json:
        _echo_json({**between, **found})
        return
    for name, value in between.items():
        click.echo(f"{name:<15} {_cell(value)}")
    changed = found["changed"].items()
    show_rows([ChangeRow(name, *_cells(each["before"], each["after"])) for name, each in changed], as_json)
    show_rows([_row(event) for event in found["events"]], as_json)


def show_explanation(found: Mapping[str, Any], as_json: bool) -> None:
    """The verdict, and the events that made it so."""
    if as_json:
        _echo_json(found)
        return
    for name, value in found.items():
        if name not in ("because", "title") and value not in (None, {}, []):
            click.echo(f"{name:<17} {_cell(value)}")
    show_rows([_row(event) for event in found["because"]], as_json)


def _as_of(then: Moment) -> dict[str, Any]:
    return {"at": text_of(then.at), "known_at": text_of(then.known_at), "known_position": then.known.position}


def _members(state: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    """What a table shows of a state, or of a list of coupons by their ids."""
    if isinstance(state, Mapping):
        return {name: _cell(value) for name, value in state.items()}
    return {each["coupon_id"]: each["state"] for each in state or ()}


def _cells(before: Any, after: Any) -> tuple[str, str]:
    """Of a coupon that was there at both moments, the members that differ; of one that came or went, its state."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [name for name in after if before[name] != after[name]]
        before, after = ({name: each[name] for name in names} for each in (before, after))
    else:
        before, after = (each["state"] if isinstance(each, Mapping) else each for each in (before, after))
    return _cell(before), _cell(after)


def _row(event: Mapping[str, Any]) -> EventRow:
    payload = event["payload"]
    return EventRow(
        event["position"], event["occurred_at"], event["recorded_at"], event["stream"], event["topic"],
        payload["actor"], payload.get("reason", ""),
    )  # fmt: skip


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return orjson.dumps(value).decode() if isinstance(value, Mapping | list | bool) else str(value)


def _echo_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
