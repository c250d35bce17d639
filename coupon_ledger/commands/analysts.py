"""``coupon-ledger analysts``: who may ask the database with SQL, and about which merchants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
import psycopg
from psycopg import sql

from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings
from ledger.merchants import check_known
from projections import analysts as logins


@click.group()
def analysts() -> None:
    """Make, list and drop logins for analysts; the database's URL must be the owner's."""


@analysts.command()
@click.argument("login")
@click.option("--merchant", "merchants", required=True, multiple=True, help="A merchant that it sees; may be repeated.")
@click.option("--no-password", is_flag=True, help="Set none: a certificate, peer or LDAP says who may log in.")
@click.pass_obj
def create(settings: Settings, login: str, merchants: tuple[str, ...], no_password: bool) -> None:
    """Make a login and print its password, which is shown this once."""
    with _owner(settings) as connection:
        for merchant in merchants:
            check_known(connection, merchant)
        password = logins.create(connection, login, merchants, with_password=not no_password)
    click.echo(password or f"{login} may log in without a password of ours")


@analysts.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """List logins, the merchants that each sees, and how many sessions it has."""
    with _owner(settings) as connection:
        show_rows(logins.listed(connection), as_json)


@analysts.command()
@click.argument("login")
@click.pass_obj
def drop(settings: Settings, login: str) -> None:
    """End a login and its sessions."""
    with _owner(settings) as connection:
        logins.drop(connection, login)
    click.echo(f"dropped {login}")


@contextmanager
def _owner(settings: Settings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection with the rights of the URL itself, for making roles is no right of the service."""
    with servers(settings) as resolved, psycopg.connect(resolved.required_database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(resolved.schema_)))
        yield connection
