"""The schedules of the store in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from pgq_sync.models import DeclaredSchedule, JobId, ScheduleRecord
from pgq_sync.storage.aside import Aside
from pgq_sync.storage.memory.state import MemoryState
from pgq_sync.storage.store import Intake
from pgq_sync.storage.ticks import fire, new_row, resumed_at, run_now_job

Change = Callable[[ScheduleRecord], ScheduleRecord | None]


class MemorySchedules:
    """The schedules on the jobs in memory. Methods with an underscore expect the state's lock to be held.

    Args:
        intake: where the ticks' jobs are enqueued.
        state: of the store.
    """

    def __init__(self, intake: Intake, state: MemoryState) -> None:
        self._intake = intake
        self._state = state
        self._aside = Aside()

    def declare(self, schedules: Sequence[DeclaredSchedule]) -> None:
        ordered = sorted(schedules, key=lambda each: (each.name, each.expression))
        with self._state.lock:
            for _, group in groupby(ordered, key=lambda each: each.name):
                self._declare(list(group), self._state.now())
        self._state.wake_schedulers()

    def _declare(self, schedules: Sequence[DeclaredSchedule], now: datetime) -> None:
        replaced: list[ScheduleRecord] = []
        if any(each.clean_old for each in schedules):
            declared = {each.expression for each in schedules}
            replaced = [row for row in self._rows(schedules[0].name) if row.expression not in declared]
        for old in replaced:
            del self._state.schedules[old.name, old.expression]
        for schedule in schedules:
            row = new_row(schedule, replaced, now)
            known = self._state.schedules.get((row.name, row.expression))
            if known is not None:
                next_at = known.next_at if known.timezone == row.timezone else row.next_at
                row = dataclasses.replace(row, next_at=next_at, last_at=known.last_at, paused_at=known.paused_at)
            self._state.schedules[row.name, row.expression] = row

    def tick(self, entrypoints: Sequence[str], queues: Sequence[str] | None, grace: timedelta) -> float | None:
        with self._state.lock:
            now = self._state.now()
            due = [row for row in self._served(entrypoints, queues) if row.next_at <= now]
            for firing in fire(sorted(due, key=lambda row: row.next_at), now, grace, self._aside):
                if firing.jobs:
                    self._intake.add(firing.jobs, on_conflict="raise", notify=True)
                row = firing.schedule
                self._state.schedules[row.name, row.expression] = dataclasses.replace(
                    row, last_at=firing.last_at or row.last_at, next_at=firing.next_at
                )
            seconds = [max((row.next_at - now).total_seconds(), 0.0) for row in self._served(entrypoints, queues)]
        return self._aside.sooner(min(seconds, default=None))

    def _served(self, entrypoints: Sequence[str], queues: Sequence[str] | None) -> Iterator[ScheduleRecord]:
        aside = self._aside.keys()
        for row in self._rows():
            served = row.entrypoint in entrypoints and (queues is None or row.queue in queues)
            if served and row.paused_at is None and (row.name, row.expression, row.timezone) not in aside:
                yield row

    def _rows(self, name: str | None = None) -> list[ScheduleRecord]:
        return [row for _, row in sorted(self._state.schedules.items()) if name in (None, row.name)]

    def records(self, name: str | None = None) -> list[ScheduleRecord]:
        with self._state.lock:
            return self._rows(name)

    def put(self, schedule: DeclaredSchedule) -> ScheduleRecord:
        with self._state.lock:
            self._declare([schedule], self._state.now())
            made = self._state.schedules[schedule.name, schedule.expression]
        self._state.wake_schedulers()
        return made

    def pause(self, name: str, expressions: Sequence[str]) -> int:
        def change(row: ScheduleRecord) -> ScheduleRecord:
            return row if row.paused_at else dataclasses.replace(row, paused_at=self._state.now())

        return self._change(name, expressions, change)

    def resume(self, name: str, expressions: Sequence[str]) -> int:
        def change(row: ScheduleRecord) -> ScheduleRecord:
            if row.paused_at is None:
                return row
            return dataclasses.replace(row, paused_at=None, next_at=resumed_at(row, self._state.now()))

        return self._change(name, expressions, change)

    def remove(self, name: str, expressions: Sequence[str]) -> int:
        return self._change(name, expressions, lambda row: None)

    def _change(self, name: str, expressions: Sequence[str], change: Change) -> int:
        """Changes rows, or removes them, and tells how many did change."""
        with self._state.lock:
            rows = [row for row in self._rows(name) if row.expression in expressions]
            changed = {(row.name, row.expression): new for row in rows if (new := change(row)) is not row}
            for key, new in changed.items():
                if new is None:
                    del self._state.schedules[key]
                else:
                    self._state.schedules[key] = new
        self._state.wake_schedulers()
        return len(changed)

    def run_now(self, name: str, expression: str) -> JobId | None:
        with self._state.lock:
            row = self._state.schedules.get((name, expression))
            if row is None:
                return None
            return self._intake.add([run_now_job(row, self._state.now())], on_conflict="raise", notify=True)[0]
