"""`pgq-sync listen`: shows what wakes the workers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from pgq_sync.cli.options import EmbeddedCommand, database_options, embedded_environment, settings_from
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.failures import told
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import listened, subscribe


@click.command(cls=EmbeddedCommand)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after so many notifications.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Stop after so long.")
@database_options
def listen(count: int | None, timeout: float | None, embedded: str | None, **options: Any) -> None:
    """Print each notification as workers hear it, one line of JSON each, until Ctrl-C."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(embedded_environment(embedded))
        settings = settings_from(options)
        connection = stack.enter_context(contextlib.closing(OwnPool(settings).direct(listening=True)))
        names = Names(settings.prefix, settings.schema)
        with told(names):
            channel = subscribe(connection, names)
        click.echo(f"listening on {channel}", err=True)
        for message in listened(connection, timeout=timeout, count=count):
            click.echo(json.dumps(message), err="unknown" in message)
