"""What a scheduled function is called with, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgq_sync.entrypoints.calls import call_with
from pgq_sync.entrypoints.context import Context
from pgq_sync.models import Job
from pgq_sync.storage.ticks import HEADER

ScheduleContext = Context
"""The context as a scheduled function gets it: the same as that of every other job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One tick of a schedule, as its function sees it."""

    name: str  # of the schedule
    expression: str  # as `pgq.schedules` lists it; empty if the job is no tick
    timezone: str
    due_at: datetime  # the time that the expression named, in UTC
    job: Job  # the job that runs it


@dataclass(frozen=True, slots=True)
class ScheduleCall:
    """Calls a scheduled function with its tick."""

    func: Callable[..., Any]
    context_parameter: str | None

    def __call__(self, job: Job, context: Context) -> Any:
        return call_with(self.func, self.context_parameter, _tick(job), context)


def _tick(job: Job) -> Schedule:
    # A job that somebody enqueued by hand under the schedule's name has no tick: it is its own.
    tick = _mapping(_mapping(job.headers).get(HEADER))
    return Schedule(
        name=str(tick.get("name", job.entrypoint)),
        expression=str(tick.get("expression", "")),
        timezone=str(tick.get("timezone", "UTC")),
        due_at=_moment(tick.get("due_at")) or job.execute_after,
        job=job,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
