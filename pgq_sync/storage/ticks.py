"""Which ticks of a schedule are to be run, and the jobs that run them: the same on every store."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgq_sync.models import DeclaredSchedule, NewJob, ScheduleRecord
from pgq_sync.storage import cron
from pgq_sync.storage.aside import Aside
from pgq_sync.storage.intake import CheckedJob, check

HEADER = "pgq_schedule"  # under which the job's headers tell its tick
MOST = 1000  # jobs that are enqueued in one transaction
BESIDE_ANOTHER = 0.2  # seconds until a look at what another scheduler seems to be firing
_MOMENT = timedelta(microseconds=1)
_OPTIONS = ("timezone", "entrypoint", "queue", "priority", "payload", "on_missed", "jitter")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for a schedule that is due."""

    due: Sequence[datetime]  # each gets a job
    next_at: datetime  # not later than now where there is more than one transaction takes


@dataclass(frozen=True, slots=True)
class Firing:
    """A schedule that is due, with the jobs for its ticks and when it is due next."""

    schedule: ScheduleRecord
    jobs: Sequence[CheckedJob]
    last_at: datetime | None  # the latest of the ticks; None: all were skipped
    next_at: datetime


def fire(schedules: Iterable[ScheduleRecord], now: datetime, grace: timedelta, aside: Aside) -> list[Firing]:
    """What is to be done in one transaction for schedules that are due; those that cannot be read are put aside."""
    firings: list[Firing] = []
    left = MOST
    for schedule in schedules:
        if left <= 0:
            break
        try:
            planned = plan(schedule, now, grace, left)
            jobs = tick_jobs(schedule, planned.due)
        except (ValueError, TypeError, OverflowError) as error:
            aside.put(schedule, error)
            continue
        left -= len(jobs)
        firings.append(Firing(schedule, jobs, planned.due[-1] if planned.due else None, planned.next_at))
    return firings


def plan(schedule: ScheduleRecord, now: datetime, grace: timedelta, most: int) -> Plan:
    """What is to be done for a schedule that is due.

    Args:
        schedule: its row.
        now: the time by the store's clock.
        grace: a tick that is older counts as missed, and `on_missed` says what becomes of it; all others are run.
        most: how many ticks to run at most; from 1 up.

    Raises:
        ValueError: its expression or time zone cannot be used here.
    """
    due: list[datetime] = []
    for tick in _ticks(schedule, now - grace - _MOMENT):
        if tick > now or len(due) == most:
            return Plan(due, tick)
        due.append(tick)
    raise AssertionError("ticks have no end")


def _ticks(schedule: ScheduleRecord, late: datetime) -> Iterable[datetime]:
    """The ticks that are to be run and those to come; what lies before `late` and right at it was missed."""
    times = cron.read(schedule.expression, schedule.timezone)
    first = schedule.next_at
    if first > late or schedule.on_missed == "all":
        return itertools.chain([first], times.ticks(first))
    latest = times.last(first, late) or first
    return itertools.chain([latest] if schedule.on_missed == "once" else [], times.ticks(latest))


def stands(declared: Sequence[DeclaredSchedule], known: Sequence[ScheduleRecord]) -> bool:
    """Whether all that is declared under a name is noted already, as it is declared.

    Args:
        declared: everything that is declared under it.
        known: its rows.
    """
    rows = {row.expression: row for row in known}
    cleaned = any(each.clean_old for each in declared) and len(rows) > len(declared)
    return not cleaned and all(_stands(each, rows.get(each.expression)) for each in declared)


def _stands(declared: DeclaredSchedule, known: ScheduleRecord | None) -> bool:
    return known is not None and all(getattr(declared, option) == getattr(known, option) for option in _OPTIONS)


def new_row(schedule: DeclaredSchedule, replaced: Sequence[ScheduleRecord], now: datetime) -> ScheduleRecord:
    """The row of a schedule that has none yet.

    Args:
        schedule: what was declared.
        replaced: the rows whose place it takes. It keeps when the last of them ran, and stays paused if all of them were.
        now: the time by the store's clock.
    """
    return ScheduleRecord(
        name=schedule.name,
        entrypoint=schedule.entrypoint,
        expression=schedule.expression,
        timezone=schedule.timezone,
        queue=schedule.queue,
        priority=schedule.priority,
        on_missed=schedule.on_missed,
        jitter=schedule.jitter,
        payload=schedule.payload,
        next_at=_first_tick(schedule, replaced, now),
        last_at=_last_at(replaced),
        paused_at=now if replaced and all(each.paused_at for each in replaced) else None,
    )


def _first_tick(schedule: DeclaredSchedule, replaced: Sequence[ScheduleRecord], now: datetime) -> datetime:
    """When it is due. Where one of the replaced was due and has not run, what was missed is counted from when the last of
    them ran; where none was, nothing was missed, whatever the new expression would have named meanwhile."""
    missed = [each.next_at - _MOMENT for each in replaced if each.paused_at is None and each.next_at <= now]
    since = (_last_at(replaced) or min(missed)) if missed else now
    return cron.read(schedule.expression, schedule.timezone).after(min(since, now))


def _last_at(replaced: Sequence[ScheduleRecord]) -> datetime | None:
    return max((each.last_at for each in replaced if each.last_at), default=None)


def resumed_at(schedule: ScheduleRecord, now: datetime) -> datetime:
    """When a paused schedule is due next: what its pause covered was not missed."""
    if schedule.next_at > now:
        return schedule.next_at
    return cron.read(schedule.expression, schedule.timezone).after(now)


def tick_jobs(schedule: ScheduleRecord, due: Iterable[datetime]) -> list[CheckedJob]:
    """The jobs for ticks of `schedule`, in the form of rows."""
    return [check(_tick_job(schedule, due_at, _delay(schedule)), len(schedule.payload or b"")) for due_at in due]


def run_now_job(schedule: ScheduleRecord, now: datetime) -> CheckedJob:
    """A job for `schedule` beside its own times, at once."""
    return check(_tick_job(schedule, now, timedelta()), len(schedule.payload or b""))


def _tick_job(schedule: ScheduleRecord, due_at: datetime, delay: timedelta) -> NewJob:
    tick: Mapping[str, Any] = {
        "name": schedule.name,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "due_at": due_at.isoformat(),
    }
    return NewJob(
        entrypoint=schedule.entrypoint,
        payload=schedule.payload,
        queue=schedule.queue,
        priority=schedule.priority,
        headers={HEADER: tick},
        execute_after=due_at + delay,
    )


def _delay(schedule: ScheduleRecord) -> timedelta:
    return timedelta() if schedule.jitter is None else schedule.jitter * random.random()
