"""The commands that make, check and change the tables."""

from __future__ import annotations

import sys
from typing import Any, get_args

import click

from pgq_sync.cli.options import EmbeddedCommand, database, database_options, setting_options, settings_from
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import ROLES, Durability, grants, script


@click.command(cls=EmbeddedCommand)
@database_options
def install(embedded: str | None, **options: Any) -> None:
    """Make the tables; on an installed schema the same as upgrade."""
    with database(options, embedded) as pgq:
        _report(pgq.schema.install(), "installed")


@click.command(cls=EmbeddedCommand)
@click.option("--plan", is_flag=True, help="Only tell which migrations would run.")
@database_options
def upgrade(plan: bool, embedded: str | None, **options: Any) -> None:
    """Bring the tables to this version; workers may go on running."""
    with database(options, embedded) as pgq:
        _report(pgq.schema.upgrade(plan=plan), "would run" if plan else "ran")


@click.command(cls=EmbeddedCommand)
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_options
def uninstall(yes: bool, embedded: str | None, **options: Any) -> None:
    """Drop the tables, with every job and all history."""
    if not yes:
        click.confirm("Drop all jobs and their history?", abort=True)
    with database(options, embedded) as pgq:
        pgq.schema.uninstall()
        click.echo("uninstalled")


@click.command(cls=EmbeddedCommand)
@database_options
def verify(embedded: str | None, **options: Any) -> None:
    """Compare the database with a fresh install; exit 1 where they differ."""
    with database(options, embedded) as pgq:
        differences = pgq.schema.verify()
    for line in differences:
        click.echo(line)
    click.echo(_told(len(differences)))
    if differences:
        sys.exit(1)


@click.command(cls=EmbeddedCommand)
@click.argument("mode", required=False, type=click.Choice(get_args(Durability)))
@database_options
def durability(mode: Durability | None, embedded: str | None, **options: Any) -> None:
    """Tell or set what a crash of the server may cost: nothing (durable), history (balanced), the queue (volatile)."""
    with database(options, embedded) as pgq:
        click.echo(pgq.schema.durability(mode))


@click.command(cls=EmbeddedCommand)
@click.option("--rollback", is_flag=True, help="Back to the server's own settings.")
@database_options
def autovac(rollback: bool, embedded: str | None, **options: Any) -> None:
    """Set autovacuum as it suits a queue; install does so too."""
    with database(options, embedded) as pgq:
        pgq.schema.autovac(rollback=rollback)
        click.echo("autovacuum is set as the server has it" if rollback else "autovacuum is set as it suits a queue")


@click.group()
def sql() -> None:
    """Print SQL for those who run it themselves; never connects."""


@sql.command("install")
@setting_options("prefix", "schema")
def sql_install(**options: Any) -> None:
    """The SQL of install."""
    click.echo(script("install", _names(options)), nl=False)


@sql.command("upgrade")
@click.option("--from", "installed", type=click.IntRange(0), required=True, help="The version that is installed.")
@setting_options("prefix", "schema")
def sql_upgrade(installed: int, **options: Any) -> None:
    """The SQL of upgrade."""
    click.echo(script("upgrade", _names(options), installed), nl=False)


@sql.command("uninstall")
@setting_options("prefix", "schema")
def sql_uninstall(**options: Any) -> None:
    """The SQL of uninstall."""
    click.echo(script("uninstall", _names(options)), nl=False)


@sql.command("grants")
@click.option("--producer", metavar="ROLE", help="A role that enqueues.")
@click.option("--worker", metavar="ROLE", help="A role that runs jobs.")
@click.option("--operator", metavar="ROLE", help="A role that looks after jobs and limits.")
@click.option("--watcher", metavar="ROLE", help="A role that waits for jobs to end.")
@setting_options("prefix", "schema")
def sql_grants(**options: Any) -> None:
    """The rights that a role needs, and no more."""
    roles = {kind: role for kind in ROLES if (role := options.pop(kind)) is not None}
    if not roles:
        raise click.UsageError("name a role: --producer ROLE, --worker ROLE, --operator ROLE or --watcher ROLE")
    click.echo(grants(_names(options), **roles), nl=False)


commands = (install, upgrade, uninstall, verify, durability, autovac, sql)


def _names(options: dict[str, Any]) -> Names:
    settings = settings_from(options)
    return Names(settings.prefix, settings.schema)


def _report(migrations: list[str], verb: str) -> None:
    for migration in migrations:
        click.echo(f"{verb} {migration}")
    if not migrations:
        click.echo("the schema is up to date")


def _told(differences: int) -> str:
    if not differences:
        return "the schema is as it should be"
    return "1 difference" if differences == 1 else f"{differences} differences"
