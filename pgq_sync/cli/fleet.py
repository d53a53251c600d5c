"""The commands that show and steer the fleet: workers, limits, pause, resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pgq_sync.cli.options import EmbeddedCommand, database, database_options, json_option
from pgq_sync.cli.printing import age, print_json, print_table
from pgq_sync.errors import ConfigError
from pgq_sync.models import LimitRecord

Command = TypeVar("Command", bound=Callable[..., Any])


def target_options(command: Command) -> Command:
    """--entrypoint and --queue."""
    command = click.option("-q", "--queue", help="The jobs of this queue; with --entrypoint, only its jobs there.")(command)
    return click.option("-e", "--entrypoint", help="The jobs of this entrypoint.")(command)


@click.command(cls=EmbeddedCommand)
@json_option
@database_options
def workers(as_json: bool, embedded: str | None, **options: Any) -> None:
    """List the workers, the one that started first at the top."""
    with database(options, embedded) as pgq:
        found = pgq.store.workers()
        now = pgq.store.operations().now()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(each.name, each.state, str(each.slots), f"{age(now - each.beat_at)} ago" if each.beat_at else ""),
            *("all" if each.queues is None else ", ".join(each.queues), ", ".join(each.entrypoints)),
        )
        for each in found
    ]
    print_table(("name", "state", "slots", "last beat", "queues", "entrypoints"), rows)


@click.command(cls=EmbeddedCommand)
@json_option
@database_options
def limits(as_json: bool, embedded: str | None, **options: Any) -> None:
    """List what is limited over the fleet, or paused."""
    with database(options, embedded) as pgq:
        found = pgq.limits.list()
        now = pgq.store.operations().now()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(each.entrypoint or "any", each.queue or "any", str(each.running), str(each.concurrency_limit or "")),
            *(_number(each.requests_per_second), _number(each.burst), _number(each.tokens)),
            f"{age(now - each.paused_at)} ago" if each.paused_at else "",
        )
        for each in found
    ]
    print_table(("entrypoint", "queue", "running", "limit", "per second", "burst", "tokens", "paused"), rows)


@click.command(cls=EmbeddedCommand)
@target_options
@json_option
@database_options
def pause(entrypoint: str | None, queue: str | None, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Have no worker start jobs of an entrypoint or a queue until resume; running ones go on."""
    with database(options, embedded) as pgq:
        changed = _switched(pgq.limits.pause, entrypoint, queue)
    _tell(changed, entrypoint, queue, as_json, done="paused {}", missed="{} was paused already")


@click.command(cls=EmbeddedCommand)
@target_options
@json_option
@database_options
def resume(entrypoint: str | None, queue: str | None, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Take back a pause of the same names."""
    with database(options, embedded) as pgq:
        changed = _switched(pgq.limits.resume, entrypoint, queue)
        covering = [each for each in pgq.limits.list() if _covers(each, entrypoint, queue)]
    _tell(changed, entrypoint, queue, as_json, done="resumed {}", missed="{} was not paused")
    for each in covering:
        click.echo(f"but {_named(each.entrypoint, each.queue)} is paused still", err=as_json)


commands = (workers, limits, pause, resume)


def _switched(switch: Callable[[str | None, str | None], bool], entrypoint: str | None, queue: str | None) -> bool:
    if entrypoint is None and queue is None:
        raise click.UsageError("name an --entrypoint, a --queue or both")
    try:
        return switch(entrypoint, queue)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _tell(changed: bool, entrypoint: str | None, queue: str | None, as_json: bool, *, done: str, missed: str) -> None:
    if as_json:
        print_json({"entrypoint": entrypoint, "queue": queue, "changed": changed})
    else:
        click.echo((done if changed else missed).format(_named(entrypoint, queue)))


def _covers(record: LimitRecord, entrypoint: str | None, queue: str | None) -> bool:
    """Whether this pause holds back all of what is named."""
    return record.paused_at is not None and record.entrypoint in (None, entrypoint) and record.queue in (None, queue)


def _named(entrypoint: str | None, queue: str | None) -> str:
    if entrypoint is None:
        return f"queue {queue}"
    return entrypoint if queue is None else f"{entrypoint} in queue {queue}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
