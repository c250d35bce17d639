"""``coupon-ledger verify``: whether the ledger keeps its promises, by its own data."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from coupon_ledger.commands.output import WIDTH_IN_FILES, json_option
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings
from coupon_ledger_audit.note import NoteError, opened, told_key
from projections.seal.trust import Trust
from projections.verify import run
from projections.verify.report import GIVEN, IDS, Outcome, Report, check_ids


@click.command()
@click.option("--only", metavar="CHECK,...", help=f"Of {', '.join(IDS)}. [default: all]")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VKEY|FILE",
    help="Check the seal with this public key, and none that the database names; again for a changed key.",
)
@click.option(
    "--last",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that you kept: the log must begin with what it covers; any number.",
)
@json_option
@click.pass_context
def verify(context: click.Context, only: str | None, keys: Sequence[str], last: Sequence[Path], as_json: bool) -> None:
    """Read the whole log, and check every promise that data can show.

    Writers go on meanwhile, and wait for nothing. Exit code 1: something is wrong; the line names the first position.
    """
    try:
        asked = check_ids([name.strip() for name in only.split(",")]) if only is not None else IDS
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from None
    trust = _trust(keys, last)
    if trust is not None and "I15" not in asked:
        raise click.UsageError("--key is of the check I15, which --only leaves out")
    settings: Settings = context.obj
    with servers(settings) as resolved, _bars() as told:
        report = run.verify(resolved.database(), seal=resolved.sealed_in, trust=trust, only=asked, progress=told)
    if as_json:
        shown = {"ok": report.ok, "first_bad_position": report.first_bad_position} | asdict(report)
        click.echo(orjson.dumps(_named(shown), option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
    else:
        _show(report)
    if not report.ok:
        click.echo(f"coupon-ledger: {_first_line(report)}", err=True)
        context.exit(1)


def _trust(keys: Sequence[str], last: Sequence[Path]) -> Trust | None:
    """What the auditor brings along, checked as far as it can be without the ledger."""
    if not keys:
        if last:
            raise click.UsageError("--last needs --key: the checkpoint must be signed by a key of yours")
        return None
    try:
        known = [told_key(text) for text in keys]
    except NoteError as error:
        raise click.BadParameter(str(error), param_hint="--key") from None
    kept = []
    for path in last:
        try:
            kept.append(opened(path.read_bytes(), known, known[0].name))
        except (OSError, NoteError) as error:
            raise click.BadParameter(f"{path}: {error}", param_hint="--last") from None
    return Trust(known, kept)


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
    if report.seal_keys == GIVEN:
        click.echo("the seal's keys are those given")
    elif report.seal_keys is not None:
        click.echo(
            "the seal's keys are those that the database names: who can rewrite the database can name others, "
            "so give yours with --key"
        )
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
