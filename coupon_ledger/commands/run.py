"""Commands that run the whole service, and prepare it."""

from __future__ import annotations

from pathlib import Path

import click

from consumers.topics import ensure_topics
from coupon_ledger.servers import open_ledger, prepare, servers
from coupon_ledger.service import service
from coupon_ledger.settings import Settings
from ledger.errors import Unavailable
from projections.readiness import readiness


@click.command()
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder of the embedded servers' data.")
@click.pass_obj
def up(settings: Settings, state: Path | None) -> None:
    """Run everything on this machine until Ctrl-C: servers that are not given, API, consumers, projector, sweeper."""
    if state is not None:
        settings = settings.model_copy(update={"state": state})
    with service(settings) as running:
        click.echo(f"API   {running.url}\nDocs  {running.url}/docs\nLogs  {running.processes.logs}\nCtrl-C stops it.")
        running.wait()


@click.command()
@click.option("--topics", is_flag=True, help="Create the Kafka topics that are missing, too.")
@click.pass_obj
def migrate(settings: Settings, topics: bool) -> None:
    """Bring the database schema up to this release."""
    with servers(settings, kafka=topics) as resolved:
        for name in prepare(resolved):
            click.echo(f"applied {name}")
        if topics:
            ensure_topics(resolved.bootstrap_servers, resolved.topic_prefix)


@click.command()
@click.pass_obj
def ready(settings: Settings) -> None:
    """Exit with 0 when the database is reachable, migrated, and no read model is faulted or outdated."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        failed = [name for name, check in readiness(ledger.store).items() if not check["ok"]]
        if failed:
            raise Unavailable(f"not ready: {', '.join(failed)}")
