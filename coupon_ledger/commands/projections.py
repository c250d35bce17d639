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
from ledger.errors import LedgerError
from projections import faults, standings
from projections import rebuild as rebuilding
from projections.catalogue import PROJECTIONS
from projections.difference import Difference
from projections.projection import Projection
from projections.refold import Progress as Told

BY_NAME = {projection.name: projection for projection in PROJECTIONS}
STATUS = (
    "name",
    "version",
    "release_version",
    "state",
    "position",
    "lag_events",
    "lag_seconds",
    "skips",
    "fault",
    "updated_at",
)
name_argument = click.argument("name", type=click.Choice(list(BY_NAME)))


@click.group()
def projections() -> None:
    """Watch, rebuild and resume the read models."""


@projections.command()
@json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show each read model's state, position and lag."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_rows(standings.read_models(connection), as_json, STATUS)


@projections.command()
@name_argument
@json_option
@click.pass_obj
def inspect(settings: Settings, name: str, as_json: bool) -> None:
    """Show where a read model stands, and the event that stopped it, as it is stored."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_record(faults.inspect(connection, name), as_json)


@projections.command()
@click.argument("name", type=click.Choice(list(BY_NAME)), required=False)
@click.option("--all", "every", is_flag=True, help="Every read model that is faulted.")
@click.pass_obj
def retry(settings: Settings, name: str | None, every: bool) -> None:
    """Let a faulted read model, or all that are, go on at the event that stopped it."""
    if (name is None) != every:
        raise click.UsageError("say which: a NAME, or --all that are faulted")
    with servers(settings) as resolved:
        database = resolved.database(PROJECTOR_ROLE)
        if name is not None:
            stopped = faults.retry(database, name)
            click.echo(f"{name} goes on" if stopped else f"{name} runs: there is nothing to retry")
            return
        click.echo("\n".join(f"{each} goes on" for each in faults.retry_all(database)) or "none is faulted")


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
@click.argument("names", metavar="[NAME]...", type=click.Choice(list(BY_NAME)), nargs=-1)
@click.option("--all", "outdated", is_flag=True, help="Every read model that this release has in another version.")
@click.option("--fold-skipped", is_flag=True, help="Fold the events that it was let pass over, from now on.")
@click.option("--by", help="With --fold-skipped: who decided it. [default: the user of this shell]")
@click.pass_context
def rebuild(context: click.Context, names: tuple[str, ...], outdated: bool, fold_skipped: bool, by: str | None) -> None:
    """Fold the whole log again beside the live tables, compare, and switch.

    The log is read once for all that run. Exit code 1: one could not be rebuilt, and is as it was; the others are done.
    """
    if bool(names) == outdated:
        raise click.UsageError("say which: a NAME or several, or --all that are outdated")
    if fold_skipped and not names:
        raise click.UsageError("--fold-skipped needs a NAME: another version folds what was skipped anyway")
    if by is not None and not fold_skipped:
        raise click.UsageError("--by is of --fold-skipped")
    skipped_by = (by or f"cli:{getpass.getuser()}") if fold_skipped else None
    settings: Settings = context.obj
    with servers(settings) as resolved:
        if outdated:
            with open_ledger(resolved) as ledger, ledger.store.connection() as connection:
                live = standings.read_models(connection)
            names = tuple(model.name for model in live if model.state == "OUTDATED")
            if not names:
                click.echo("none is outdated")
                return
        models = [BY_NAME[name] for name in dict.fromkeys(names)]
        done: list[rebuilding.Rebuilt | LedgerError] = []
        try:
            with progress_bar(", ".join(names)) as told:
                database = resolved.database(PROJECTOR_ROLE)
                done.extend(rebuilding.rebuild_each(database, models, told, fold_skipped_by=skipped_by))
        finally:  # also what was done before the database went away
            for each in done:
                if isinstance(each, rebuilding.Rebuilt):
                    _tell(each)
                else:
                    click.echo(f"coupon-ledger: {each.detail} ({each.code()})", err=True)
    if any(isinstance(each, LedgerError) for each in done):
        context.exit(1)


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
