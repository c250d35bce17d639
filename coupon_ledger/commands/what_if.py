"""``coupon-ledger what-if``: the past decided again under another limit or stacking rule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import get_args

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn
from rich.table import Table

from coupon_ledger.commands.output import WIDTH_IN_FILES, json_option
from coupon_ledger.commands.times import time
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings
from ledger.batch import QUANTITY_LIMIT
from ledger.merchants import check_known
from ledger.terms import StackingMode
from projections.what_if import limits, stacking
from projections.what_if.report import LISTED, LostOrder, Refused, Report

SHOWN = 20
"""Coupons and orders in a table for people; --json has a thousand of each."""
NUMBER = click.IntRange(1, QUANTITY_LIMIT)


@click.command(name="what-if")
@click.option("--merchant", required=True, help="Whose batch or template it is.")
@click.option("--batch", "batch_id", help="The batch whose limits would have been others.")
@click.option("--quantity", type=NUMBER, help="All that it may issue, whatever it was changed to.")
@click.option("--per-user-limit", type=NUMBER, help="Coupons of one user.")
@click.option("--per-day-limit", type=NUMBER, help="Coupons of one day, in the zone of the batch.")
@click.option("--per-user-day-limit", type=NUMBER, help="Coupons of one user on one day.")
@click.option("--template", "template_id", help="The template whose stacking rule would have been another.")
@click.option("--stacking", "mode", type=click.Choice(get_args(StackingMode)), help="The rule, in all versions of it.")
@click.option("--stacking-group", "group", help="The group, of the rule group.")
@click.option("--since", type=time, help="The change holds from then on. RFC 3339. [default: always]")
@click.option("--until", type=time, help="The change holds before then. [default: always]")
@json_option
@click.pass_obj
def what_if(
    settings: Settings,
    /,
    merchant: str,
    batch_id: str | None,
    template_id: str | None,
    mode: StackingMode | None,
    group: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **said: int | None,
) -> None:
    """Read the log, and say what would not have happened. Nothing is written."""
    changed = {name: value for name, value in said.items() if value is not None}
    if (batch_id is None) == (template_id is None):
        raise click.UsageError("name --batch or --template")
    if batch_id is not None and (not changed or mode is not None or group is not None):
        raise click.UsageError("--batch goes with a quantity or limits, at least one of them")
    if template_id is not None and (changed or mode is None):
        raise click.UsageError("--template goes with --stacking alone")
    if since is not None and until is not None and since >= until:
        raise click.BadParameter("lies before --until", param_hint="--since")
    with servers(settings) as resolved, _bar() as progress:
        with resolved.database().connect() as connection:
            check_known(connection, merchant)
        if batch_id is not None:
            report = limits.judge(
                resolved.database(), merchant, batch_id, changed, since=since, until=until, progress=progress
            )
        else:
            assert template_id is not None
            assert mode is not None
            report = stacking.judge(
                resolved.database(), merchant, template_id, mode, group, since=since, until=until, progress=progress
            )
    if as_json:
        click.echo(orjson.dumps(report.as_record(), option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
    else:
        _show(report)


def _show(report: Report) -> None:
    change = ", ".join(f"{name} {value}" for name, value in report.changed.items())
    click.echo(f"{report.about} with {change}, by the log to position {report.position}")
    codes = ", ".join(f"{code} {count}" for code, count in sorted(report.refused.items()))
    click.echo(f"requests decided again: {report.requests}; refused: {report.requests_refused}")
    click.echo(f"coupons refused: {report.refused.total()}" + (f" ({codes})" if codes else ""))
    click.echo(f"lost with them: {report.locks_lost} locks, {report.uses_lost} uses in {len(report.orders)} orders")
    click.echo(f"discount not given: {_money(report.discount_minor())}")
    click.echo(f"of that given back since: {_money(report.returned_minor)}")
    click.echo(f"paid totals of those orders: {_money(report.paid_minor())}")
    if report.not_judged:
        click.echo(f"not judged, for the rules of today refuse them without the change too: {report.not_judged}")
    for sentence in report.cannot_know:
        click.echo(f"cannot be known: {sentence}")
    _table("coupon", Refused._fields, report.listed[:SHOWN], report.refused.total())
    _table("order", LostOrder._fields, list(report.orders.values())[:SHOWN], len(report.orders))


def _table(name: str, columns: tuple[str, ...], rows: list[Refused] | list[LostOrder], count: int) -> None:
    if not rows:
        return
    table = Table(*(column.replace("_", " ") for column in columns), box=None)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell).replace("[", r"\[") for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES).print(table)
    if count > len(rows):
        click.echo(f"and {count - len(rows)} more; --json names {LISTED} of each {name}")


def _money(by_currency: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{minor} minor units of {currency}" for currency, minor in sorted(by_currency.items()) if minor)
        or "0"
    )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (BarColumn(40), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
