"""Looks for what should never be, and for what will hurt: read-only questions, each under a statement timeout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import psycopg

from pgq_sync.errors import SchemaError
from pgq_sync.storage.connections import Connections, pooled
from pgq_sync.storage.database import Params, PsycopgSession, Session
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import subscribe
from pgq_sync.storage.schema import Schema
from pgq_sync.storage.statements import statements

Level = Literal["ok", "warning", "error"]

_PATIENCE = "set statement_timeout to '5s'"
_CLOCK = 5.0  # seconds by which two clocks may differ
_CHECKS: tuple[tuple[Level, str, str], ...] = (
    ("error", "half_claimed", "every running job is claimed by somebody, and no other is"),
    ("error", "in_two_places", "no finished job waits"),
    ("error", "finished_twice", "no job has finished twice in the last hour"),
    ("error", "days_without_partition", "finished jobs can be written today and tomorrow"),
    ("error", "tokens_out_of_range", "no limit has given out more tokens than it had"),
    ("warning", "beyond_limit", "no more jobs run than their limits allow"),
    ("warning", "unknown_workers", "every running job belongs to a registered worker"),
    ("warning", "silent_workers", "no worker is silent"),
    ("warning", "unheard_requests", "every request to end has been heard"),
    ("warning", "unserved_lanes", "every waiting job has a worker that serves it"),
    ("warning", "unserved_schedules", "every schedule has a worker that serves it"),
    ("warning", "overdue_schedules", "no schedule is overdue"),
    ("warning", "long_transactions", "no transaction holds back vacuum"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found."""

    level: Level
    check: str
    message: str


def diagnose(connections: Connections, names: Names, misfire_grace: timedelta) -> Iterator[Finding]:
    """Examines an installation, one finding after the other.

    Args:
        connections: to the database.
        names: the tables' names.
        misfire_grace: how late a schedule may be.

    Raises:
        psycopg.OperationalError: the database cannot be reached.
    """
    with closing(connections.direct(listening=True)) as connection:
        yield from _connection(connection, names)
        try:
            Schema(connections, names).require()
        except SchemaError as error:
            yield Finding("error", "schema", str(error))
            return
        yield Finding("ok", "schema", "the schema has this version")
        session = PsycopgSession(connection, prepare=False)
        if not pooled(connection):
            session.run(_PATIENCE)
        for level, check, fine in _CHECKS:
            params = {"misfire_grace": misfire_grace.total_seconds()} if check == "overdue_schedules" else {}
            yield from _check(session, statements(names)[check], params, level, check, fine)


def _check(session: Session, sql: str, params: Params, level: Level, check: str, fine: str) -> Iterator[Finding]:
    try:
        rows = session.run(sql, params)
    except psycopg.errors.QueryCanceled:
        yield Finding("warning", check, "not examined: it takes longer than 5 s here")
        return
    if not rows:
        yield Finding("ok", check, fine)
    for (message,) in rows:
        yield Finding(level, check, message)


def _connection(connection: psycopg.Connection[Any], names: Names) -> Iterator[Finding]:
    session = PsycopgSession(connection, prepare=False)
    if pooled(connection):
        yield Finding(
            "warning",
            "listen",
            "a pooler stands before the database: name the database itself in listen_dsn for jobs to start at once",
        )
    else:
        try:
            heard = _echo(connection, names)
        except psycopg.errors.UndefinedFunction:
            heard = True  # the schema is missing, which is told apart
        yield (
            Finding("ok", "listen", "notifications arrive") if heard else Finding("warning", "listen", "no notification arrives")
        )
    ((now,),) = session.run("select clock_timestamp()")
    off = abs((datetime.now(timezone.utc) - now).total_seconds())
    fine = f"this machine's clock and the database's differ by {off:.1f} s"
    yield Finding("ok" if off <= _CLOCK else "warning", "clock", fine)


def _echo(connection: psycopg.Connection[Any], names: Names) -> bool:
    channel = f"{subscribe(connection, names)}_{connection.info.backend_pid}"
    connection.execute(f'listen "{channel}"'.encode())
    connection.execute("select pg_notify(%s, '')", [channel])
    return any(notification.channel == channel for notification in connection.notifies(timeout=2.0, stop_after=1))
