"""``coupon-ledger reconcile``: an order system's own file against the ledger, and commands that mend what differs."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson

from coupon_ledger.commands.output import json_option
from coupon_ledger.commands.times import time
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from projections.reconcile import proposals
from projections.reconcile.compare import BadLines, Comparison, Finding, Summary, comparison
from projections.reconcile.orders_file import FileFormat, read_orders
from projections.reconcile.proposals import Answer

FORMATS: dict[str, FileFormat] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
FINDINGS_SHOWN = 100
"""By a table for people; --json has all."""
Write = Callable[[bytes], object]
a_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--orders", type=a_file, help="The order system's file, .csv or .ndjson.")
@click.option("--merchant", help="Whose orders they are.")
@click.option("--format", "format_", type=click.Choice(["csv", "ndjson"]), help="By the file's name where left out.")
@click.option("--since", type=time, help="Of uses that the file may lack. RFC 3339.")
@click.option("--until", type=time, help="The same, up to before this time.")
@click.option("--propose", type=click.Path(path_type=Path), help="A new file for commands that would mend it.")
@click.option("--proposed-by", default=getpass.getuser, show_default="your login", help="Who proposes them.")
@click.option("--apply", "applied", type=a_file, help="A file of proposals, to be done.")
@click.option("--approved-by", help="Who approves them; another than who proposed them.")
@json_option
@click.pass_context
def reconcile(
    context: click.Context,
    /,
    orders: Path | None,
    merchant: str | None,
    applied: Path | None,
    approved_by: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Compare an order system's file with the ledger, or do what was proposed and approved.

    Exit code 1: they differ, or a proposal was refused. With --json each line is an object, the last the summary.
    """
    settings: Settings = context.obj
    if applied is not None:
        if orders is not None or said["propose"] is not None:
            raise click.UsageError("--apply goes with neither --orders nor --propose")
        if approved_by is None:
            raise click.UsageError("--apply needs --approved-by")
        ok = _apply(settings, applied, approved_by, as_json)
    else:
        if orders is None or merchant is None:
            raise click.UsageError("--orders and --merchant are needed, or --apply and --approved-by")
        ok = _compare(settings, orders, merchant, as_json, **said)
    if not ok:
        context.exit(1)


def _compare(
    settings: Settings,
    orders: Path,
    merchant: str,
    as_json: bool,
    *,
    format_: FileFormat | None,
    since: datetime | None,
    until: datetime | None,
    propose: Path | None,
    proposed_by: str,
) -> bool:
    format_ = format_ or FORMATS.get(orders.suffix)
    if format_ is None:
        raise click.BadParameter("the file's name does not say: name csv or ndjson", param_hint="--format")
    if propose is not None:
        proposals.check_name("proposed_by", proposed_by)
    with _new_file(propose) as write, servers(settings) as resolved, open_ledger(resolved) as ledger:
        try:
            with comparison(resolved.database(), merchant, read_orders(orders, format_), since, until) as compared:
                _tell(ledger, merchant, compared, write, proposed_by, as_json)
        except BadLines as bad:
            for number, why in bad.facts["faults"]:
                click.echo(f"{orders.name}:{number}: {why}", err=True)
            raise
    _show_summary(compared.summary, as_json)
    return compared.summary.ok


def _tell(
    ledger: Ledger, merchant: str, compared: Comparison, write: Write | None, proposed_by: str, as_json: bool
) -> None:
    """Each finding as it comes, and the proposals into their file."""
    findings = compared.findings()
    if write is None:
        for number, finding in enumerate(findings):
            _show(finding, None, as_json, number)
        return
    number = 0
    for answer in proposals.answers(ledger, merchant, findings, proposed_by):
        if answer.proposal is not None:
            write(answer.proposal.to_line())
        for finding in answer.findings:
            _show(finding, answer, as_json, number)
            number += 1


@contextmanager
def _new_file(path: Path | None) -> Iterator[Write | None]:
    """What is written within lies in the new file at the end, whole; where something goes wrong there is none."""
    if path is None:
        yield None
        return
    if os.path.lexists(path):
        raise click.BadParameter(f"{path} is there already", param_hint="--propose")
    part = path.with_name(f".{path.name}.part")
    try:
        file = part.open("wb")
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--propose") from None
    try:
        with file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise click.ClickException(f"{path} was not written: {error.strerror or error}") from None
        raise


def _apply(settings: Settings, path: Path, approved_by: str, as_json: bool) -> bool:
    approved = proposals.approve(path, approved_by)
    results: dict[str, int] = {"done": 0, "done before": 0, "refused": 0}
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        for outcome in proposals.apply(ledger, approved):
            refused = outcome.result not in results
            results["refused" if refused else outcome.result] += 1
            if as_json:
                click.echo(orjson.dumps(outcome._asdict()))
            else:
                at = f" at position {outcome.position}" if outcome.position is not None else f": {outcome.detail}"
                click.echo(f"line {outcome.line}: {outcome.operation} {outcome.result}{at}")
    if as_json:
        click.echo(orjson.dumps({"summary": {"proposals": len(approved.proposals)} | results}))
    else:
        click.echo(
            f"{len(approved.proposals)} proposals: " + ", ".join(f"{number} {word}" for word, number in results.items())
        )
    return not results["refused"]


def _show(finding: Finding, answer: Answer | None, as_json: bool, number: int) -> None:
    if as_json:
        told = {} if answer is None else {"mend": answer.told, "request_id": _request_id(answer)}
        click.echo(orjson.dumps(asdict(finding) | told, option=orjson.OPT_UTC_Z))
    elif number < FINDINGS_SHOWN:
        place = "" if finding.line is None else f" (line {finding.line})"
        click.echo(f"{finding.kind}: order {finding.order_id}, coupon {finding.coupon_id}{place}")
        if finding.differs and finding.kind == "differing":
            click.echo(f"  differs in {', '.join(finding.differs)}")
        if finding.told is not None:
            click.echo(f"  order system: {_words(finding.told)}")
        click.echo(f"  ledger: {_words(finding.ledger)}")
        if answer is not None:
            click.echo(f"  proposed: {answer.told}" if answer.proposal is not None else f"  {answer.told}")
    elif number == FINDINGS_SHOWN:
        click.echo("and more: --json tells all of them")


def _request_id(answer: Answer) -> str | None:
    return None if answer.proposal is None else answer.proposal.request_id


def _words(said: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_word(value)}" for name, value in said.items() if value is not None)


def _word(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _show_summary(summary: Summary, as_json: bool) -> None:
    if as_json:
        said = asdict(summary) | {"money": [money._asdict() for money in summary.money], "ok": summary.ok}
        click.echo(orjson.dumps({"summary": said}, option=orjson.OPT_UTC_Z))
        return
    span = f" from {_word(summary.since)} to {_word(summary.until)}"
    click.echo(f"{summary.lines} lines against {summary.uses} uses of the ledger{span}, at position {summary.position}")
    click.echo(
        f"{summary.equal} equal, {summary.missing} missing in the ledger, {summary.extra} extra in the ledger,"
        f" {summary.differing} differing"
    )
    for money in summary.money:
        click.echo(
            f"taken off, in minor units of {money.currency}:"
            f" {money.told_minor} by the file, {money.ledger_minor} by the ledger"
        )
