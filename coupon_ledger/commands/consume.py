"""``coupon-ledger consume``: what comes in over Kafka."""

from __future__ import annotations

import click

from consumers.inputs import BY_NAME
from consumers.worker import run, stop_on_signals
from coupon_ledger.commands.output import log_to_stderr
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings


@click.command()
@click.argument("name", type=click.Choice(list(BY_NAME)))
@click.option(
    "--business-time",
    type=click.Choice(["live", "message"]),
    help="Which clock decides: the database's (live), or each message's time when history is imported.",
)
@click.pass_obj
def consume(settings: Settings, name: str, business_time: str | None) -> None:
    """Consume a Kafka topic: issuance, orders, members, or reminders that are due."""
    log_to_stderr()
    stop = stop_on_signals()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        run(
            ledger,
            resolved.bootstrap_servers,
            BY_NAME[name],
            stop,
            prefix=resolved.topic_prefix,
            business_time=business_time or resolved.business_time,
            wait_seconds=resolved.message_wait_seconds,
            consumer=resolved.consumer_session(),
        )
