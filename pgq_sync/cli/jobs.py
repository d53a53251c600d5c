"""`pgq-sync enqueue` and `pgq-sync jobs`."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import timedelta
from typing import Any, get_args

import click

from pgq_sync.cli.options import (
    Duration,
    EmbeddedCommand,
    IdsCommand,
    arguments_told,
    database,
    database_options,
    id_argument,
    json_option,
)
from pgq_sync.cli.printing import last_error, print_json, print_table
from pgq_sync.errors import DuplicateJob, JobFailed, JobNotFound, PgqError
from pgq_sync.models import DedupeUntil, JobRecord, OnConflict
from pgq_sync.storage.jobs import STATUSES


@click.command(cls=EmbeddedCommand)
@click.argument("entrypoint")
@click.argument("payload", required=False)
@click.option("--priority", type=int, default=0, show_default=True, help="Larger runs first.")
@click.option("--delay", type=Duration(), help="Run it not before so long from now: 30, 500ms, 10m, 2h, 7d.")
@click.option("--dedupe-key", help="At most one unfinished job has this key.")
@click.option("--dedupe-until", type=click.Choice(get_args(DedupeUntil)), default="finished", show_default=True)
@click.option("--on-conflict", type=click.Choice(get_args(OnConflict)), default="raise", show_default=True)
@click.option("--queue", default="default", show_default=True)
@click.option("--header", "headers", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@database_options
def enqueue(
    entrypoint: str,
    payload: str | None,
    delay: timedelta | None,
    headers: tuple[str, ...],
    embedded: str | None,
    dsn: str | None,
    prefix: str | None,
    schema: str | None,
    **options: Any,
) -> None:
    """Enqueue a job and print its id; with PAYLOAD "-" the payload is read from standard input."""
    body = sys.stdin.buffer.read() if payload == "-" else payload
    with database({"dsn": dsn, "prefix": prefix, "schema": schema}, embedded) as pgq, arguments_told():
        try:
            job_id = pgq.enqueue(entrypoint, body, execute_after=delay, headers=_headers(headers), **options)
        except DuplicateJob as error:
            hint = "pass --on-conflict skip, existing or replace"
            raise PgqError(f"dedupe_key {error.key!r} is taken by job {error.job_id}: {hint}") from None
    click.echo(job_id if job_id is not None else "not enqueued: its dedupe key is taken")


@click.command(cls=EmbeddedCommand)
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--entrypoint")
@click.option("--queue")
@click.option("--limit", type=click.IntRange(1), default=25, show_default=True)
@json_option
@database_options
def jobs(
    status: str | None,
    entrypoint: str | None,
    queue: str | None,
    limit: int,
    as_json: bool,
    embedded: str | None,
    **options: Any,
) -> None:
    """List jobs, unfinished and finished ones, the latest first."""
    with database(options, embedded) as pgq, arguments_told():
        found = pgq.jobs.find(status=status, entrypoint=entrypoint, queue=queue, limit=limit)
    if as_json:
        print_json(found)
    else:
        print_table(("id", "entrypoint", "queue", "status", "attempts", "created", "error"), [_row(each) for each in found])


@click.command(cls=IdsCommand)
@id_argument
@json_option
@database_options
def job(ids: list[int], as_json: bool, embedded: str | None, **options: Any) -> None:
    """Show one job, unfinished or finished, with its errors and how far it is."""
    with database(options, embedded) as pgq:
        found = pgq.jobs.get(ids[0])
    if found is None:
        raise JobNotFound(ids[0])
    if as_json:
        print_json(found)
    else:
        print_table(("field", "value"), _fields(found))


@click.command(cls=IdsCommand)
@id_argument
@click.option("--timeout", type=Duration(), help="Give up after so long: 30, 500ms, 10m, 2h, 7d.")
@json_option
@database_options
def wait(ids: list[int], timeout: timedelta | None, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Wait until a job has ended; exit 0 if it succeeded, else 1."""
    with database(options, embedded) as pgq:
        pgq.store.require_schema()  # a database that is away is told at once, and not waited for
        try:
            completion = pgq.wait(ids[0], timeout)
        except TimeoutError as error:
            raise PgqError(str(error)) from None
    if as_json:
        print_json(completion)
    elif completion.status == "succeeded":
        click.echo("succeeded" if completion.result is None else f"succeeded: {json.dumps(completion.result)}")
    if completion.status != "succeeded":
        raise JobFailed(completion)


commands = (enqueue, jobs, job, wait)


def _fields(record: JobRecord) -> list[tuple[str, str]]:
    """What there is to say of a job, a line each."""
    said = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    said["errors"] = "; ".join(
        f"attempt {each.get('attempt')}: {each.get('type')}: {each.get('message')}" for each in record.errors
    )
    if record.progress is not None:
        said["progress"] = f"{record.progress.fraction:.0%} {record.progress.note or ''}".rstrip()
    if record.payload is not None:
        said["payload"] = record.payload.decode("utf-8", "backslashreplace")
    return [(name, str(value)) for name, value in said.items() if value not in (None, "")]


def _row(record: JobRecord) -> tuple[str, ...]:
    created = f"{record.created_at:%Y-%m-%d %H:%M:%S}"
    return (
        *(str(record.id), record.entrypoint, record.queue, record.status, str(record.attempts), created),
        last_error(record),
    )


def _headers(given: tuple[str, ...]) -> dict[str, str] | None:
    for header in given:
        if "=" not in header:
            raise click.BadParameter(f"{header!r} is no KEY=VALUE", param_hint="--header")
    pairs = (header.partition("=") for header in given)
    return {key: value for key, _, value in pairs} or None
