"""``coupon-ledger projections``: the read models."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from coupon_ledger.commands.output import json_option, show_record, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.database import PROJECTOR_ROLE
from projections import faults, queries
from projections import rebuild as rebuilding
from projections.catalogue import PROJECTIONS, VERSIONS
from projections.difference import Difference
from projections.projection import Projection
from projections.refold import Progress as Told

BY_NAME = {projection.name: projection for projection in PROJECTIONS}
name_argument = click.argument("name", type=click.Choice(list(BY_NAME)))


@click.group()
def projections() -> None:
    """Watch, rebuild and resume the read models."""


@projections.command()
@json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show each read model's position and lag."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_rows(queries.status(connection), as_json)


@projections.command()
@name_argument
@json_option
@click.pass_obj
def inspect(settings: Settings, name: str, as_json: bool) -> None:
    """Show where a read model stands, and the event that stopped it, as it is stored."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_record(faults.inspect(connection, name), as_json)


@projections.command()
@name_argument
@click.pass_obj
def retry(settings: Settings, name: str) -> None:
    """Let a faulted read model go on at the event that stopped it."""
    with servers(settings) as resolved:
        stopped = faults.retry(resolved.database(PROJECTOR_ROLE), name)
        click.echo(f"{name} goes on" if stopped else f"{name} runs: there is nothing to retry")


@projections.command()
@name_argument
@click.option("--reason", required=True, help="Why this read model can do without the event; kept for ever.")
@click.option("--position", type=int, help="Skip only if it is the event at this position that stopped it.")
@click.option("--by", help="Who decided it. [default: the user of this shell]")
@click.pass_obj
def skip(settings: Settings, name: str, reason: str, position: int | None, by: str | None) -> None:
    """Let a faulted read model pass over the one event that stopped it, and write that down."""
    if not reason.strip():
        raise click.UsageError("say the reason")
    with servers(settings) as resolved:
        database = resolved.database(PROJECTOR_ROLE)
        done = faults.skip(database, name, reason=reason, actor=by or f"cli:{getpass.getuser()}", position=position)
        click.echo(f"{name} passes over position {done.position} ({done.topic or 'missing from the log'}) and goes on")


@projections.command()
@click.argument("name", type=click.Choice(list(BY_NAME)), required=False)
@json_option
@click.pass_obj
def skips(settings: Settings, name: str | None, as_json: bool) -> None:
    """List the events that read models, or one of them, were let pass over."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_rows(faults.skips(connection, name), as_json)


@projections.command()
@click.argument("name", type=click.Choice(list(BY_NAME)), required=False)
@click.option("--all", "outdated", is_flag=True, help="Every read model that this release has in another version.")
@click.option("--fold-skipped", is_flag=True, help="Fold the events that it was let pass over, from now on.")
@click.option("--by", help="With --fold-skipped: who decided it. [default: the user of this shell]")
@click.pass_obj
def rebuild(settings: Settings, name: str | None, outdated: bool, fold_skipped: bool, by: str | None) -> None:
    """Fold the whole log again beside the live table, compare, and switch."""
    if (name is None) != outdated:
        raise click.UsageError("say which: a NAME, or --all that are outdated")
    if fold_skipped and name is None:
        raise click.UsageError("--fold-skipped needs a NAME: another version folds what was skipped anyway")
    if by is not None and not fold_skipped:
        raise click.UsageError("--by is of --fold-skipped")
    skipped_by = (by or f"cli:{getpass.getuser()}") if fold_skipped else None
    with servers(settings) as resolved:
        if name is not None:
            names = [name]
        else:
            with open_ledger(resolved) as ledger, ledger.store.connection() as connection:
                live = {model.name: model.version for model in queries.status(connection)}
            names = [each for each, version in VERSIONS.items() if live.get(each, version) != version]
            if not names:
                click.echo("none is outdated")
        for each in names:
            with progress_bar(each) as told:
                database = resolved.database(PROJECTOR_ROLE)
                rebuilt = rebuilding.rebuild(database, BY_NAME[each], told, fold_skipped_by=skipped_by)
            _tell(rebuilt)


@projections.command("switch-back")
@name_argument
@click.pass_obj
def switch_back(settings: Settings, name: str) -> None:
    """Put the table that the last rebuild put aside in place again, up to date, and keep the other one."""
    with servers(settings) as resolved, progress_bar(name) as told:
        done = rebuilding.switch_back(resolved.database(PROJECTOR_ROLE), BY_NAME[name], told)
    click.echo(f"{name} switched back at position {done.position}: {done.folded} events were folded into it first")


@projections.command("drop-before")
@name_argument
@click.pass_obj
def drop_before(settings: Settings, name: str) -> None:
    """Free the room of the table that the last rebuild put aside."""
    with servers(settings) as resolved:
        rebuilding.drop_before(resolved.database(PROJECTOR_ROLE), BY_NAME[name])
    click.echo(f"{name} has no table of before any more")


@contextmanager
def progress_bar(title: str) -> Iterator[Told]:
    """Where somebody looks, a bar that is told how many positions are done, and of how many."""
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def chosen(names: str | None) -> list[Projection]:
    """The read models that an option names, separated by commas; all where it names none."""
    if names is None:
        return list(PROJECTIONS)
    asked = [name.strip() for name in names.split(",")]
    if unknown := [name for name in asked if name not in BY_NAME]:
        raise click.UsageError(f"no read model {unknown[0]!r}: there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in dict.fromkeys(asked)]


def differs(found: Difference) -> str:
    """What two tables hold differently, in a line."""
    key = " ".join(f"{name}={value}" for name, value in (found.first_key or {}).items())
    rows = f"{found.differing} row{'s' if found.differing > 1 else ''} DIFFERENT"
    return f"{rows}, the first at {key}"


def _tell(rebuilt: rebuilding.Rebuilt) -> None:
    compared = "first of their version"
    if rebuilt.difference is not None:
        compared = "as before" if rebuilt.same else f"{differs(rebuilt.difference)} from before"
    if rebuilt.skips:
        compared += f"; {rebuilt.skips} skipped as before"
    if rebuilt.folded_again:
        compared += f"; {rebuilt.folded_again} that it skipped are folded"
    if rebuilt.skips_before:
        compared += f"; {rebuilt.skips_before} that the version before skipped are folded"
    click.echo(f"{rebuilt.name} rebuilt to position {rebuilt.position}: {rebuilt.rows} rows, {compared}")
