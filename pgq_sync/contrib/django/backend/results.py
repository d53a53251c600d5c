"""Jobs as results of Django's tasks: richer states become Django's four, and the errors of attempts Django's errors."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from traceback import format_exception
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone as django_timezone

from pgq_sync import errors as own_errors
from pgq_sync.contrib.django.backend.compat import TaskError, TaskResult, TaskResultStatus
from pgq_sync.contrib.django.backend.task import restated
from pgq_sync.contrib.django.backend.values import arguments_in
from pgq_sync.models import Job, JobRecord

HEADER = "django_tasks"  # of a job that a task of Django has enqueued: the alias of its backend
UNKNOWN_WORKER = "unknown"  # it died before it could tell

# A held job is parked for a person, who may put it back: whoever waits for an outcome goes on waiting.
_STATUS = {
    "queued": TaskResultStatus.READY,
    "held": TaskResultStatus.READY,
    "running": TaskResultStatus.RUNNING,
    "succeeded": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
    "deleted": TaskResultStatus.FAILED,
}


def enqueued(task: Any, alias: str, job_id: int, payload: str) -> Any:
    """The result of a task that was enqueued this moment."""
    args, kwargs = arguments_in(payload.encode())
    return _result(task, alias, job_id, args, kwargs, status=TaskResultStatus.READY, enqueued_at=django_timezone.now())


def of_record(task: Any, alias: str, record: JobRecord) -> Any:
    """The result of a job that is waiting, running, or in history.

    Raises:
        ValueError: its payload has no arguments of a task.
    """
    args, kwargs = arguments_in(record.payload)
    deferred = not record.errors and record.execute_after > record.created_at
    result = _result(
        _variant(task, alias, record, record.execute_after if deferred else None),
        *(alias, record.id, args, kwargs),
        status=_STATUS[record.status],
        enqueued_at=local(record.created_at),
        started_at=_earliest(record.errors, record.claimed_at),
        last_attempted_at=_latest(record.errors, record.claimed_at),
        finished_at=local(record.finished_at),
        errors=_errors(record.errors),
        worker_ids=_worker_ids(record.errors, record.attempts, record.worker_id),
    )
    object.__setattr__(result, "_return_value", record.result)
    return result


def of_attempt(task: Any, alias: str, job: Job, before: Sequence[Mapping[str, Any]]) -> Any:
    """The result of a job whose attempt begins.

    Args:
        task: declared under its entrypoint.
        alias: of the backend.
        job: as it was claimed.
        before: the errors of earlier attempts.

    Raises:
        ValueError: its payload has no arguments of a task.
    """
    args, kwargs = arguments_in(job.payload)
    return _result(
        _variant(task, alias, job, None if before or job.execute_after <= job.created_at else job.execute_after),
        *(alias, job.id, args, kwargs),
        status=TaskResultStatus.RUNNING,
        enqueued_at=local(job.created_at),
        started_at=_earliest(before, job.claimed_at),
        last_attempted_at=local(job.claimed_at),
        errors=_errors(before),
        worker_ids=_worker_ids(before, job.attempt, job.worker_id),
    )


def task_error(error: BaseException) -> Any:
    """What an attempt has failed with."""
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    return TaskError(exception_class_path=path, traceback="".join(format_exception(error)))


def local(moment: datetime | None) -> datetime | None:
    """A time as Django has it: in UTC, or without USE_TZ in the site's own time zone, naive."""
    if moment is None or moment.tzinfo is None:  # what Django's connection returns without USE_TZ
        return moment
    return moment.astimezone(timezone.utc) if settings.USE_TZ else django_timezone.make_naive(moment)


def _result(task: Any, alias: str, job_id: int, args: list[Any], kwargs: dict[str, Any], **known: Any) -> Any:
    unknown: dict[str, Any] = {"started_at": None, "finished_at": None, "last_attempted_at": None, "errors": [], "worker_ids": []}
    return TaskResult(task=task, id=str(job_id), backend=alias, args=args, kwargs=kwargs, **(unknown | known))


def _variant(task: Any, alias: str, job: Job | JobRecord, run_after: datetime | None) -> Any:
    return restated(task, backend=alias, queue_name=job.queue, priority=job.priority, run_after=local(run_after))


def _errors(entries: Iterable[Mapping[str, Any]]) -> list[Any]:
    # An attempt that its worker had no more time for has not failed: it does not count, and is made once more.
    return [
        TaskError(exception_class_path=_class_path(entry), traceback=_told(entry))
        for entry in entries
        if entry.get("type") != "Interrupted"
    ]


def _class_path(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("type"))
    if "." in name:
        return name
    if hasattr(builtins, name):
        return f"builtins.{name}"
    # Where there was no exception: the worker died, somebody cancelled the job.
    return f"{own_errors.__name__}.{name if hasattr(own_errors, name) else own_errors.JobFailed.__name__}"


def _told(entry: Mapping[str, Any]) -> str:
    return str(entry.get("traceback") or f"{entry.get('type')}: {entry.get('message')}\n")


def _worker_ids(entries: Iterable[Mapping[str, Any]], attempts: int, latest: UUID | None) -> list[str]:
    """One per attempt that counts."""
    known = {entry.get("attempt"): str(entry["worker_id"]) for entry in entries if entry.get("worker_id")}
    if latest is not None:
        known[attempts] = str(latest)
    return [known.get(number, UNKNOWN_WORKER) for number in range(1, attempts + 1)]


def _earliest(entries: Iterable[Mapping[str, Any]], claimed_at: datetime | None) -> datetime | None:
    return min(_moments(entries, claimed_at), default=None)


def _latest(entries: Iterable[Mapping[str, Any]], claimed_at: datetime | None) -> datetime | None:
    return max(_moments(entries, claimed_at), default=None)


def _moments(entries: Iterable[Mapping[str, Any]], claimed_at: datetime | None) -> list[Any]:
    begun = [datetime.fromisoformat(entry["claimed_at"]) for entry in entries if entry.get("claimed_at")]
    return [local(moment) for moment in [*begun, claimed_at] if moment is not None]
