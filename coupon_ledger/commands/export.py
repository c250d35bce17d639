"""``coupon-ledger export``: the log and the read models as files, and the check of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import get_args

import click
import orjson
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coupon_ledger.commands.output import json_option, show_record, show_rows
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings
from ledger.merchants import check_known
from projections.catalogue import VERSIONS
from projections.export import check as export_checks
from projections.export.files import Format
from projections.export.manifest import NAME
from projections.export.run import WHAT, Exported, Options
from projections.export.run import export as export_to

FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, slots=True)
class _Summary:
    """What a run wrote of one thing."""

    what: str
    position: int
    """The last of the log that the export holds."""
    skips: int
    """Events that the read model was made to pass over."""
    new_files: int
    new_rows: int
    new_bytes: int


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the check of an export found."""

    files: int
    rows: int
    bytes: int
    log_position: int | None
    findings: list[dict[str, str]]


def _chosen(_context: click.Context, _param: click.Parameter, text: str | None) -> tuple[str, ...]:
    if text is None:
        return WHAT
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in WHAT]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(WHAT)}")
    return names


@click.command()
@click.option("--to", "format", required=True, type=click.Choice(FORMATS), help="The format.")
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder, new or continued."
)
@click.option("--what", callback=_chosen, help=f"Only these, separated by commas: {', '.join(WHAT)}.")
@click.option("--merchant", "merchant_id", help="Only this merchant's rows.")
@click.option("--after", type=click.IntRange(0), help="Begin the log after this position.")
@click.option("--continue", "continue_", is_flag=True, help="Add what is new to the export in the folder.")
@click.option("--until-position", "until", type=click.IntRange(0), help="End the log at this position.")
@json_option
@click.pass_obj
def export(
    settings: Settings,
    format: Format,
    output: Path,
    what: tuple[str, ...],
    merchant_id: str | None,
    after: int | None,
    continue_: bool,
    until: int | None,
    as_json: bool,
) -> None:
    """Write the log and the read models to files in a folder, with a manifest."""
    if continue_ and after is not None:
        raise click.UsageError("--continue goes on where the export ended, so --after has no meaning with it")
    options = Options(
        format=format, what=what, merchant_id=merchant_id, after=after or 0, continue_=continue_, until=until
    )
    with servers(settings) as resolved, _bars() as show, _one_line():
        if merchant_id is not None:
            with resolved.database().connect() as connection:
                check_known(connection, merchant_id)
        done = export_to(resolved.database(), output, options, show)
    for name in done.faulted:
        click.echo(f"{name} stopped at an event, and is exported as it stood there", err=True)
    for name in done.outdated:
        model = done.manifest.models[name]
        where = f"in version {model.version} as it stands at position {model.position}"
        ours = f"this release has version {VERSIONS[name]}"
        click.echo(f"{name} is exported {where}, and {ours}: see coupon-ledger projections rebuild", err=True)
    for one in (_summary(done, name) for name in what):
        if one.skips:
            events = "1 event" if one.skips == 1 else f"{one.skips} events"
            click.echo(f"{one.what} was made to pass over {events}, see coupon-ledger projections skips", err=True)
    if as_json:
        click.echo(orjson.dumps(_record(output, done), option=orjson.OPT_INDENT_2))
        return
    show_rows([_summary(done, name) for name in what], as_json=False)
    click.echo(f"{output / NAME}  SHA-256 {_digest(output)}")


@click.command("export-check")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def export_check(folder: Path, as_json: bool) -> None:
    """Read every file of an export again, and say what is missing, changed or wrong."""
    with _bars() as show, _one_line():
        manifest, findings = export_checks.check(folder, lambda _path, done, total: show("files", done, total))
    checked = _Checked(
        files=len(manifest.files),
        rows=sum(file.rows for file in manifest.files),
        bytes=sum(file.bytes for file in manifest.files),
        log_position=None if manifest.log is None else manifest.log.last_position,
        findings=[finding._asdict() for finding in findings],
    )
    if as_json:
        show_record(checked, as_json=True)
    else:
        for finding in findings:
            click.echo(f"{finding.path}: {finding.problem}")
    if findings:
        raise click.ClickException(f"{len(findings)} wrong in {folder}")
    if not as_json:
        click.echo(f"{checked.files} files, {checked.rows} rows, {checked.bytes} bytes: as the manifest says")


def _summary(done: Exported, what: str) -> _Summary:
    files = [file for file in done.written if file.what == what]
    manifest = done.manifest
    model = manifest.models.get(what)
    log_position = manifest.log.last_position if manifest.log is not None else 0
    return _Summary(
        what=what,
        position=log_position if model is None else model.position,
        skips=0 if model is None else model.skips,
        new_files=len(files),
        new_rows=sum(file.rows for file in files),
        new_bytes=sum(file.bytes for file in files),
    )


def _record(output: Path, done: Exported) -> dict[str, object]:
    whats = (["log"] if done.manifest.log is not None else []) + list(done.manifest.models)
    summaries = [_summary(done, what) for what in whats]
    return {
        "manifest": str(output / NAME),
        "sha256": _digest(output),
        "faulted": done.faulted,
        "outdated": done.outdated,
        "exported": [{name: getattr(one, name) for name in _Summary.__slots__} for one in summaries],
    }


def _digest(output: Path) -> str:
    """Of the manifest: noted elsewhere, it holds the whole export, for the manifest has the digest of every file."""
    return sha256((output / NAME).read_bytes()).hexdigest()


@contextmanager
def _one_line() -> Iterator[None]:
    """A full disk or a folder that may not be written is told in one line."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'export'}: {error.strerror or error}") from None


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """On a terminal, a line that counts for each thing that is written."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description:<20}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
