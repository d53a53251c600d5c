"""The pages of unfinished jobs and of history."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import connections
from django.db.models import Q
from django.db.models.fields.json import KT
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from pgq_sync.contrib.django.admin import showing
from pgq_sync.contrib.django.admin.looking import (
    BeforeFilter,
    BoundedChangeList,
    CappedPaginator,
    DayFilter,
    EntrypointFilter,
    QueueFilter,
    StatusFilter,
)
from pgq_sync.contrib.django.admin.reading import ReadingAdmin, may_see
from pgq_sync.contrib.django.admin.steering import Steering, SteeringUnfinished
from pgq_sync.contrib.django.models import FinishedJob, UnfinishedJob, Worker
from pgq_sync.contrib.django.reading import queue_alias
from pgq_sync.contrib.django.tables import names
from pgq_sync.storage.database import DjangoSession
from pgq_sync.storage.statements import statements

_CONTENTS = ("shown_payload", "shown_headers", "dedupe_key", "dedupe_until")
_HIDDEN = ("payload", "headers", "errors", "dedupe_key")


class JobAdmin(ReadingAdmin):
    """What both kinds of jobs have in common."""

    paginator = CappedPaginator
    search_fields = ("id",)  # get_search_results does it otherwise; without any there is no box

    def get_changelist(self, request: Any, **kwargs: Any) -> Any:
        return BoundedChangeList

    def get_queryset(self, request: Any) -> Any:
        queryset = super().get_queryset(request)
        match = request.resolver_match
        if match is None or not match.url_name.endswith("_changelist"):
            return queryset
        queryset = queryset.defer(*[name for name in (*_HIDDEN, "result") if hasattr(self.model, name)])
        if may_see(request):
            queryset = queryset.annotate(failure_type=KT("errors__-1__type"), failure_message=KT("errors__-1__message"))
        return queryset

    def get_list_display(self, request: Any) -> Any:
        return (*self.list_display, "reason") if may_see(request) else self.list_display

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.isdecimal():
            return (queryset.filter(pk=int(term)) if 0 < int(term) < 2**63 else queryset.none()), False
        if not may_see(request):
            return queryset.filter(entrypoint__startswith=term), False
        if (job_id := self.id_by_key(request, term)) is not None:
            found = queryset.filter(pk=job_id)
            found.found_by_key = True
            return found, False
        return queryset.filter(Q(entrypoint__startswith=term) | Q(dedupe_key=term)), False

    def id_by_key(self, request: Any, key: str) -> int | None:
        """The job that holds a dedupe key, where an index tells."""
        return None

    def complete(self, request: Any, jobs: list[Any]) -> list[Any]:
        """Looks up what stands in other tables, for the jobs of a page."""
        workers = {job.worker_id for job in jobs if job.worker_id}
        known = Worker.objects.in_bulk(workers) if workers else {}
        running = [job.pk for job in jobs if job.status == "running"]
        session = DjangoSession(connections[queue_alias()])
        rows = session.run(statements(names())["progress"], {"ids": running}) if running else []
        fractions = {row[0]: row[1:] for row in rows}
        for job in jobs:
            job.known_worker = known.get(job.worker_id)
            job.told_progress = fractions.get(job.pk)
        return jobs

    def get_object(self, request: Any, object_id: str, from_field: Any = None) -> Any:
        job = super().get_object(request, object_id, from_field)
        return self.complete(request, [job])[0] if job is not None else None

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        other = FinishedJob if self.model is UnfinishedJob else UnfinishedJob
        if request.method == "GET" and object_id.isdecimal() and 0 < int(object_id) < 2**63:
            return self._unless_missing(request, lambda: self._here_or_there(request, object_id, other, extra_context))
        return super().change_view(request, object_id, form_url, extra_context)

    def _here_or_there(self, request: Any, object_id: str, other: Any, extra_context: Any) -> HttpResponse:
        """A job that has finished, or was put back, meanwhile is on the other page."""
        key = int(object_id)
        if not self.model.objects.filter(pk=key).exists() and other.objects.filter(pk=key).exists():
            name = f"{self.admin_site.name}:pgq_sync_{other._meta.model_name}_change"
            return HttpResponseRedirect(reverse(name, args=[key]))
        return super().change_view(request, object_id, "", extra_context)

    @admin.display(description="reason of the last failure")
    def reason(self, job: Any) -> str:
        if not job.failure_type:
            return "-"
        said = f"{job.failure_type}: {job.failure_message or ''}"
        return said if len(said) <= 120 else said[:119] + "\u2026"

    @admin.display(description="waited")
    def waited(self, job: Any) -> str:
        return showing.span(job.wait)

    @admin.display(description="age")
    def aged(self, job: Any) -> str:
        return showing.span(job.age)

    @admin.display(description="run time")
    def ran(self, job: Any) -> str:
        return showing.span(job.run_time)

    @admin.display(description="worker")
    def worker(self, job: Any) -> str:
        if job.known_worker is None:
            return f"{str(job.worker_id)[:8]} (gone)" if job.worker_id else "-"
        return showing.link(self.admin_site.name, "worker", job.worker_id, job.known_worker.name)

    @admin.display(description="progress")
    def progress(self, job: Any) -> str:
        return f"{job.told_progress[0]:.0%}" if job.told_progress else "-"

    @admin.display(description="progress note")
    def progress_note(self, job: Any) -> str:
        return (job.told_progress[1] or "-") if job.told_progress else "-"

    @admin.display(description="payload")
    def shown_payload(self, job: Any) -> str:
        return showing.payload(job.payload)

    @admin.display(description="headers")
    def shown_headers(self, job: Any) -> str:
        return showing.as_json(job.headers)

    @admin.display(description="failed attempts")
    def shown_errors(self, job: Any) -> str:
        return showing.failures(job.errors)

    @admin.display(description="requeued from")
    def came_from(self, job: Any) -> str:
        return showing.link(self.admin_site.name, "finishedjob", job.requeued_from)

    @admin.display(description="contents")
    def kept_back(self, job: Any) -> str:
        return "Payload, headers, result, dedupe key and errors are shown to users with the permission view_payload."


@admin.register(UnfinishedJob)
class UnfinishedJobAdmin(SteeringUnfinished, JobAdmin):
    """Jobs that wait, run or are held."""

    actions = ("cancel", "requeue", "erase", "pause_entrypoint", "resume_entrypoint")
    list_display = ("id", "status", "entrypoint", "queue", "attempt", "aged", "waited", "ran", "worker", "progress")
    list_filter = (StatusFilter, EntrypointFilter, QueueFilter, BeforeFilter)
    search_help_text = "By id, by the dedupe key, or by how an entrypoint begins; the last among the latest 20,000 jobs."

    def id_by_key(self, request: Any, key: str) -> int | None:
        # In the words of the index: only keys that guard are in it.
        guarding = self.model.objects.filter(dedupe_key=key, dedupe_until__isnull=False)
        return guarding.values_list("pk", flat=True).first()

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        sees = may_see(request)
        now = ("id", "status", "entrypoint", "queue", "priority", "attempt", "rescues", "worker", "progress", "came_from")
        return [
            (None, {"fields": (*now, "progress_note") if sees else now}),
            ("Timeline", {"fields": ("created_at", "execute_after", "claimed_at", "aged", "waited", "ran")}),
            ("Contents", {"fields": (*_CONTENTS, "shown_errors") if sees else ("kept_back",)}),
        ]


@admin.register(FinishedJob)
class FinishedJobAdmin(Steering, JobAdmin):
    """History."""

    actions = ("requeue", "erase")
    list_display = ("id", "status", "entrypoint", "queue", "attempts", "finished_at", "waited", "ran", "worker")
    list_filter = (StatusFilter, EntrypointFilter, QueueFilter, DayFilter, BeforeFilter)
    search_help_text = (
        "By id in all of history; by a dedupe key, or by how an entrypoint begins, "
        "among the latest 20,000 jobs of the filters, or 5,000 failed ones."
    )

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        contents = (*_CONTENTS, "shown_result", "shown_errors") if may_see(request) else ("kept_back",)
        now = ("id", "status", "entrypoint", "queue", "priority", "attempts", "worker", "came_from", "went_to")
        return [
            (None, {"fields": now}),
            ("Timeline", {"fields": ("created_at", "execute_after", "claimed_at", "finished_at", "waited", "ran")}),
            ("Contents", {"fields": contents}),
        ]

    @admin.display(description="result")
    def shown_result(self, job: Any) -> str:
        return showing.as_json(job.result)

    @admin.display(description="requeued as")
    def went_to(self, job: Any) -> str:
        return showing.link(self.admin_site.name, "unfinishedjob", job.requeued_as)
