"""Commands that follow the log or the clock: read models, the sweeper, and all that goes out."""

from __future__ import annotations

import click

from consumers import alerts, expiry, publisher, reminder_scanner
from consumers import deliver as delivering
from consumers.mail import MailServer
from consumers.sending import Sender
from consumers.worker import calm_the_collector, stop_on_signals
from coupon_ledger.commands.output import log_to_stderr
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.database import PROJECTOR_ROLE
from ledger.store import Store
from projections.runner import Runner


@click.command()
@click.pass_obj
def project(settings: Settings) -> None:
    """Keep the read models up to date."""
    log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings) as resolved:
        Runner(resolved.database(PROJECTOR_ROLE)).run(stop)


@click.command()
@click.option("--follow", is_flag=True, help="Go on for ever instead of one sweep.")
@click.pass_obj
def expire(settings: Settings, follow: bool) -> None:
    """Write down expiries and ends of locks that are already true by the clock."""
    log_to_stderr()
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
    log_to_stderr()
    stop = stop_on_signals()
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        delivering.run(ledger.store, _sender(resolved), stop)


@click.command()
@click.pass_obj
def publish(settings: Settings) -> None:
    """Publish every event of the log on Kafka; of several processes one works."""
    log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        publisher.run(ledger.store, resolved.bootstrap_servers, stop, prefix=resolved.topic_prefix)


@click.command()
@click.pass_obj
def remind(settings: Settings) -> None:
    """Send reminders that are due to Kafka; of several processes one works."""
    log_to_stderr()
    stop = stop_on_signals()
    with servers(settings, kafka=True) as resolved:
        store = Store(resolved.database(PROJECTOR_ROLE), pool_size=1)
        reminder_scanner.run(store, resolved.bootstrap_servers, stop, prefix=resolved.topic_prefix)
        store.close()


@click.command()
@click.pass_obj
def alert(settings: Settings) -> None:
    """Tell of thresholds that batches crossed, on Kafka and on channels; of several processes one works."""
    log_to_stderr()
    stop = stop_on_signals()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        alerts.run(ledger.store, resolved.bootstrap_servers, stop, prefix=resolved.topic_prefix)


def _sender(settings: Settings) -> Sender:
    """How deliveries reach others."""
    mail = None
    if settings.smtp_host is not None:
        mail = MailServer(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_sender,
            settings.smtp_user,
            settings.smtp_password,
            settings.smtp_tls,
        )
    hosts = {host.strip() for host in settings.webhook_private_hosts.split(",")}
    return Sender(hosts - {""}, mail)
