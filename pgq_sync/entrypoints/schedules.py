"""What the user declares about time: cron expressions, and the value that a scheduled function is called with."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

from pgq_sync.entrypoints.calls import call_with
from pgq_sync.entrypoints.context import Context
from pgq_sync.models import DeclaredSchedule, Job
from pgq_sync.storage.ticks import HEADER


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One tick of a schedule, as its function sees it."""

    name: str
    expression: str  # five cron fields, or six with seconds last
    timezone: str
    due_at: datetime  # the time that the expression named
    job: Job  # the job that runs it


@dataclass(frozen=True, slots=True)
class ScheduleCall:
    """Calls a scheduled function with its tick."""

    func: Callable[..., Any]
    context_parameter: str | None

    def __call__(self, job: Job, context: Context) -> Any:
        return call_with(self.func, self.context_parameter, _tick(job), context)


def check_expression(expression: str, zone: str) -> None:
    """Raises ValueError unless croniter understands `expression`, and `zone` is an IANA name."""
    if not isinstance(expression, str):
        raise TypeError(f"expression={expression!r} must be a str, not {type(expression).__name__}")
    if problem := _problem(expression):
        raise ValueError(
            f"expression={expression!r} is no cron expression: {problem}. "
            "Five fields (minute hour day month weekday) are accepted, six with seconds last, or @hourly and the like"
        )
    _zone(zone)


def _problem(expression: str) -> str | None:
    fields = len(expression.split())
    if not expression.startswith("@") and fields not in (5, 6):
        return f"it has {fields} fields"
    try:
        croniter(expression).get_next()
    except CroniterBadDateError:
        return "the time that it names never comes"
    except (CroniterBadCronError, ValueError, KeyError) as error:
        return str(error).rstrip(".")
    return None


def next_tick(schedule: DeclaredSchedule, after: datetime) -> datetime:
    """The first time after `after` that the schedule's expression names."""
    local = after.astimezone(_zone(schedule.timezone))
    following: datetime = croniter(schedule.expression, local).get_next(datetime)
    return following.astimezone(timezone.utc)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    if not isinstance(name, str):
        raise TypeError(f"timezone={name!r} must be a str, not {type(name).__name__}")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone={name!r} is unknown: IANA names such as Europe/Berlin or UTC are accepted") from None


def _tick(job: Job) -> Schedule:
    # A job that somebody enqueued by hand under the schedule's name has no tick: it is its own.
    tick: Mapping[str, Any] = (job.headers or {}).get(HEADER) or {}
    due_at = tick.get("due_at")
    return Schedule(
        name=job.entrypoint,
        expression=tick.get("expression", ""),
        timezone=tick.get("timezone", "UTC"),
        due_at=datetime.fromisoformat(due_at) if due_at else job.execute_after,
        job=job,
    )
