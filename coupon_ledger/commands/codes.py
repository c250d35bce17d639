"""``coupon-ledger codes``: redemption codes in files."""

from __future__ import annotations

import csv
import getpass
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger import code_jobs, use_cases
from ledger.application import Ledger
from ledger.codes import SET_LIMIT, CodeKeys, CodeList
from ledger.errors import BatchNotFound, CodesNotFound, InvalidField, NotFound
from ledger.request import Request

job_option = click.option("--job", help="A name for this job: the same name again goes on where it was cut off.")


@click.group()
def codes() -> None:
    """Generate, export, import and revoke redemption codes."""


@codes.command()
@click.option("--batch", "batch_id", required=True, help="The batch whose coupons the codes are exchanged for.")
@click.option("--count", required=True, type=click.IntRange(1, SET_LIMIT), help="How many.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file that they are written to.")
@job_option
@click.pass_obj
def generate(settings: Settings, batch_id: str, count: int, out: Path, job: str | None) -> None:
    """Make unique codes and write them to a file, once: afterwards nobody can read them from the ledger."""
    job = job or uuid.uuid4().hex
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        request = _request(ledger, f"batch-{batch_id}", BatchNotFound, f"generate {job}")
        _check_free(out)
        click.echo(f"if it is cut off, go on with --job {job}", err=True)
        keys = resolved.keys_of_codes()
        with _bar("generated", count) as show:
            made = code_jobs.generate(ledger, keys, request, batch_id, count, show)
        _export(ledger, keys, request, made.answer["codes_id"], out)


@codes.command()
@click.argument("codes_id")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file that they are written to.")
@click.pass_obj
def export(settings: Settings, codes_id: str, out: Path) -> None:
    """Write generated codes that were not handed over yet to a file, once."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        request = _request(ledger, f"codes-{codes_id}", CodesNotFound, f"export {uuid.uuid4().hex}")
        _check_free(out)
        _export(ledger, resolved.keys_of_codes(), request, codes_id, out)


@codes.command("import")
@click.option("--batch", "batch_id", required=True, help="The batch whose coupons the codes are exchanged for.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@job_option
@click.pass_obj
def import_(settings: Settings, batch_id: str, file: Path, job: str | None) -> None:
    """Take over codes made elsewhere, one a line or the first column of CSV; all of them, or none."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        request = _request(ledger, f"batch-{batch_id}", BatchNotFound, f"import {job or uuid.uuid4().hex}")
        listed = CodeList.read(_lines(file))
        try:
            made = code_jobs.import_codes(ledger, resolved.keys_of_codes(), request, batch_id, listed)
        except InvalidField as refusal:
            for number, why in refusal.facts.get("faults", ()):
                click.echo(f"{file.name}:{number}: {why}", err=True)
            raise
    click.echo(f"{made.answer['codes_id']} {made.answer['count']} codes")


@codes.command()
@click.argument("codes_id")
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def revoke(settings: Settings, codes_id: str, reason: str) -> None:
    """End a set of codes; coupons that they were exchanged for stay."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        request = _request(ledger, f"codes-{codes_id}", CodesNotFound, f"revoke {uuid.uuid4().hex}")
        ledger.do(use_cases.revoke_codes(request, codes_id, reason=reason))
    click.echo(f"revoked {codes_id}")


def _request(ledger: Ledger, stream: str, missing: type[NotFound], job: str) -> Request:
    """The envelope, for the merchant whose stream it is. A job's key begins with a space, which no caller's does."""
    history = ledger.store.history(stream)
    if not history:
        raise missing(id=stream.partition("-")[2])
    return Request(history[0].event.merchant_id, f"cli:{getpass.getuser()}", f" codes {job}")


def _export(ledger: Ledger, keys: CodeKeys, request: Request, codes_id: str, out: Path) -> None:
    """Write the file as a whole, and confirm when it is on the disk."""
    count = code_jobs.owned_codes(ledger, request.merchant_id, codes_id).generated.count
    lines = code_jobs.export(ledger, keys, request.merchant_id, codes_id)
    part = out.with_name(f".{out.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as file, _bar("written", count) as show:
        file.write("code\r\n")
        for number, line in enumerate(lines, 1):
            file.write(line + "\r\n")
            if number % code_jobs.CHUNK == 0 or number == count:
                show(number, count)
        file.flush()
        os.fsync(descriptor)
    _check_free(out)
    part.rename(out)
    folder = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    confirmation = Request(request.merchant_id, request.actor, f"{request.request_id} exported")
    code_jobs.confirm_export(ledger, confirmation, codes_id)
    click.echo(f"{codes_id} {count} codes in {out}")


def _check_free(out: Path) -> None:
    if out.exists():
        raise click.BadParameter(f"{out} is there already", param_hint="--out")


def _lines(file: Path) -> list[str]:
    """A row's first cell for each line of the file; a heading ``code`` counts for nothing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines: list[str] = []
            reader = csv.reader(opened)
            for row in reader:
                lines += [""] * (reader.line_num - 1 - len(lines))
                lines.append(row[0] if row else "")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidField(f"{file.name} is no UTF-8 text of one code a line: {error}") from None
    if lines and lines[0].strip().lower() == "code":
        lines[0] = ""
    return lines


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done, _: bars.update(task, completed=done)
