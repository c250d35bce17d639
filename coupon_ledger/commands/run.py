"""Commands that run the service or a part of it."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from consumers import alerts, expiry, publisher, reminder_scanner
from consumers import deliver as delivering
from consumers.job_sender import JobSender
from consumers.topics import ensure_topics
from consumers.worker import (
    calm_the_collector,
    run_issuance,
    run_members,
    run_orders,
    run_reminders,
    stop_on_signals,
)
from coupon_ledger.serve import Server
from coupon_ledger.servers import open_ledger, prepare, servers
from coupon_ledger.service import service
from coupon_ledger.settings import Settings
from ledger.database import PROJECTOR_ROLE
from ledger.errors import Unavailable
from ledger.store import Store
from projections.readiness import readiness
from projections.runner import Runner


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
def serve(settings: Settings) -> None:
    """Serve the HTTP API."""
    with servers(settings) as resolved:
        Server(resolved).run()


@click.command()
@click.argument("what", type=click.Choice(["issuance", "orders", "members", "reminders"]))
@click.option(
    "--business-time",
    type=click.Choice(["live", "message"]),
    help="Which clock decides: the database's (live), or each message's time when history is imported.",
)
@click.pass_obj
def consume(settings: Settings, what: str, business_time: str | None) -> None:
    """Consume a Kafka topic: issuance, orders, members, or reminders that are due."""
    _log_to_stderr()
    stop = stop_on_signals()
    runs = {"issuance": run_issuance, "orders": run_orders, "members": run_members, "reminders": run_reminders}
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        runs[what](
            ledger,
            resolved.bootstrap_servers,
            stop,
            prefix=resolved.topic_prefix,
            business_time=business_time or resolved.business_time,
            wait_seconds=resolved.message_wait_seconds,
            consumer=resolved.consumer_session(),
        )


@click.command()
@click.pass_obj
def project(settings: Settings) -> None:
    """Keep the read models up to date."""
    _log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings) as resolved:
        Runner(resolved.database(PROJECTOR_ROLE)).run(stop)


@click.command()
@click.option("--follow", is_flag=True, help="Go on for ever instead of one sweep.")
@click.pass_obj
def expire(settings: Settings, follow: bool) -> None:
    """Write down expiries and ends of locks that are already true by the clock."""
    _log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        if follow:
            expiry.run(ledger, stop)
        else:
            click.echo(f"{expiry.sweep(ledger)} written down")


@click.command()
@click.pass_obj
def deliver(settings: Settings) -> None:
    """Send webhooks and e-mails that are due, and follow the log for those that merchants want."""
    _log_to_stderr()
    stop = stop_on_signals()
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        delivering.run(ledger.store, resolved.sender(), stop)


@click.command()
@click.pass_obj
def publish(settings: Settings) -> None:
    """Publish every event of the log on Kafka; of several processes one works."""
    _log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        publisher.run(ledger.store, resolved.bootstrap_servers, stop, prefix=resolved.topic_prefix)


@click.command()
@click.pass_obj
def remind(settings: Settings) -> None:
    """Send reminders that are due to Kafka; of several processes one works."""
    _log_to_stderr()
    stop = stop_on_signals()
    with servers(settings, kafka=True) as resolved:
        store = Store(resolved.database(PROJECTOR_ROLE), pool_size=1)
        reminder_scanner.run(store, resolved.bootstrap_servers, stop, prefix=resolved.topic_prefix)
        store.close()


@click.command()
@click.pass_obj
def alert(settings: Settings) -> None:
    """Tell of thresholds that batches crossed, on Kafka and on channels; of several processes one works."""
    _log_to_stderr()
    stop = stop_on_signals()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        alerts.run(ledger.store, resolved.bootstrap_servers, stop, prefix=resolved.topic_prefix)


@click.command("run")
@click.pass_obj
def work_on_jobs(settings: Settings) -> None:
    """Send the rows of jobs to Kafka, finish jobs and undo them; any number of processes share the work."""
    _log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        JobSender(ledger, resolved.bootstrap_servers, prefix=resolved.topic_prefix).run(stop)


@click.command()
@click.pass_obj
def ready(settings: Settings) -> None:
    """Exit with 0 when the database is reachable, migrated, and no projection is faulted."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        failed = [name for name, check in readiness(ledger.store).items() if not check["ok"]]
        if failed:
            raise Unavailable(f"not ready: {', '.join(failed)}")


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
