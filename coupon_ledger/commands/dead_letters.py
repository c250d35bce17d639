"""``coupon-ledger dead-letters``: messages that could have no effect."""

from __future__ import annotations

import getpass

import click

from consumers import dead_letters as letters
from coupon_ledger.commands.output import json_option, show_record, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.errors import Refusal


class StillDead(Refusal):
    """A message could have no effect again."""


LISTED = ("id", "topic", "partition", "offset", "reason", "detail", "dead_at", "settlement", "attempts")


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at, retry or discard messages that could have no effect."""


@dead_letters.command("list")
@click.option("--all", "everything", is_flag=True, help="Settled ones too.")
@click.option("--topic", help="Only messages of this topic.")
@click.option("--after", type=int, default=0, help="Only ids above this one.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def list_(settings: Settings, everything: bool, topic: str | None, after: int, limit: int, as_json: bool) -> None:
    """List dead letters, oldest first."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        found = letters.list_letters(connection, open_only=not everything, topic=topic, after=after, limit=limit)
    show_rows(found, as_json, LISTED)


@dead_letters.command()
@click.argument("id", type=int)
@json_option
@click.pass_obj
def show(settings: Settings, id: int, as_json: bool) -> None:
    """Show one dead letter with its message."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        show_record(letters.show(connection, id), as_json)


@dead_letters.command()
@click.argument("ids", type=int, nargs=-1, required=True)
@click.pass_obj
def retry(settings: Settings, ids: tuple[int, ...]) -> None:
    """Perform messages again; each is settled only if it has its effect now. Exit code 1 if one stays dead."""
    dead = 0
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        for id in ids:
            letter = letters.retry(ledger, id, actor=_operator())
            dead += letter.settlement is None
            click.echo(f"{id} {letter.settlement or f'still dead: {letter.reason}: {letter.detail}'}")
    if dead:
        raise StillDead(f"{dead} of {len(ids)} had no effect")


@dead_letters.command()
@click.argument("ids", type=int, nargs=-1, required=True)
@click.option("--reason", required=True, help="Why the messages need no effect.")
@click.pass_obj
def discard(settings: Settings, ids: tuple[int, ...], reason: str) -> None:
    """Settle messages without any effect."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        for id in ids:
            letters.discard(ledger, id, actor=_operator(), reason=reason)
            click.echo(f"{id} discarded")


def _operator() -> str:
    return f"cli:{getpass.getuser()}"
