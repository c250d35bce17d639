"""The command ``coupon-ledger``: one line and exit code 2 for bad usage, one line and 1 for what failed."""

from __future__ import annotations

import sys
from importlib import import_module

import click
import psycopg
from kafka.errors import KafkaError
from pydantic import ValidationError

from coupon_ledger import __version__
from coupon_ledger.embedded import EmbeddedServerError
from coupon_ledger.settings import Settings
from ledger.errors import InvalidInput, LedgerError

COMMANDS = {
    "up": "commands.run:up",
    "demo": "demo.command:demo",
    "migrate": "commands.run:migrate",
    "ready": "commands.run:ready",
    "serve": "commands.serve:serve",
    "consume": "commands.consume:consume",
    "project": "commands.follow:project",
    "expire": "commands.follow:expire",
    "publish": "commands.follow:publish",
    "deliver": "commands.follow:deliver",
    "remind": "commands.follow:remind",
    "alert": "commands.follow:alert",
    "seal": "commands.seal:seal",
    "bundle": "commands.seal:bundle",
    "keys": "commands.keys:keys",
    "analysts": "commands.analysts:analysts",
    "erase": "commands.erase:erase",
    "rewrap": "commands.erase:rewrap",
    "codes": "commands.codes:codes",
    "issue": "commands.issue:issue",
    "jobs": "commands.issue:jobs",
    "channels": "commands.channels:channels",
    "void": "commands.void:void",
    "consumers": "commands.consumers:consumers",
    "dead-letters": "commands.dead_letters:dead_letters",
    "projections": "commands.projections:projections",
    "history": "commands.history:history",
    "explain": "commands.history:explain",
    "replay": "commands.replay:replay",
    "verify": "commands.verify:verify",
    "reconcile": "commands.reconcile:reconcile",
    "what-if": "commands.what_if:what_if",
    "export": "commands.export:export",
    "export-check": "commands.export:export_check",
}


class Commands(click.Group):
    """Imports a command when it is asked for: a process of the service loads what it needs, and no more."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """One of them; ``None`` where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"coupon_ledger.{module}"), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coupon-ledger")
@click.pass_context
def cli(context: click.Context) -> None:
    """An event-sourced coupon ledger."""
    try:
        context.obj = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"setting {first['loc'][0]}: {first['msg']}") from None


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run_cli(sys.argv[1:]))


def run_cli(arguments: list[str]) -> int:
    """Run one command and return its exit code. Whatever goes wrong is one line on standard error."""
    try:
        return int(cli.main(arguments, prog_name="coupon-ledger", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        return _fail(f"a command is needed, see {error.ctx.command_path if error.ctx else ''} --help", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except InvalidInput as error:
        return _fail(error.detail, 2)
    except LedgerError as error:
        return _fail(f"{error.detail} ({error.code()})", 1)
    except psycopg.errors.UndefinedTable as error:
        return _fail(f"{str(error).splitlines()[0]}: run coupon-ledger migrate", 1)
    except (EmbeddedServerError, psycopg.Error, KafkaError) as error:
        return _fail(str(error) or type(error).__name__, 1)


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    click.echo(f"coupon-ledger: {line}", err=True)
    return code
