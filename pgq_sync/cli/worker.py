"""`pgq-sync worker`: one worker in this process, or the supervisor of several."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import click

from pgq_sync.app import PgQueuer
from pgq_sync.cli.exits import AGAIN, FAILED, PUT_BACK
from pgq_sync.cli.leash import Follower
from pgq_sync.cli.load import application
from pgq_sync.cli.options import (
    DATABASE,
    EmbeddedCommand,
    database_options,
    embedded_environment,
    given_options,
    parsed_options,
    setting_options,
)
from pgq_sync.cli.supervisor import Child, Supervisor
from pgq_sync.engine.worker import Worker, WorkReport
from pgq_sync.errors import ConfigError
from pgq_sync.models import QueueExecutionMode
from pgq_sync.settings import ENV_PREFIX

_SETTINGS = ("concurrency", "batch_size", "poll_interval", "shutdown_timeout")
_SUPERVISING = ("processes", "restart_on_failure", "reload")


@click.command(cls=EmbeddedCommand)
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENT...]")
@click.option("-q", "--queue", "queues", multiple=True, help="Only jobs of this queue; may be given several times.")
@click.option("-e", "--entrypoint", "entrypoints", multiple=True, help="Only this entrypoint; may be given several times.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in QueueExecutionMode]),
    default=QueueExecutionMode.continuous.value,
    help="drain: stop when nothing is claimable now and nothing runs.  [default: continuous]",
)
@click.option("--scheduler/--no-scheduler", default=True, show_default=True, help="Whether to fire schedules too.")
@click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="Stop after so many jobs.")
@click.option("--name", help="How the fleet calls this worker; of several, NAME-1, NAME-2 ...  [default: host:pid]")
@click.option("--processes", type=click.IntRange(1), metavar="N", help="Run N worker processes; one that ends is started again.")
@click.option(
    "--restart-on-failure", is_flag=True, help="Run the worker in a process of its own that is started again when it ends."
)
@click.option("--reload", is_flag=True, help="Development: start again when a .py file below the current directory has changed.")
@click.option("--supervised", is_flag=True, hidden=True, help="Standard input is a supervisor's leash.")
@click.option("--install", is_flag=True, hidden=True, help="Make the tables first.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False))
@setting_options(*_SETTINGS)
@database_options
def worker(
    target: str,
    arguments: tuple[str, ...],
    queues: tuple[str, ...],
    entrypoints: tuple[str, ...],
    mode: str,
    scheduler: bool,
    log_level: str,
    embedded: str | None,
    **options: Any,
) -> None:
    """Run the jobs of an application until SIGTERM or SIGINT.

    MODULE:ATTRIBUTE is a PgQueuer, or a callable (a context manager too) that returns one; what stands after -- is
    given to the callable as one list. Exit 0 after a clean stop, 3 if jobs had to be put back at the deadline. Where more
    threads hang in jobs than max_stuck, the worker stops and starts itself anew.
    """
    leash = Follower() if options["supervised"] else None
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    given = _parsed(options)
    if any(options[name] for name in _SUPERVISING):
        _supervise(click.get_current_context(), embedded)
    with _held_by_no_thread() as workers, contextlib.ExitStack() as stack:
        stack.enter_context(embedded_environment(embedded))
        pgq = _loaded(stack, target, arguments)
        stack.callback(pgq.close)
        if embedded is not None or options["install"]:
            pgq.schema.install()
        made = pgq.worker(
            mode=QueueExecutionMode(mode),
            scheduler=scheduler,
            queues=queues or None,
            entrypoints=entrypoints or None,
            max_jobs=options["max_jobs"],
            name=options["name"],
            **given,
        )
        workers.append(made)
        asked = _stopped_by_signals(made)
        if leash is not None:
            leash.has_worker(made.request_stop, given.get("shutdown_timeout", pgq.settings.shutdown_timeout).total_seconds())
        report = made.run()
    # Whoever wants the process to end while its resources are closed wants no other one in its place.
    leave(replace(report, exhausted=False) if asked.is_set() else report, supervised=leash is not None)
    # The interpreter's end gives other handlers up, and a signal in its last moments would count as a crash.
    _handle_signals(signal.SIG_IGN)


def _supervise(context: click.Context, embedded: str | None) -> NoReturn:
    with embedded_environment(embedded):
        supervisor = _supervisor(context)
        _stopped_by_signals(supervisor)
        code = supervisor.run()
    _handle_signals(signal.SIG_IGN)  # as above
    sys.exit(code)


def _stopped_by_signals(running: Worker | Supervisor) -> threading.Event:
    """Has signals stop it, from before it runs until the process ends; tells whether one has come.

    While `run` works it handles them itself. One that comes later finds it stopping already, and ends nothing early.
    """
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        asked.set()
        running.request_stop()

    _handle_signals(handle)
    return asked


def _handle_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)


@contextlib.contextmanager
def _held_by_no_thread() -> Iterator[list[Worker]]:
    """Ends the process where a worker has crashed and a thread that goes on with a job would keep the interpreter from it."""
    workers: list[Worker] = []
    try:
        yield workers
    except Exception as error:
        if any(worker.stop().stuck for worker in workers):
            click.echo(f"pgq-sync: {str(error).strip() or type(error).__name__}", err=True)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(FAILED)
        raise


def leave(report: WorkReport, *, supervised: bool = False) -> None:
    """Ends the process as the report says. A thread that is stuck in a job must not hold it: no waiting for threads."""
    click.echo(f"done: {', '.join(f'{count} {status}' for status, count in report.counts.items()) or 'no jobs'}", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if report.exhausted:
        _start_again(supervised)
    if report.requeued or report.stuck:
        os._exit(PUT_BACK if report.requeued else 0)


def _start_again(supervised: bool) -> None:
    """Hung threads end only with their process: a supervisor makes a new one, or this becomes it."""
    anew = "its supervisor starts a new process" if supervised else "it starts itself anew"
    click.echo(f"more threads hang in jobs than max_stuck: the worker has stopped, and {anew}", err=True)
    sys.stderr.flush()
    if supervised:
        os._exit(AGAIN)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  the command that started this one


def _loaded(stack: contextlib.ExitStack, target: str, arguments: tuple[str, ...]) -> PgQueuer:
    try:
        pgq = stack.enter_context(application(target, arguments))
    except ConfigError:
        raise
    except Exception:
        # The application's own error is shown in full, and not taken for one of the worker's.
        traceback.print_exc()
        sys.exit(1)
    if not pgq.registry.names():
        raise ConfigError(f"{target}: no entrypoint is registered: decorate functions with its entrypoint(...), and import them")
    return pgq


def _parsed(options: dict[str, Any]) -> dict[str, Any]:
    """The worker's own settings; those of the database go by the environment, from which the application reads them."""
    parsed = parsed_options({name: options[name] for name in (*DATABASE, *_SETTINGS)})
    for name in DATABASE:
        if name in parsed:
            os.environ[ENV_PREFIX + name.upper()] = options[name]
    return {name: value for name, value in parsed.items() if name in _SETTINGS}


def _supervisor(context: click.Context) -> Supervisor:
    """The supervisor of as many processes as the call asks for, which are called like this one but for what is the parent's."""
    given = context.params
    children = []
    for number in range(1, (given["processes"] or 1) + 1):
        name = given["name"]
        if name and given["processes"]:
            name = f"{name}-{number}"
        first = _command(context, name, "--install") if given["embedded"] else None
        children.append(Child(name or str(number), _command(context, name), first))
    drain = given["mode"] == QueueExecutionMode.drain.value
    return Supervisor(children, drain=drain, reload=os.getcwd() if given["reload"] else None)


def _command(context: click.Context, name: str | None, *further: str) -> list[str]:
    # The database goes by the environment, where an embedded one is by now.
    options = [*given_options(context, but={*_SUPERVISING, *DATABASE, "embedded", "name"}), *further]
    if name is not None:
        options.append(f"--name={name}")
    target, arguments = context.params["target"], context.params["arguments"]
    return [sys.executable, "-m", "pgq_sync", "worker", "--supervised", *options, "--", target, *arguments]
