"""``coupon-ledger verify``: whether the ledger keeps its promises, by its own data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from coupon_ledger.commands.output import WIDTH_IN_FILES, json_option
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings
from projections.verify import run
from projections.verify.report import IDS, Outcome, Report, check_ids


@click.command()
@click.option("--only", metavar="CHECK,...", help=f"Of {', '.join(IDS)}. [default: all]")
@json_option
@click.pass_context
def verify(context: click.Context, only: str | None, as_json: bool) -> None:
    """Read the whole log, and check every promise that data can show.

    Writers go on meanwhile, and wait for nothing. Exit code 1: something is wrong; the line names the first position.
    """
    try:
        asked = check_ids([name.strip() for name in only.split(",")]) if only is not None else IDS
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from None
    settings: Settings = context.obj
    with servers(settings) as resolved, _bars() as told:
        report = run.verify(resolved.database(), seal=resolved.sealed_in, only=asked, progress=told)
    if as_json:
        shown = {"ok": report.ok, "first_bad_position": report.first_bad_position} | asdict(report)
        click.echo(orjson.dumps(_named(shown), option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
    else:
        _show(report)
    if not report.ok:
        click.echo(f"coupon-ledger: {_first_line(report)}", err=True)
        context.exit(1)


def _first_line(report: Report) -> str:
    wrong = [check for check in report.checks if not check.ok]
    first, at = report.first_wrong, report.first_bad_position
    place = "at no position of the log" if at is None else f"first at position {at}"
    return f"not as it must be: {', '.join(check.id for check in wrong)}, {place} ({first.id if first else ''})"


def _show(report: Report) -> None:
    table = Table("check", "", "looked at", "sentence", box=None)
    for check in report.checks:
        table.add_row(check.id, "ok" if check.ok else f"{check.wrong} WRONG", f"{check.looked_at}", _told(check))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES).print(table)
    click.echo(f"the log to position {report.position}, in {report.seconds:.1f} s")


def _told(check: Outcome) -> str:
    lines = [check.sentence + (f" ({check.note})" if check.note else "")]
    for finding in check.findings:
        place = "" if finding.position is None else f"position {finding.position}, "
        about = "" if finding.stream is None else f"{finding.stream}: "
        lines.append(f"- {place}{about}expected {finding.expected}; found {finding.found}")
    if check.wrong > len(check.findings):
        lines.append(f"- and {check.wrong - len(check.findings)} more")
    if check.not_here:
        lines.append(f"  {check.not_here}")
    return "\n".join(lines).replace("[", r"\[")


def _named(value: object) -> object:
    """As ``value``, but a finding is an object with names."""
    if isinstance(value, dict):
        return {name: _named(each) for name, each in value.items()}
    if hasattr(value, "_asdict"):
        return value._asdict()
    return [_named(each) for each in value] if isinstance(value, list) else value


@contextmanager
def _bars() -> Iterator[run.Progress]:
    """A bar for each part of the work on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>12}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def tell(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(part, total=total)
            bars.update(tasks[part], completed=done, total=total)

        yield tell
