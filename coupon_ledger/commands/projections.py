"""``coupon-ledger projections``: the read models."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.database import PROJECTOR_ROLE
from projections import checkpoints, queries
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild as rebuild_projection

name_argument = click.argument("name", type=click.Choice([projection.name for projection in PROJECTIONS]))


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
@click.pass_obj
def rebuild(settings: Settings, name: str) -> None:
    """Fold the whole log again beside the live table, compare, and switch."""
    projection = next(projection for projection in PROJECTIONS if projection.name == name)
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with servers(settings) as resolved, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        rebuilt = rebuild_projection(
            resolved.database(PROJECTOR_ROLE),
            projection,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    compared = {True: "as before", False: "DIFFERENT from before", None: "first of their version"}[rebuilt.same]
    click.echo(f"{name} rebuilt to position {rebuilt.position}: {rebuilt.rows} rows, {compared}")


@projections.command()
@name_argument
@click.pass_obj
def retry(settings: Settings, name: str) -> None:
    """Let a faulted read model go on from where it stopped."""
    with servers(settings) as resolved:
        checkpoints.retry(resolved.database(PROJECTOR_ROLE), name)
        click.echo(f"{name} goes on")
