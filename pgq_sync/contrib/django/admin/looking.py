"""Lists over tables of millions: they look at the latest jobs only, count no further than they show, and say so."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from django.utils.html import format_html

from pgq_sync.contrib.django.models import Worker

WINDOW = 20_000  # jobs that a filter looks through
FAILED = 5_000  # failed ones that a filter looks through: few lie on a page of the disk, 20,000 took 0.28 s
MOST = 1_000  # jobs that are counted and listed
_NAMED = 2_000  # jobs whose entrypoints and queues are offered
_DAYS = 8


class CappedPaginator(Paginator):
    """Counts up to MOST."""

    @cached_property
    def counted(self) -> int:
        return int(self.object_list.order_by().values("pk")[: MOST + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self.counted, MOST)


class BoundedChangeList(ChangeList):
    """A list whose queries touch some 20,000 rows at most, whatever is asked for."""

    notice = ""
    result_list: Any

    def get_ordering(self, request: Any, queryset: Any) -> list[str]:
        return ["-finished_at", "-id"] if self._by_time else ["-id"]

    def get_queryset(self, request: Any, exclude_parameters: Any = None) -> Any:
        queryset = super().get_queryset(request, exclude_parameters)
        if self._is_small or getattr(queryset, "found_by_key", False):
            return queryset
        return self._bounded(queryset)

    def get_results(self, request: Any) -> None:
        super().get_results(request)
        if self.paginator.counted > MOST:
            self.notice = format_html("{}<p>More than {} jobs match: the latest are listed.</p>", self.notice, f"{MOST:,}")
        self.result_list = self.model_admin.complete(request, list(self.result_list))

    @property
    def _by_time(self) -> bool:
        """Failed jobs have an index of their own, in the order in which they ended."""
        return self._status == "failed"

    @property
    def _is_small(self) -> bool:
        """By id, or by a status of which there are few and an index."""
        return self.query.strip().isdecimal() or self._status in ("held", "running")

    @property
    def _status(self) -> str | None:
        """The status that is asked for, if jobs of this list can have it."""
        known = [status for status, _ in self.model._meta.get_field("status").choices]
        return next((status for status in known if status == self._chosen("status")), None)

    def _chosen(self, name: str) -> Any:
        values = self.filter_params.get(name)
        return values[-1] if values else None

    def _bounded(self, queryset: Any) -> Any:
        column = "finished_at" if self._by_time else "id"
        looked_at = self.root_queryset.order_by(f"-{column}")
        for spec in self.filter_specs:
            if spec.parameter_name == "day" or (spec.parameter_name == "status" and self._by_time):
                looked_at = spec.queryset(None, looked_at)
        if (before := self._before()) is not None:
            looked_at = looked_at.filter(**{f"{column}__lt": before})
            queryset = queryset.filter(**{f"{column}__lt": before})
        window = FAILED if self._by_time else WINDOW
        bound = next(iter(looked_at.values_list(column, flat=True)[window - 1 : window]), None)
        if bound is None:
            return queryset
        older = self.get_query_string({"before": bound.isoformat() if self._by_time else bound}, ["p", "e"])
        kind = "failed jobs" if self._by_time else "jobs"
        self.notice = format_html('<p>Among {} {}. <a href="{}">Look further back</a></p>', f"{window:,}", kind, older)
        return queryset.filter(**{f"{column}__gte": bound})

    def _before(self) -> int | datetime | None:
        given = self._chosen("before")
        if given is None:
            return None
        try:
            before = parse_datetime(given) if self._by_time else int(given)
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error
        if before is None or (isinstance(before, int) and not 0 < before < 2**63):
            raise IncorrectLookupParameters(given)
        return before


class _Chosen(admin.SimpleListFilter):
    """Rows with a value in a column."""

    def queryset(self, request: Any, queryset: Any) -> Any:
        value = self.value()
        if value is not None and "\x00" in value:
            return queryset.none()  # which PostgreSQL would refuse
        return queryset if value is None else queryset.filter(**{self.parameter_name: value})


class StatusFilter(_Chosen):
    """By status."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return model_admin.model._meta.get_field("status").choices

    def queryset(self, request: Any, queryset: Any) -> Any:
        known = self.value() is None or self.value() in dict(self.lookup_choices)
        return super().queryset(request, queryset) if known else queryset.none()


class EntrypointFilter(_Chosen):
    """By entrypoint, of the latest jobs and of the running workers; others can be searched."""

    title = "entrypoint"
    parameter_name = "entrypoint"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        served = Worker.objects.values_list("entrypoints", flat=True)
        names = {name for name, _ in latest_names(request, model_admin)}.union(*served)
        return [(name, name) for name in sorted(names)]

    def has_output(self) -> bool:
        return True


class QueueFilter(_Chosen):
    """By queue, of the latest jobs."""

    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return [(name, name) for name in sorted({queue for _, queue in latest_names(request, model_admin)})]

    def has_output(self) -> bool:
        return True


class DayFilter(admin.SimpleListFilter):
    """By the UTC day of the end: a partition of history."""

    title = "day (UTC)"
    parameter_name = "day"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        today = datetime.now(timezone.utc).date()
        return [(str(day), str(day)) for day in (today - timedelta(days=n) for n in range(_DAYS))]

    def queryset(self, request: Any, queryset: Any) -> Any:
        if self.value() is None:
            return queryset
        try:
            start = datetime.strptime(self.value(), "%Y-%m-%d").replace(tzinfo=timezone.utc)
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error
        return queryset.filter(finished_at__gte=start, finished_at__lt=start + timedelta(days=1))


class BeforeFilter(admin.SimpleListFilter):
    """How far back a list begins; "Look further back" sets it."""

    title = "how far back"
    parameter_name = "before"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        given = self.used_parameters.get(self.parameter_name)
        return [(given, f"before {given}")] if given is not None else []

    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset


def latest_names(request: Any, model_admin: Any) -> set[tuple[str, str]]:
    """The (entrypoint, queue) of the latest jobs, looked up once per page."""
    key = f"_pgq_sync_names_{model_admin.opts.model_name}"
    if not hasattr(request, key):
        latest = model_admin.get_queryset(request).order_by("-id").values_list("entrypoint", "queue")[:_NAMED]
        setattr(request, key, set(latest))
    found: set[tuple[str, str]] = getattr(request, key)
    return found
