"""``coupon-ledger erase``: what is kept of a user; and ``rewrap``: the keys of what is kept, under a new one."""

from __future__ import annotations

import getpass
import uuid

import click

from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger import subjects
from ledger.merchants import check_known


@click.command()
@click.option("--merchant", required=True, help="Whose user it is.")
@click.option("--user", "user_id", required=True, help="The user's id, as the shop knows it.")
@click.pass_obj
def erase(settings: Settings, merchant: str, user_id: str) -> None:
    """Destroy the key of a user's notes, and erase the address, the messages and what waits to be sent.

    The log keeps that it was done. It may be run again.
    """
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        with ledger.store.connection() as connection:
            check_known(connection, merchant)
        actor, request_id = f"cli:{getpass.getuser()}", f" erase {uuid.uuid4().hex}"
        done = subjects.erase(ledger, merchant, actor, user_id, request_id)
    counts = ", ".join(f"{name} {count}" for name, count in done.counts.items())
    click.echo(f"{user_id} erased at {done.receipt.answer['erased_at']}: {counts}")


@click.command()
@click.pass_obj
def rewrap(settings: Settings) -> None:
    """Wrap every user's data key with the newest personal key, so that the older ones may go."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        count = subjects.rewrap(ledger, resolved.keys_of_personal_data())
    click.echo(f"wrapped {count} data keys anew")
