"""``coupon-ledger history`` and ``coupon-ledger explain``: what was, what was known, and why something was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, TypeVar, get_args

import click
from pydantic import ValidationError

from api.explanation_bodies import ExplanationBody
from api.explanations import explained
from coupon_ledger.commands.history_output import show_difference, show_events, show_explanation, show_state
from coupon_ledger.commands.output import json_option
from coupon_ledger.commands.times import time
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.errors import BatchNotFound, CouponNotFound, InvalidField, InvalidPeriod, NotFound
from ledger.events import Recorded
from ledger.history import batches, coupons, differences, holders, reading
from ledger.history.differences import Basis
from ledger.history.moment import Connection, Moment, moment
from ledger.merchants import check_known
from ledger.store import Store
from ledger.subjects import subject_stream
from projections.timelines import user_page, user_streams

PAGE = 1_000
"""Events that are read at once."""
Command = TypeVar("Command", bound=Callable[..., Any])
Page = Callable[[int, int], list[Recorded]]


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


def difference_options(command: Command) -> Command:
    """The second moment, and by what the two are compared."""
    for option in (
        click.option("--basis", type=click.Choice(get_args(Basis)), help="With --until: what was known, or was true."),
        click.option("--until-position", type=click.IntRange(1), help="Instead: to the last position that it held."),
        click.option("--until", type=time, help="What changed from that moment to this one."),
    ):
        command = option(command)
    return command


@click.group()
def history() -> None:
    """Read the past of a coupon, an order, a user or a batch: every event, or the state at a moment."""


@history.command()
@click.argument("id")
@difference_options
@moment_options
@click.pass_obj
def coupon(settings: Settings, /, id: str, merchant_id: str, as_json: bool, **asked: Any) -> None:
    """Show a coupon: its events, its state at a moment, or what changed between two."""
    with _log(settings, merchant_id) as (store, connection):
        then, end, basis = _moments(connection, **asked)
        events = _owned(store, connection, f"coupon-{id}", merchant_id, end or then, CouponNotFound(id=id))
        if then is None:
            show_events(events, as_json)
        elif end is None:
            show_state(then, coupons.coupon_moment(events, then), as_json)
        else:
            found = _in_order(asked, lambda: differences.coupon_difference(events, then, end, basis))
            show_difference(then, end, found, as_json)


@history.command()
@click.argument("id")
@difference_options
@moment_options
@click.pass_obj
def batch(settings: Settings, /, id: str, merchant_id: str, as_json: bool, **asked: Any) -> None:
    """Show a batch: its events, its state and its coupons' at a moment, or what changed between two."""
    with _log(settings, merchant_id) as (store, connection):
        then, end, basis = _moments(connection, **asked)
        events = _owned(store, connection, f"batch-{id}", merchant_id, end or then, BatchNotFound(id=id))
        if then is None:
            show_events(events, as_json)
        elif end is None:
            show_state(then, batches.batch_moment(connection, events, then, None), as_json)
        else:
            found = _in_order(asked, lambda: differences.batch_difference(connection, events, then, end, basis, None))
            show_difference(then, end, found, as_json)


@history.command()
@click.argument("id")
@difference_options
@moment_options
@click.pass_obj
def order(settings: Settings, /, id: str, merchant_id: str, as_json: bool, **asked: Any) -> None:
    """Show an order: the events of all coupons that it ever locked, what it held and had used, or what changed."""
    with _log(settings, merchant_id) as (store, connection):
        then, end, basis = _moments(connection, **asked)
        if not reading.order_streams(connection, merchant_id, id):
            raise _unknown("order", id, merchant_id)
        if then is None:
            pages = _whole(lambda *place: reading.order_page(store, connection, merchant_id, id, *place))
            show_events(pages, as_json)
        elif end is None:
            show_state(then, holders.order_moment(store, connection, merchant_id, id, then), as_json)
        else:
            found = _in_order(
                asked, lambda: differences.order_difference(store, connection, merchant_id, id, then, end, basis)
            )
            show_difference(then, end, found, as_json)


@history.command()
@click.argument("id")
@difference_options
@moment_options
@click.pass_obj
def user(settings: Settings, /, id: str, merchant_id: str, as_json: bool, **asked: Any) -> None:
    """Show a user: the events of all coupons that the user ever had or might use, the wallet, or what changed."""
    with _log(settings, merchant_id) as (store, connection):
        then, end, basis = _moments(connection, **asked)
        streams = _user_streams(store, connection, merchant_id, id, end or then)
        if then is None:
            pages = _whole(lambda *place: user_page(store, connection, merchant_id, id, *place))
            show_events(pages, as_json)
            return
        histories = reading.histories(store, connection, streams, (end or then).true.position)
    if end is None:
        show_state(then, holders.user_moment(histories, id, then), as_json)
    else:
        found = _in_order(asked, lambda: differences.user_difference(histories, id, then, end, basis))
        show_difference(then, end, found, as_json)


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
    with _log(settings, merchant_id) as (store, connection):
        found = explained(store, connection, merchant_id, body, None)
    show_explanation(found, as_json)


# --- what they share ------------------------------------------------------------------------------------


@contextmanager
def _log(settings: Settings, merchant_id: str) -> Iterator[tuple[Store, Connection]]:
    """The log, and a connection on which a long look is not cut off. Raises ``UnknownMerchant``."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        check_known(connection, merchant_id)
        connection.execute("set statement_timeout = 0")
        connection.execute("set transaction_timeout = 0")
        yield ledger.store, connection


def _owned(
    store: Store, connection: Connection, stream: str, merchant_id: str, then: Moment | None, missing: NotFound
) -> list[Recorded]:
    """A stream of the merchant, as far as the moment counts its events."""
    end = reading.LAST_POSITION if then is None else then.true.position
    events = reading.history_until(store, connection, stream, end)
    if not events or events[0].event.merchant_id != merchant_id:
        raise missing
    return events


def _user_streams(
    store: Store, connection: Connection, merchant_id: str, user_id: str, then: Moment | None
) -> list[str]:
    """The user's coupons, as far as the moment counts them. Without any, and without a note, the user is unknown."""
    end = store.head() if then is None else then.true.position
    streams = user_streams(connection, merchant_id, user_id, end)
    if not streams and not store.history(subject_stream(merchant_id, user_id)):
        raise _unknown("user", user_id, merchant_id)
    return streams


def _unknown(what: str, id: str, merchant_id: str) -> click.ClickException:
    return click.ClickException(f"the ledger knows no {what} {id} of merchant {merchant_id}")


def _moments(
    connection: Connection,
    *,
    until: datetime | None,
    until_position: int | None,
    basis: Basis | None,
    **asked: Any,
) -> tuple[Moment | None, Moment | None, Basis]:
    """The moments that the options say, ``None`` for those that they do not, and by what the two are compared."""
    if until is not None and until_position is not None:
        raise click.UsageError("one of --until and --until-position")
    two = until is not None or until_position is not None
    if basis is not None and not two:
        raise click.UsageError("--basis needs two moments: add --until or --until-position")
    then = end = None
    if any(asked.values()):
        then = _moment(connection, {"at": "--at", "known_at": "--known-at", "position": "--position"}, **asked)
    elif two:
        raise click.UsageError("--until needs the moment before: --at, --known-at or --position")
    if two:
        options = {"at": "--until", "position": "--until-position"}
        end = _moment(connection, options, at=until, position=until_position)
    return then, end, basis or "known"


def _moment(connection: Connection, options: Mapping[str, str], **asked: Any) -> Moment:
    """The moment that these options say; a refusal names the option."""
    try:
        return moment(connection, **asked)
    except InvalidField as refusal:
        field = refusal.facts["field"]
        raise click.BadParameter(refusal.detail.removeprefix(f"{field} "), param_hint=options[field]) from None


def _in_order(asked: Mapping[str, Any], compare: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The comparison; where the first moment lies after the second, the refusal names the option that says this."""
    try:
        return compare()
    except InvalidPeriod as refusal:
        option = "--until" if asked["until_position"] is None else "--until-position"
        raise click.BadParameter(refusal.detail, param_hint=option) from None


def _whole(page: Page) -> Iterator[Recorded]:
    after = 0
    while found := page(after, PAGE):
        yield from found
        after = found[-1].position
