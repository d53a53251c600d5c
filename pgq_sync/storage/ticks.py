"""The job that a schedule's tick enqueues, the same on every store."""

from __future__ import annotations

from datetime import datetime

from pgq_sync.models import DeclaredSchedule, NewJob

HEADER = "pgq_schedule"  # under which the job's headers tell its tick


def tick_job(schedule: DeclaredSchedule, due_at: datetime) -> NewJob:
    """The job for the tick of `schedule` that was due at `due_at`."""
    tick = {"expression": schedule.expression, "timezone": schedule.timezone, "due_at": due_at.isoformat()}
    return NewJob(entrypoint=schedule.name, queue=schedule.queue, priority=schedule.priority, headers={HEADER: tick})
