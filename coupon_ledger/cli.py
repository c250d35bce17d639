"""The command ``coupon-ledger``: one line and exit code 2 for bad usage, one line and 1 for what failed."""

from __future__ import annotations

import sys

import click
import psycopg
from kafka.errors import KafkaError
from pydantic import ValidationError

from coupon_ledger import __version__
from coupon_ledger.commands import run
from coupon_ledger.commands.channels import channels
from coupon_ledger.commands.codes import codes
from coupon_ledger.commands.consumers import consumers
from coupon_ledger.commands.dead_letters import dead_letters
from coupon_ledger.commands.issue import issue, jobs
from coupon_ledger.commands.keys import keys
from coupon_ledger.commands.projections import projections
from coupon_ledger.commands.void import void
from coupon_ledger.demo.command import demo
from coupon_ledger.embedded import EmbeddedServerError
from coupon_ledger.settings import Settings
from ledger.errors import InvalidInput, LedgerError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coupon-ledger")
@click.pass_context
def cli(context: click.Context) -> None:
    """An event-sourced coupon ledger."""
    try:
        context.obj = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"setting {first['loc'][0]}: {first['msg']}") from None


PARTS = (
    run.up,
    run.migrate,
    run.ready,
    run.serve,
    run.consume,
    run.project,
    run.expire,
    run.publish,
    run.deliver,
    run.remind,
    run.alert,
)
for command in (*PARTS, demo, keys, codes, issue, jobs, channels, void, consumers, dead_letters, projections):
    cli.add_command(command)


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
