"""Schedules on PostgreSQL. A tick is one transaction: it moves schedules on and enqueues ordinary jobs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Any

from pgq_sync.errors import PgqError
from pgq_sync.models import DeclaredSchedule, JobId, ScheduleRecord
from pgq_sync.storage.aside import Aside
from pgq_sync.storage.database import Params, Row, Session, atomic
from pgq_sync.storage.failures import told, translated
from pgq_sync.storage.inserts import PostgresIntake, text
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock
from pgq_sync.storage.ticks import BESIDE_ANOTHER, fire, new_row, resumed_at, run_now_job, stands

_ROWS = 1000  # schedules that fire in one transaction


class PostgresSchedules:
    """The schedules of one installation.

    Args:
        session: gives the session that a call runs on.
        names: the tables' names.
        clock: the time that decides what is due.
    """

    def __init__(self, session: Callable[[], AbstractContextManager[Session]], names: Names, clock: Clock) -> None:
        self._session = session
        self._names = names
        self._told = told(names)
        self._translated = translated(names)
        self._sql = statements(names)
        self._clock = clock
        self._aside = Aside()

    def declare(self, schedules: Sequence[DeclaredSchedule]) -> None:
        # In one order, so that no two workers that start at once wait for each other.
        ordered = sorted(schedules, key=lambda each: (each.name, each.expression))
        with self._translated, self._session() as session, atomic(session):
            now = self._now(session)
            changed = [self._declare(session, group, now) for group in self._news(session, ordered)]
            # Most often nothing is new as a worker starts, and nobody need look.
            if any(changed):
                session.run(self._sql["schedules_changed"])

    def _news(self, session: Session, schedules: Sequence[DeclaredSchedule]) -> list[list[DeclaredSchedule]]:
        """What is declared, by name, without the names of which all stands so already: for a row that is not to be changed
        no worker waits as it starts, however long an operator's transaction holds it."""
        rows = self._records(session)
        named = [list(group) for _, group in groupby(schedules, key=lambda each: each.name)]
        return [group for group in named if not stands(group, [row for row in rows if row.name == group[0].name])]

    def _declare(self, session: Session, schedules: Sequence[DeclaredSchedule], now: datetime) -> bool:
        """Notes all that is declared under one name; tells whether anything has changed."""
        session.run(self._sql["lock_name"], {"name": schedules[0].name})
        replaced: list[ScheduleRecord] = []
        if any(each.clean_old for each in schedules):
            params = {"name": schedules[0].name, "expressions": [each.expression for each in schedules]}
            session.run(self._sql["lock_schedules"], params)  # a statement apart, so that the next sees what was waited for
            replaced = [_record(row) for row in session.run(self._sql["replace_schedules"], params)]
        rows = [new_row(schedule, replaced, now) for schedule in schedules]
        changed = [session.run(self._sql["declare_schedule"], _params(row)) for row in rows]
        return bool(replaced) or any(changed)

    def tick(self, entrypoints: Sequence[str], queues: Sequence[str] | None, grace: timedelta) -> float | None:
        served = {
            "now": text(self._clock()),
            "entrypoints": list(entrypoints),
            "queues": None if queues is None else list(queues),
        }
        fired = False
        with self._translated, self._session() as session:
            seconds = self._next_in(session, served)
            if seconds is not None and seconds <= 0:
                fired = self._fire(session, served, grace)
                seconds = self._next_in(session, served)
            if seconds is not None and seconds <= 0:
                # Due, and nothing fired: another scheduler is about to.
                seconds = 0.0 if fired else BESIDE_ANOTHER
        return self._aside.sooner(seconds)

    def _next_in(self, session: Session, served: Params) -> float | None:
        seconds: float | None = session.run(self._sql["next_schedule"], {**served, **self._left_alone()})[0][0]
        return seconds

    def _left_alone(self) -> Params:
        keys = self._aside.keys()
        return {"names": [key[0] for key in keys], "expressions": [key[1] for key in keys], "zones": [key[2] for key in keys]}

    def _fire(self, session: Session, served: Params, grace: timedelta) -> bool:
        """Fires what is due, and tells whether anything was."""
        try:
            with self._translated, atomic(session):
                return self._fire_together(session, self._due(session, served, _ROWS), grace)
        except PgqError:
            raise
        except Exception:
            # The database refuses one of the jobs: a trigger of the application's, say. One by one it is found.
            return self._fire_singly(session, served, grace)

    def _fire_together(self, session: Session, rows: Sequence[Row], grace: timedelta) -> bool:
        firings = fire(map(_record, rows), rows[0][-1], grace, self._aside) if rows else []
        if jobs := [job for firing in firings for job in firing.jobs]:
            PostgresIntake(session, self._names, self._clock).add(jobs, on_conflict="raise", notify=True)
        if firings:
            params = {
                "names": [each.schedule.name for each in firings],
                "expressions": [each.schedule.expression for each in firings],
                "last_at": [text(each.last_at) for each in firings],
                "next_at": [text(each.next_at) for each in firings],
            }
            session.run(self._sql["advance_schedules"], params)
        return bool(firings)

    def _fire_singly(self, session: Session, served: Params, grace: timedelta) -> bool:
        fired = False
        for _ in range(_ROWS):
            rows: Sequence[Row] = ()
            try:
                with self._translated, atomic(session):
                    rows = self._due(session, served, 1)
                    fired = self._fire_together(session, rows, grace) or fired
            except PgqError:
                raise
            except Exception as error:
                if not rows:
                    raise
                self._aside.put(_record(rows[0]), error)
            if not rows:
                break
        return fired

    def _due(self, session: Session, served: Params, most: int) -> Sequence[Row]:
        return session.run(self._sql["due_schedules"], {**served, **self._left_alone(), "most": most})

    def records(self, name: str | None = None) -> list[ScheduleRecord]:
        with self._told, self._session() as session:
            return self._records(session, name)

    def _records(self, session: Session, name: str | None = None) -> list[ScheduleRecord]:
        return [_record(row) for row in session.run(self._sql["schedules"], {"name": name})]

    def put(self, schedule: DeclaredSchedule) -> ScheduleRecord:
        with self._told, self._changing() as session:
            self._declare(session, [schedule], self._now(session))
            made = self._records(session, schedule.name)
        return next(record for record in made if record.expression == schedule.expression)

    def pause(self, name: str, expressions: Sequence[str]) -> int:
        return self._switch("pause_schedules", name, expressions, now=text(self._clock()))

    def resume(self, name: str, expressions: Sequence[str]) -> int:
        params: Params = {"name": name, "expressions": list(expressions), "now": text(self._clock())}
        with self._told, self._changing() as session:
            rows = session.run(self._sql["paused_schedules"], params)
            resumed = {
                "expressions": [_record(row).expression for row in rows],
                "next_at": [text(resumed_at(_record(row), row[-1])) for row in rows],
            }
            session.run(self._sql["resume_schedules"], {**params, **resumed})
        return len(rows)

    def remove(self, name: str, expressions: Sequence[str]) -> int:
        return self._switch("remove_schedules", name, expressions)

    def _switch(self, statement: str, name: str, expressions: Sequence[str], **more: Any) -> int:
        with self._told, self._changing() as session:
            return len(session.run(self._sql[statement], {"name": name, "expressions": list(expressions), **more}))

    def run_now(self, name: str, expression: str) -> JobId | None:
        with self._told, self._session() as session:
            for schedule in self._records(session, name):
                if schedule.expression == expression:
                    job = run_now_job(schedule, self._now(session))
                    return PostgresIntake(session, self._names, self._clock).add([job], on_conflict="raise", notify=True)[0]
        return None

    @contextmanager
    def _changing(self) -> Iterator[Session]:
        """A transaction that every worker hears of."""
        with self._session() as session, atomic(session):
            yield session
            session.run(self._sql["schedules_changed"])

    def _now(self, session: Session) -> datetime:
        now: datetime = session.run(self._sql["database_now"], {"now": text(self._clock())})[0][0]
        return now


def _params(row: ScheduleRecord) -> Params:
    """A row's fields as a statement takes them."""
    times = {name: text(getattr(row, name)) for name in _TIMES}
    jitter = None if row.jitter is None else row.jitter.total_seconds()
    return {name: getattr(row, name) for name in _RECORD} | times | {"jitter": jitter}


def _record(row: Row) -> ScheduleRecord:
    fields = dict(zip(_RECORD, row, strict=False))  # some statements tell the time besides
    # What drivers make of a column differs.
    times = {name: fields[name] and fields[name].astimezone(timezone.utc) for name in _TIMES}
    jitter = None if fields["jitter"] is None else timedelta(seconds=fields["jitter"])
    payload = None if fields["payload"] is None else bytes(fields["payload"])
    return ScheduleRecord(**{**fields, **times, "jitter": jitter, "payload": payload})


_TIMES = ("next_at", "last_at", "paused_at")
_RECORD = (
    *("name", "entrypoint", "expression", "timezone", "queue", "priority", "on_missed", "jitter"),
    *(*_TIMES, "payload"),
)
