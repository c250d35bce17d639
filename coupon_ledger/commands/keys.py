"""``coupon-ledger keys``: the API keys of callers, and the signing key of the seal."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from api import keys as api_keys
from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.seal_keys import SealKeyExists, change_key, make_key, read_key
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.errors import NotFound


class KeyNotFound(NotFound):
    """No such key, or it had ended before."""


@click.group()
def keys() -> None:
    """Make, list and revoke API keys, and make the key of the seal."""


@keys.command()
@click.option("--merchant", required=True, help="The merchant that the key is bound to.")
@click.option("--role", required=True, type=click.Choice(api_keys.ROLES), help="What the key may do.")
@click.option("--name", required=True, help="What it is for, such as the system that holds it.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="The day (UTC) from which it is refused.")
@click.pass_obj
def create(settings: Settings, merchant: str, role: api_keys.Role, name: str, expires: datetime | None) -> None:
    """Make a key and print its token, which is shown this once."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        expires_at = expires.replace(tzinfo=UTC) if expires else None
        click.echo(api_keys.create(connection, merchant, role, name, expires_at))


@keys.command("list")
@click.option("--merchant", help="Only this merchant's keys.")
@json_option
@click.pass_obj
def list_(settings: Settings, merchant: str | None, as_json: bool) -> None:
    """List keys, without their secrets."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_rows(api_keys.list_keys(connection, merchant), as_json)


@keys.command()
@click.argument("key_id")
@click.pass_obj
def revoke(settings: Settings, key_id: str) -> None:
    """End a key; callers that hold it are refused within seconds."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        if not api_keys.revoke(connection, key_id):
            raise KeyNotFound(key_id=key_id)
        click.echo(f"revoked {key_id}")


@keys.command()
@click.option("--show", is_flag=True, help="Print the public half of the key that is there.")
@click.option("--if-missing", is_flag=True, help="Print that of the key that is there, should there be one.")
@click.option("--change", is_flag=True, help="Make another key in place of the one that is there, which is kept.")
@click.pass_obj
def seal(settings: Settings, show: bool, if_missing: bool, change: bool) -> None:
    """Make the key that checkpoints of the log are signed with, and print its public half.

    Auditors are given that half, and get it by a way that whoever holds the database has no hand in.
    """
    if show + if_missing + change > 1:
        raise click.UsageError("only one of --show, --if-missing and --change can be said")
    path, origin = settings.seal_key_file, settings.seal_origin
    do = read_key if show else change_key if change else make_key
    try:
        key = do(path, origin)
    except SealKeyExists:
        if not if_missing:
            raise
        key = read_key(path, origin)
    click.echo(key.verifier())
