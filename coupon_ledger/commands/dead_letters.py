"""``coupon-ledger dead-letters``: messages that could have no effect."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from consumers import dead_letters as letters
from coupon_ledger.commands.output import json_option, show_record, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.errors import Refusal


class StillDead(Refusal):
    """A message could have no effect again."""


LISTED = ("id", "topic", "partition", "offset", "reason", "detail", "dead_at", "settlement", "attempts")
MANY = 10_000
"""Letters of one command, where nothing else is said."""

Command = TypeVar("Command", bound=Callable[..., Any])
topic_option = click.option("--topic", help="Only messages of this topic.")
reason_option = click.option("--reason", help="Only messages that are dead for this reason.")


def which(command: Command) -> Command:
    """Says which letters: some by id, or many by what they have in common."""
    for option in (
        click.option("--limit", type=click.IntRange(1, letters.MANY_LIMIT), default=MANY, show_default=True,
                     help="At most so many, the oldest first."),
        click.option("--all-open", is_flag=True, help="All that are open."),
        reason_option,
        topic_option,
        click.argument("ids", type=int, nargs=-1),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at, retry or discard messages that could have no effect."""


@dead_letters.command("list")
@click.option("--all", "everything", is_flag=True, help="Settled ones too.")
@topic_option
@reason_option
@click.option("--after", type=int, default=0, help="Only ids above this one.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def list_(
    settings: Settings, everything: bool, topic: str | None, reason: str | None, after: int, limit: int, as_json: bool
) -> None:
    """List dead letters, oldest first."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        found = letters.list_letters(
            connection, open_only=not everything, topic=topic, reason=reason, after=after, limit=limit
        )
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
@which
@click.pass_obj
def retry(settings: Settings, /, **chosen: Any) -> None:
    """Perform messages again: those of IDS, or all open ones of a --topic, for a --reason, or --all-open.

    Each is settled only if it has its effect now. Exit code 1 if one stays dead.
    """
    done = _settle(settings, lambda ledger, letter: letters.retry(ledger, letter, actor=_operator()), **chosen)
    if dead := sum(letter.settlement is None for letter in done):
        raise StillDead(f"{dead} of {len(done)} had no effect")


@dead_letters.command()
@which
@click.option("--note", required=True, help="Why the messages need no effect.")
@click.pass_obj
def discard(settings: Settings, /, note: str, **chosen: Any) -> None:
    """Settle messages without any effect: those of IDS, or all open ones as for retry."""
    _settle(settings, lambda ledger, letter: letters.discard(ledger, letter, actor=_operator(), note=note), **chosen)


Settle = Callable[[Ledger, int], letters.DeadLetter]


def _settle(
    settings: Settings,
    settle: Settle,
    ids: tuple[int, ...],
    topic: str | None,
    reason: str | None,
    all_open: bool,
    limit: int,
) -> list[letters.DeadLetter]:
    if bool(ids) == (all_open or topic is not None or reason is not None):
        raise click.UsageError("say which: some ids, or a --topic, a --reason or --all-open")
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        if not ids:
            return _many(ledger, settle, topic, reason, limit)
        done = []
        for id in ids:
            letter = settle(ledger, id)
            done.append(letter)
            click.echo(f"{id} {letter.settlement or f'still dead: {letter.reason}: {letter.detail}'}")
        return done


def _many(
    ledger: Ledger, settle: Settle, topic: str | None, reason: str | None, limit: int
) -> list[letters.DeadLetter]:
    """Settle them in the order of their burial, which keeps that of each key. If it is cut off, run it again."""
    with ledger.store.connection() as connection:
        ids, count = letters.open_ids(connection, topic=topic, reason=reason, limit=limit)
    console = Console(stderr=True)
    columns = (BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    done = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for id in bar.track(ids):
            try:
                done.append(settle(ledger, id))
            except letters.DeadLetterSettled:  # somebody else did it meanwhile
                continue
    words = Counter(letter.settlement or letter.reason for letter in done)
    some = f", the oldest {len(ids)} of them" if len(ids) < count else ""
    told = ", ".join(f"{word} {number}" for word, number in sorted(words.items(), key=lambda each: (-each[1], each[0])))
    click.echo(f"{count} open{some}" + (f": {told}" if told else ""))
    return done


def _operator() -> str:
    return f"cli:{getpass.getuser()}"
