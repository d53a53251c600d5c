"""Where a scenario runs: a server for the run, and on it a fresh database for each measurement."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import click
import psycopg
from psycopg.conninfo import make_conninfo

from pgq_sync import PgQueuer, Settings
from pgq_sync.storage.embedded import embedded_postgres
from pgq_sync.storage.names import Names

PAYLOAD = 100  # bytes
_LOOK_AGAIN = 0.05  # seconds
_numbers = itertools.count(1)


@contextmanager
def server(given: str | None, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """The DSN of the server: the given one, or that of a new one with the server's default settings, but for these."""
    with _interruptible():
        if given is not None:
            try:
                psycopg.connect(given).close()
            except psycopg.OperationalError as error:
                raise click.UsageError(f"--dsn: {error}") from None
            yield given
            return
        directory = Path(tempfile.mkdtemp(prefix="pgq-sync-benchmarks-"))
        directory.chmod(0o755)  # run by root, the server belongs to another user
        try:
            if settings:
                _preset(directory / "data", settings)
            with embedded_postgres(directory / "data") as dsn:
                yield dsn
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A run that is told to end ends what it has started, also one that a shell has started in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _preset(data: Path, settings: Mapping[str, str]) -> None:
    """Writes settings down that only count from a start on: the server runs once for that."""
    with embedded_postgres(data) as dsn:
        for name, value in settings.items():
            _run(dsn, f"alter system set {name} = '{value}'")


@contextmanager
def database(server: str, *, schema: bool = True) -> Iterator[str]:
    """The DSN of a new database, with pgq-sync's schema unless it is not wanted; dropped at the end."""
    name = f"pgq_benchmark_{os.getpid()}_{next(_numbers)}"
    _run(server, f"create database {name} template template0")
    try:
        dsn = make_conninfo(server, dbname=name)
        if schema:
            with application(dsn) as pgq:
                pgq.schema.install()
        yield dsn
    finally:
        _run(server, f"drop database {name} with (force)")


def application(dsn: str) -> PgQueuer:
    """An application at the default settings, whatever the environment says."""
    return PgQueuer.from_dsn(dsn, settings=Settings())


def entrypoint_names(count: int) -> list[str]:
    """The names under which `load` enqueues."""
    return [f"entrypoint_{number}" for number in range(count)]


def load(dsn: str, jobs: int, *, entrypoints: int = 1, priority: int = 0, delay_days: int = 0) -> None:
    """Enqueues jobs in one statement, spread evenly over so many entrypoints."""
    sql = Names().fill(
        "insert into {job} (entrypoint, priority, execute_after, payload) "
        f"select 'entrypoint_' || n % {entrypoints}, {priority}, statement_timestamp() + interval '{delay_days} days', "
        f"convert_to(repeat('x', {PAYLOAD}), 'UTF8') from generate_series(1, {jobs}) as n"
    )
    _run(dsn, sql)


def analyze(dsn: str) -> None:
    """Gives the planner its statistics."""
    _run(dsn, Names().fill("analyze {job}"))


def without_autovacuum(dsn: str) -> None:
    """Keeps the planner's statistics, and the load on the machine, as the scenario made them."""
    _run(dsn, Names().fill("alter table {job} set (autovacuum_enabled = off)"))


def checkpoint(dsn: str) -> None:
    """Writes out what was loaded, so that no measurement pays for it."""
    try:
        _run(dsn, "checkpoint")
    except psycopg.errors.InsufficientPrivilege:
        pass  # on somebody else's server, where the figures are a little noisier


def wait_until_empty(dsn: str, patience: float) -> None:
    """Waits until no job is unfinished.

    Raises:
        TimeoutError: there are some after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    with psycopg.connect(dsn, autocommit=True) as connection:
        left = Names().fill("select count(*) from {job}").encode()
        while jobs := connection.execute(left).fetchall()[0][0]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{jobs} jobs are unfinished after {patience} s")
            time.sleep(_LOOK_AGAIN)


def _run(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.encode())
