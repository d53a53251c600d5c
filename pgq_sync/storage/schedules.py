"""Schedules on PostgreSQL. A tick is one transaction: it moves the schedule on and enqueues an ordinary job for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgq_sync.models import DeclaredSchedule
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.database import Row, Session, atomic
from pgq_sync.storage.failures import translated
from pgq_sync.storage.inserts import PostgresIntake
from pgq_sync.storage.intake import check
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock, NextTick
from pgq_sync.storage.ticks import tick_job


class PostgresSchedules:
    """The schedules of one installation."""

    def __init__(self, connections: Connections, names: Names, clock: Clock) -> None:
        self._connections = connections
        self._names = names
        self._sql = statements(names)
        self._translated = translated(names)
        self._clock = clock

    def declare(self, schedules: Sequence[DeclaredSchedule], next_tick: NextTick) -> None:
        with self._translated, self._connections.session() as session:
            now = session.run(self._sql["database_now"], {"now": self._clock()})[0][0]
            for schedule in sorted(schedules, key=lambda each: (each.name, each.expression)):
                session.run(self._sql["declare_schedule"], declared(schedule) | {"next_at": next_tick(schedule, now)})

    def tick(self, names: Sequence[str], next_tick: NextTick) -> float | None:
        params = {"now": self._clock(), "names": list(names)}
        with self._translated, self._connections.session() as session:
            with atomic(session):
                for row in session.run(self._sql["due_schedules"], params):
                    self._fire(session, row, next_tick)
            seconds = session.run(self._sql["next_schedule"], params)[0][0]
        return None if seconds is None else max(seconds, 0.0)

    def _fire(self, session: Session, row: Row, next_tick: NextTick) -> None:
        *fields, due_at, now = row
        schedule = DeclaredSchedule(*fields)
        job = check(tick_job(schedule, due_at), max_payload=0)
        PostgresIntake(session, self._names, self._clock).add([job], on_conflict="raise", notify=True)
        times = {"last_at": due_at, "next_at": next_tick(schedule, now)}
        session.run(self._sql["advance_schedule"], declared(schedule) | times)


def declared(schedule: DeclaredSchedule) -> dict[str, Any]:
    """A schedule's fields as a statement takes them."""
    return {
        "name": schedule.name,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "queue": schedule.queue,
        "priority": schedule.priority,
    }
