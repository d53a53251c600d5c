"""The commands by which an operator looks after jobs: held, requeue, cancel, delete, purge.

Each prints what it did, not what it was asked. Exit 1 where it could do nothing for some of the jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from pgq_sync.app import PgQueuer
from pgq_sync.cli.options import (
    Duration,
    EmbeddedCommand,
    IdsCommand,
    arguments_told,
    database,
    database_options,
    ids_argument,
    json_option,
)
from pgq_sync.cli.printing import age, last_error, print_json, print_table
from pgq_sync.models import JobId
from pgq_sync.storage.jobs import PURGEABLE


@click.command(cls=EmbeddedCommand)
@click.option("-e", "--entrypoint", help="Only jobs of this entrypoint.")
@click.option("--limit", type=click.IntRange(1), default=25, show_default=True)
@json_option
@database_options
def held(entrypoint: str | None, limit: int, as_json: bool, embedded: str | None, **options: Any) -> None:
    """List the jobs that wait for a person, the latest first."""
    with database(options, embedded) as pgq:
        with arguments_told():
            found = pgq.jobs.held(limit=limit, entrypoint=entrypoint)
        now = pgq.store.operations().now()
    if as_json:
        print_json(found)
        return
    rows = [
        (str(each.id), each.entrypoint, each.queue, str(each.attempts), age(now - each.created_at), last_error(each))
        for each in found
    ]
    print_table(("id", "entrypoint", "queue", "attempts", "age", "error"), rows)


@click.command(cls=IdsCommand)
@ids_argument
@click.option("--reset-attempts/--keep-attempts", default=True, show_default=True, help="Count from 1 again, or go on.")
@json_option
@database_options
def requeue(ids: list[int], reset_attempts: bool, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Put held jobs back, and failed ones under new ids; ID "-" reads ids from standard input."""
    with database(options, embedded) as pgq:
        result = pgq.jobs.requeue(ids, reset_attempts=reset_attempts)
        unknown = _by_standing(pgq, result.unknown)
    _tell(
        result,
        as_json,
        done=(f"requeued {old}" + (f" as {new}" if new != old else "") for old, new in result.requeued.items()),
        missed={
            "was requeued before": [f"{old}, as {new}" for old, new in result.already.items()],
            "its dedupe key is taken by another unfinished job": result.conflicts,
            **unknown,
        },
    )


@click.command(cls=IdsCommand)
@ids_argument
@json_option
@database_options
def cancel(ids: list[int], as_json: bool, embedded: str | None, **options: Any) -> None:
    """End jobs that wait, and ask running ones to end; ID "-" reads ids from standard input."""
    with database(options, embedded) as pgq:
        result = pgq.jobs.cancel(ids)
        unknown = _by_standing(pgq, result.unknown)
    _tell(
        result,
        as_json,
        done=[*(f"cancelled {each}" for each in result.ended), *(f"asked {each}, which runs, to end" for each in result.asked)],
        missed=unknown,
    )


@click.command(cls=IdsCommand)
@ids_argument
@json_option
@database_options
def delete(ids: list[int], as_json: bool, embedded: str | None, **options: Any) -> None:
    """Delete jobs that wait, and finished ones from history; ID "-" reads ids from standard input."""
    with database(options, embedded) as pgq:
        result = pgq.jobs.delete(ids)
    _tell(
        result,
        as_json,
        done=(f"deleted {each}" for each in result.deleted),
        missed={"it runs, `pgq-sync cancel` asks it to end": result.refused, _NOT_THERE: result.unknown},
    )


@click.command(cls=EmbeddedCommand)
@click.option("-e", "--entrypoint", help="Only jobs of this entrypoint.")
@click.option("--status", type=click.Choice(PURGEABLE), default="queued", show_default=True)
@click.option("--older-than", type=Duration(), help="Only jobs enqueued, or finished, so long ago: 30, 500ms, 10m, 2h, 7d.")
@click.option("--plan", is_flag=True, help="Only tell how many it would be.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@database_options
def purge(
    entrypoint: str | None,
    status: str,
    older_than: timedelta | None,
    plan: bool,
    yes: bool,
    as_json: bool,
    embedded: str | None,
    **options: Any,
) -> None:
    """Delete all jobs of a status: unfinished ones go to history as deleted, finished ones are removed from it."""
    with database(options, embedded) as pgq, arguments_told():
        number = pgq.jobs.purge(entrypoint, status, older_than, plan=True) if plan or not yes else 0
        if number and not plan and not yes:
            click.confirm(f"Delete {_described(number, status, entrypoint, older_than)}?", abort=True, err=True)
        if not plan:
            number = pgq.jobs.purge(entrypoint, status, older_than)
    if as_json:
        print_json({"would_delete" if plan else "deleted": number})
    else:
        click.echo(f"{'would delete' if plan else 'deleted'} {_described(number, status, entrypoint, older_than)}")


commands = (held, requeue, cancel, delete, purge)
_NOT_THERE = "there is no such job"
_STANDING = {
    "queued": "it is queued",
    "running": "it is running",
    "held": "it is held",
    "succeeded": "it has succeeded",
    "failed": "it has failed",
    "cancelled": "it was cancelled",
    "deleted": "it was deleted",
}


def _by_standing(pgq: PgQueuer, ids: Iterable[JobId]) -> dict[str, list[JobId]]:
    """The ids by why nothing could be done for them: where their jobs stand now."""
    found: dict[str, list[JobId]] = {}
    for job_id in ids:
        job = pgq.jobs.get(job_id)
        found.setdefault(_STANDING[job.status] if job else _NOT_THERE, []).append(job_id)
    return found


def _tell(result: Any, as_json: bool, *, done: Iterable[str], missed: Mapping[str, Sequence[str | JobId]]) -> None:
    """Prints what was done, then what was not, by reason; exits with 1 if there is any of these."""
    if as_json:
        print_json(result)
    else:
        for line in done:
            click.echo(line)
        for reason, jobs in missed.items():
            for job in jobs:
                click.echo(f"left alone: {job}: {reason}")
    if any(missed.values()):
        sys.exit(1)


def _described(number: int, status: str, entrypoint: str | None, older_than: timedelta | None) -> str:
    unfinished = status in ("queued", "held")
    words = f"{number:,} {status} {'job' if number == 1 else 'jobs'}"
    words += f" of {entrypoint}" if entrypoint is not None else ""
    words += f", {'enqueued' if unfinished else 'finished'} at least {age(older_than)} ago" if older_than else ""
    return words
