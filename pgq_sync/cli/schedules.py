"""`pgq-sync schedules`: shows the schedules and steers them. Exit 2 where a name or a value cannot be meant."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar, get_args

import click

from pgq_sync.app import PgQueuer
from pgq_sync.cli.options import Duration, EmbeddedCommand, arguments_told, database, database_options, json_option
from pgq_sync.cli.printing import age, print_json, print_table
from pgq_sync.models import OnMissed, ScheduleRecord
from pgq_sync.storage import cron

Command = TypeVar("Command", bound=Callable[..., Any])


class _Listing(click.Group):
    """A group that lists where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Listing)
def schedules() -> None:
    """List schedules, add, pause, resume, remove and run them; without a command: list."""


def _arguments(command: Command) -> Command:
    """NAME [EXPRESSION]."""
    return click.argument("name")(click.argument("expression", required=False)(command))


@schedules.command("list", cls=EmbeddedCommand)
@json_option
@database_options
def list_(as_json: bool, embedded: str | None, **options: Any) -> None:
    """List the schedules, one line per expression."""
    with database(options, embedded) as pgq:
        found = pgq.schedules.list()
        now = pgq.store.operations().now()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(each.name, each.expression, each.timezone, _due(each, now)),
            f"{age(now - each.last_at)} ago" if each.last_at else "",
            *(each.on_missed, each.queue, "" if each.entrypoint == each.name else each.entrypoint),
        )
        for each in found
    ]
    print_table(("name", "expression", "timezone", "next", "last", "missed", "queue", "entrypoint"), rows)


@schedules.command(cls=EmbeddedCommand)
@click.argument("name")
@click.argument("expression")
@click.argument("payload", required=False)
@click.option("--timezone", default="UTC", show_default=True, help="An IANA name, such as Europe/Berlin.")
@click.option("--on-missed", type=click.Choice(get_args(OnMissed)), default="once", show_default=True)
@click.option("--jitter", type=Duration(), help="Put each job off by a random time up to this: 30, 500ms, 10m.")
@click.option("--queue", default="default", show_default=True)
@click.option("--priority", type=int, default=0, show_default=True, help="Larger runs first.")
@click.option("-e", "--entrypoint", help="Whose jobs its ticks are, if not of an entrypoint of its name.")
@json_option
@database_options
def add(
    name: str,
    expression: str,
    payload: str | None,
    timezone: str,
    on_missed: OnMissed,
    jitter: timedelta | None,
    queue: str,
    priority: int,
    entrypoint: str | None,
    as_json: bool,
    embedded: str | None,
    **options: Any,
) -> None:
    """Add a schedule, or change the one of this NAME and EXPRESSION; its jobs get PAYLOAD."""
    with database(options, embedded) as pgq, arguments_told():
        made = pgq.schedules.add(
            *(name, expression),
            timezone=timezone,
            on_missed=on_missed,
            jitter=jitter,
            queue=queue,
            priority=priority,
            entrypoint=entrypoint,
            payload=payload,
        )
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made.name} ({made.expression}) is due next at {made.next_at:%Y-%m-%d %H:%M:%S} UTC")


@schedules.command(cls=EmbeddedCommand)
@_arguments
@json_option
@database_options
def pause(name: str, expression: str | None, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Have a schedule fire no more until resume; jobs that wait or run go on."""
    with database(options, embedded) as pgq, arguments_told():
        changed = pgq.schedules.pause(name, expression)
    _tell(changed, name, expression, as_json, done="paused {}", missed="{} was paused already")


@schedules.command(cls=EmbeddedCommand)
@_arguments
@json_option
@database_options
def resume(name: str, expression: str | None, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Take back a pause; the schedule goes on with its next tick."""
    with database(options, embedded) as pgq, arguments_told():
        changed = pgq.schedules.resume(name, expression)
    _tell(changed, name, expression, as_json, done="resumed {}", missed="{} was not paused")


@schedules.command(cls=EmbeddedCommand)
@_arguments
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@database_options
def remove(name: str, expression: str | None, yes: bool, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Remove a schedule; one that the code declares comes back when the next worker starts."""
    with database(options, embedded) as pgq, arguments_told():
        if not yes:
            click.confirm(f"Remove schedule {_named(name, expression)}?", abort=True, err=True)
        changed = pgq.schedules.remove(name, expression)
    _tell(changed, name, expression, as_json, done="removed {}", missed="{} was removed already")


@schedules.command("run-now", cls=EmbeddedCommand)
@_arguments
@json_option
@database_options
def run_now(name: str, expression: str | None, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Enqueue one job of a schedule at once, paused or not, and print its id."""
    with database(options, embedded) as pgq, arguments_told():
        job_id = pgq.schedules.run_now(name, expression)
    if as_json:
        print_json({"job_id": job_id})
    else:
        click.echo(job_id)


@schedules.command("next", cls=EmbeddedCommand)
@click.argument("name", required=False)
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many ticks.")
@json_option
@database_options
def next_(name: str | None, count: int, as_json: bool, embedded: str | None, **options: Any) -> None:
    """Print the coming ticks of one schedule or of all, in the local time of each; paused ones have none."""
    with database(options, embedded) as pgq, arguments_told():
        now = pgq.store.operations().now()
        found = list(itertools.islice(heapq.merge(*_coming(_chosen(pgq, name), now), key=lambda tick: tick[0]), count))
    if as_json:
        print_json([{"name": each.name, "expression": each.expression, "due_at": at} for at, each in found])
        return
    rows = [(f"{at:%Y-%m-%d %H:%M:%S %Z}", each.timezone, age(at - now), each.name, each.expression) for at, each in found]
    print_table(("local time", "timezone", "in", "name", "expression"), rows)


def _chosen(pgq: PgQueuer, name: str | None) -> list[ScheduleRecord]:
    return pgq.schedules.list() if name is None else pgq.schedules.find(name)


def _coming(found: Iterable[ScheduleRecord], now: datetime) -> Iterator[Iterator[tuple[datetime, ScheduleRecord]]]:
    for each in found:
        try:
            times = cron.read(each.expression, each.timezone)
        except ValueError as error:
            click.echo(f"left out: {_named(each.name, each.expression)}: {error}", err=True)
            continue
        if each.paused_at is None:
            yield _ticks(each, times, now)


def _ticks(schedule: ScheduleRecord, times: cron.Cron, now: datetime) -> Iterator[tuple[datetime, ScheduleRecord]]:
    first = [schedule.next_at] if schedule.next_at > now else []
    for at in itertools.chain(first, times.ticks(max(schedule.next_at, now))):
        yield at.astimezone(times.zone), schedule


def _due(schedule: ScheduleRecord, now: datetime) -> str:
    if schedule.paused_at is not None:
        return f"paused {age(now - schedule.paused_at)} ago"
    return f"in {age(schedule.next_at - now)}" if schedule.next_at >= now else f"due for {age(now - schedule.next_at)}"


def _tell(changed: int, name: str, expression: str | None, as_json: bool, *, done: str, missed: str) -> None:
    if as_json:
        print_json({"name": name, "expression": expression, "changed": changed})
    else:
        click.echo((done if changed else missed).format(_named(name, expression)))


def _named(name: str, expression: str | None) -> str:
    return name if expression is None else f"{name} ({expression})"
