"""The pages of workers and schedules."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from pgq_sync.contrib.django.admin import showing
from pgq_sync.contrib.django.admin.reading import ReadingAdmin, may_see
from pgq_sync.contrib.django.admin.steering import SteeringSchedules
from pgq_sync.contrib.django.models import Schedule, Worker


@admin.register(Worker)
class WorkerAdmin(ReadingAdmin):
    """Running processes."""

    list_display = ("name", "state", "host", "pid", "slots", "served_queues", "sign_of_life", "started_at", "version")

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        fields = ("name", "worker_id", "state", "host", "pid", "version", "slots", "served_queues", "served_entrypoints")
        return [(None, {"fields": (*fields, "started_at", "beat_at", "sign_of_life")})]

    @admin.display(description="last sign of life")
    def sign_of_life(self, worker: Any) -> str:
        late = " (taken for dead)" if worker.silence > worker.liveness_limit else ""
        return f"{showing.span(worker.silence)} ago{late}"

    @admin.display(description="queues")
    def served_queues(self, worker: Any) -> str:
        return "all" if worker.queues is None else ", ".join(worker.queues)

    @admin.display(description="entrypoints")
    def served_entrypoints(self, worker: Any) -> str:
        return ", ".join(worker.entrypoints)


@admin.register(Schedule)
class ScheduleAdmin(SteeringSchedules, ReadingAdmin):
    """Schedules."""

    actions = ("pause", "resume", "run_now", "remove")
    list_display = ("name", "expression", "timezone", "entrypoint", "queue", "next_at", "last_at", "paused_at")

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        fields = ("name", "expression", "timezone", "entrypoint", "queue", "priority", "on_missed", "jitter")
        times = ("next_at", "last_at", "paused_at")
        return [(None, {"fields": (*fields, *times, *(("shown_payload",) if may_see(request) else ()))})]

    @admin.display(description="payload")
    def shown_payload(self, schedule: Any) -> str:
        return showing.payload(schedule.payload)
