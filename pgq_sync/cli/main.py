"""`pgq-sync`: gathers the commands, and turns errors into one clear line and an exit code."""

from __future__ import annotations

import sys

import click
import psycopg

from pgq_sync.cli import demo, doctor, fleet, jobs, listen, operate, schedules, schema, worker
from pgq_sync.errors import ConfigError, PgqError
from pgq_sync.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="pgq-sync")
def cli() -> None:
    """A job queue for synchronous Python on the PostgreSQL you already run.

    Every setting is also read from the environment: PGQ_DSN, PGQ_PREFIX, PGQ_CONCURRENCY and so on.
    """


for command in (
    *schema.commands,
    worker.worker,
    *jobs.commands,
    *operate.commands,
    *fleet.commands,
    schedules.schedules,
    doctor.doctor,
    listen.listen,
    demo.demo,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 it went wrong, 2 it was called wrongly, 3 jobs had to be put back."""
    try:
        code = cli.main(arguments, prog_name="pgq-sync", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except ConfigError as error:
        click.echo(f"pgq-sync: {error}", err=True)
        code = 2
    except (PgqError, ConnectionError, psycopg.Error) as error:
        # In one line: libpq gives its hints in lines of their own.
        click.echo(f"pgq-sync: {' '.join(line.strip() for line in str(error).strip().splitlines())}", err=True)
        code = 1
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)
