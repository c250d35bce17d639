"""``coupon-ledger history`` and ``coupon-ledger explain``: what was, what was known, and why something was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, TypeVar

import click
import orjson
from pydantic import ValidationError

from api.explanation_bodies import ExplanationBody
from api.explanations import explained
from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.commands.times import time
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.aggregate import text_of
from ledger.errors import BatchNotFound, CouponNotFound, InvalidField, NotFound
from ledger.events import Recorded
from ledger.history import batches, coupons, differences, holders, reading
from ledger.history.moment import Connection, Moment, moment
from ledger.published import published
from ledger.store import Store
from ledger.subjects import subject_stream
from projections.timelines import user_page, user_streams, user_streams_at

PAGE = 1_000
"""Events that are read at once."""
Command = TypeVar("Command", bound=Callable[..., Any])
Page = Callable[[int, int], list[Recorded]]


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


merchant_option = click.option("--merchant", "merchant_id", required=True, help="Whose ledger entries.")


def moment_options(command: Command) -> Command:
    """Which moment; the whole timeline where none is said."""
    for option in (
        json_option,
        click.option("--position", type=click.IntRange(1), help="The last position that the log held."),
        click.option("--known-at", type=time, help="How late the log may be; else as late as --at."),
        click.option("--at", type=time, help="What the clock showed: the state then, not the timeline."),
        merchant_option,
    ):
        command = option(command)
    return command


until_option = click.option("--until", type=time, help="What changed from that moment to this one.")


@click.group()
def history() -> None:
    """Read the past of a coupon, an order, a user or a batch: every event, or the state at a moment."""


@history.command()
@click.argument("id")
@until_option
@moment_options
@click.pass_obj
def coupon(
    settings: Settings, /, id: str, merchant_id: str, until: datetime | None, as_json: bool, **asked: Any
) -> None:
    """Show a coupon: its events, its state at a moment, or what changed between two."""
    with _log(settings) as (store, connection):
        events = _owned(store, f"coupon-{id}", merchant_id, CouponNotFound(id=id))
        then = _then(connection, asked)
        if then is None:
            _show_events(events, until, as_json)
        elif until is None:
            _show_state({**_as_of(then), **coupons.coupon_moment(events, then)}, as_json)
        else:
            end = _until(connection, until)
            _show_difference(differences.coupon_difference(events, then, end, "known"), as_json)


@history.command()
@click.argument("id")
@until_option
@moment_options
@click.pass_obj
def batch(
    settings: Settings, /, id: str, merchant_id: str, until: datetime | None, as_json: bool, **asked: Any
) -> None:
    """Show a batch: its events, its state and its coupons' at a moment, or what changed between two."""
    with _log(settings) as (store, connection):
        events = _owned(store, f"batch-{id}", merchant_id, BatchNotFound(id=id))
        then = _then(connection, asked)
        if then is None:
            _show_events(events, until, as_json)
        elif until is None:
            found = batches.batch_moment(connection, events, then, None)
            _show_state({**_as_of(then), **found}, as_json)
        else:
            end = _until(connection, until)
            found = differences.batch_difference(connection, events, then, end, "known", None)
            _show_difference(found, as_json)


@history.command()
@click.argument("id")
@until_option
@moment_options
@click.pass_obj
def order(
    settings: Settings, /, id: str, merchant_id: str, until: datetime | None, as_json: bool, **asked: Any
) -> None:
    """Show an order: the events of all coupons that it ever locked, what it held and had used, or what changed."""
    with _log(settings) as (store, connection):
        then = _then(connection, asked)
        if not reading.order_streams(connection, merchant_id, id):
            raise _unknown("order", id, merchant_id)
        if then is None:
            pages = _whole(lambda *place: reading.order_page(store, connection, merchant_id, id, *place))
            _show_events(pages, until, as_json)
        elif until is not None:
            end = _until(connection, until)
            found = differences.order_difference(store, connection, merchant_id, id, then, end, "known")
            _show_difference(found, as_json)
        else:
            found = holders.order_moment(store, connection, merchant_id, id, then)
            _show_state({**_as_of(then), **found}, as_json)


@history.command()
@click.argument("id")
@until_option
@moment_options
@click.pass_obj
def user(settings: Settings, /, id: str, merchant_id: str, until: datetime | None, as_json: bool, **asked: Any) -> None:
    """Show a user: the events of all coupons that the user ever had or might use, the wallet, or what changed."""
    with _log(settings) as (store, connection):
        then = _then(connection, asked)
        streams = _user_streams(store, connection, merchant_id, id)
        if then is None:
            pages = _whole(lambda *place: user_page(store, connection, merchant_id, id, *place))
            _show_events(pages, until, as_json)
        elif until is not None:
            end, histories = _until(connection, until), reading.histories(store, connection, streams)
            _show_difference(differences.user_difference(histories, id, then, end, "known"), as_json)
        else:
            found = holders.user_moment(reading.histories(store, connection, streams), id, then)
            _show_state({**_as_of(then), **found}, as_json)


@click.command()
@click.argument("file", type=click.File("rb"))
@merchant_option
@json_option
@click.pass_obj
def explain(settings: Settings, file: IO[bytes], merchant_id: str, as_json: bool) -> None:
    """Explain a refusal. FILE is JSON as POST /v1/audit/explanations takes it; - reads standard input."""
    try:
        body = ExplanationBody.model_validate_json(file.read())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise click.UsageError(f"{place}: {first['msg']}" if place else first["msg"]) from None
    with _log(settings) as (store, connection):
        found = explained(store, connection, merchant_id, body, None)
    if as_json:
        _echo_json(found)
        return
    for name, value in found.items():
        if name not in ("because", "title") and value not in (None, {}, []):
            click.echo(f"{name:<17} {_cell(value)}")
    show_rows([_row(event) for event in found["because"]], as_json)


# --- what they share ------------------------------------------------------------------------------------


@contextmanager
def _log(settings: Settings) -> Iterator[tuple[Store, Connection]]:
    """The log, and a connection on which a long look is not cut off."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        connection.execute("set statement_timeout = 0")
        connection.execute("set transaction_timeout = 0")
        yield ledger.store, connection


def _owned(store: Store, stream: str, merchant_id: str, missing: NotFound) -> list[Recorded]:
    events = store.history(stream)
    if not events or events[0].event.merchant_id != merchant_id:
        raise missing
    return events


def _user_streams(store: Store, connection: Connection, merchant_id: str, user_id: str) -> list[str]:
    """The user's coupons. Without any the user is unknown, unless there is a note, or the wallets are behind."""
    streams = user_streams(connection, merchant_id, user_id)
    if not streams and not store.history(subject_stream(merchant_id, user_id)):
        streams = user_streams_at(connection, merchant_id, user_id, store.head())
        if not streams:
            raise _unknown("user", user_id, merchant_id)
    return streams


def _unknown(what: str, id: str, merchant_id: str) -> click.ClickException:
    return click.ClickException(f"the ledger knows no {what} {id} of merchant {merchant_id}")


def _then(connection: Connection, asked: Mapping[str, Any]) -> Moment | None:
    """The moment that the options say; ``None`` where they say none."""
    if not any(asked.values()):
        return None
    return _moment(connection, {"at": "--at", "known_at": "--known-at", "position": "--position"}, **asked)


def _until(connection: Connection, until: datetime) -> Moment:
    return _moment(connection, {"at": "--until"}, at=until)


def _moment(connection: Connection, options: Mapping[str, str], **asked: Any) -> Moment:
    """The moment that these options say; a refusal names the option."""
    try:
        return moment(connection, **asked)
    except InvalidField as refusal:
        field = refusal.facts["field"]
        raise click.BadParameter(refusal.detail.removeprefix(f"{field} "), param_hint=options[field]) from None


def _whole(page: Page) -> Iterator[Recorded]:
    after = 0
    while found := page(after, PAGE):
        yield from found
        after = found[-1].position


def _as_of(then: Moment) -> dict[str, Any]:
    return {"at": text_of(then.at), "known_at": text_of(then.known_at), "known_position": then.known.position}


def _show_events(events: Sequence[Recorded] | Iterator[Recorded], until: datetime | None, as_json: bool) -> None:
    if until is not None:
        raise click.UsageError("--until needs the moment before: --at, --known-at or --position")
    shown = [published(recorded) for recorded in events]
    if as_json:
        _echo_json(shown)
    else:
        show_rows([_row(event) for event in shown], as_json)


def _show_state(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        _echo_json(found)
        return
    for name, value in found.items():
        if name not in ("known", "true"):
            click.echo(f"{name:<15} {_cell(value)}")
    known, true = _members(found["known"]), _members(found["true"])
    show_rows([StateRow(name, known.get(name, ""), true.get(name, "")) for name in {**known, **true}], as_json)


def _show_difference(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        _echo_json(found)
        return
    changed = found["changed"].items()
    show_rows([ChangeRow(name, *_cells(each["before"], each["after"])) for name, each in changed], as_json)
    show_rows([_row(event) for event in found["events"]], as_json)


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
