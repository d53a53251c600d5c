"""`pgq-sync doctor`: examines an installation and says what is wrong with it."""

from __future__ import annotations

import sys
from typing import Any

import click

from pgq_sync.cli.options import EmbeddedCommand, database, database_options, json_option
from pgq_sync.cli.printing import print_json


@click.command(cls=EmbeddedCommand)
@json_option
@database_options
def doctor(as_json: bool, embedded: str | None, **options: Any) -> None:
    """Examine the database, the connection and the jobs; exit 1 where something is wrong that never should be."""
    with database(options, embedded) as pgq:
        findings = pgq.doctor()
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            click.echo(f"{finding.level:<8} {finding.check.replace('_', ' ')}: {finding.message}")
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)
