"""``coupon-ledger channels``: where merchants are told of things, and what could not be delivered there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import click

from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.telling import channels as known_channels
from ledger.telling import deliveries


@dataclass(frozen=True, slots=True)
class Row:
    """A channel as the command line shows it."""

    channel_id: str
    merchant_id: str
    name: str
    kind: str
    target: str | None
    wants: str
    created_at: datetime
    disabled_at: datetime | None


@click.group()
def channels() -> None:
    """List channels, and retry what could not be delivered."""


@channels.command("list")
@click.option("--merchant", help="Only this merchant's channels.")
@json_option
@click.pass_obj
def list_(settings: Settings, merchant: str | None, as_json: bool) -> None:
    """List channels, without their secrets."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        found = known_channels.of_merchant(connection, merchant)
    rows = [
        Row(
            channel_id=each.channel_id,
            merchant_id=each.merchant_id,
            name=each.name,
            kind=each.kind,
            target=each.target,
            wants=" ".join(each.wants),
            created_at=each.created_at,
            disabled_at=each.disabled_at,
        )
        for each in found
    ]
    show_rows(rows, as_json)


@channels.command()
@click.option("--merchant", help="Only this merchant's deliveries.")
@click.option("--channel", help="Only deliveries on this channel.")
@click.option("--after", type=int, default=0, help="Only ids above this one.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def failed(
    settings: Settings, merchant: str | None, channel: str | None, after: int, limit: int, as_json: bool
) -> None:
    """List deliveries that were given up, oldest first."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        found = deliveries.dead(connection, merchant, channel_id=channel, after=after, limit=limit)
    show_rows(found, as_json)


@channels.command()
@click.argument("ids", type=int, nargs=-1, required=True)
@click.pass_obj
def retry(settings: Settings, ids: tuple[int, ...]) -> None:
    """Try to deliver again what was given up. Exit code 1 when one of them was not."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        found = deliveries.retry(connection, None, ids)
    for id in found:
        click.echo(f"{id} is due again")
    if missing := sorted(set(ids) - set(found)):
        raise deliveries.DeliveryNotFound(id=missing[0])
