"""pgq-sync in Django's admin: jobs, history, workers and schedules, to look at and to steer."""

from __future__ import annotations

from pgq_sync.contrib.django.admin.fleet import ScheduleAdmin, WorkerAdmin
from pgq_sync.contrib.django.admin.jobs import FinishedJobAdmin, UnfinishedJobAdmin

__all__ = ["FinishedJobAdmin", "ScheduleAdmin", "UnfinishedJobAdmin", "WorkerAdmin"]
