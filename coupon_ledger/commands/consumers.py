"""``coupon-ledger consumers``: those who read Kafka."""

from __future__ import annotations

import click

from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from projections import standings


@click.group()
def consumers() -> None:
    """Watch the consumers of Kafka topics."""


@consumers.command()
@json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show each partition's offsets and lag, and what waits or is dead of it."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_rows(standings.consumers(connection, standings.open_letters(connection)), as_json)
