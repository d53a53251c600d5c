"""`PgqBackend`, the backend for Django's TASKS: enqueues through `pgq`, and reads results from its jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.utils import timezone

from pgq_sync.contrib.django.application import pgq
from pgq_sync.contrib.django.backend import results
from pgq_sync.contrib.django.backend.compat import BaseTaskBackend, TaskResultDoesNotExist, task_enqueued
from pgq_sync.contrib.django.backend.declaring import declare, declared
from pgq_sync.contrib.django.backend.serving import serve
from pgq_sync.contrib.django.backend.task import PgqTask, job_options
from pgq_sync.contrib.django.backend.values import payload_of
from pgq_sync.contrib.django.configuration import configuration
from pgq_sync.contrib.django.connections import require_postgresql
from pgq_sync.errors import ConfigError, DuplicateJob

_APP = "pgq_sync.contrib.django"
_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LARGEST = 2**63 - 1


class PgqBackend(BaseTaskBackend):
    """Tasks of Django are jobs of `pgq`: enqueued on Django's connection, in the transaction that it is in.

    Results are read from the jobs, as long as those are in history. A job that waits, or is held for a person, is READY; one
    that was cancelled or deleted has FAILED.
    """

    task_class = PgqTask

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: Any) -> None:
        """Also has workers of this process serve the task.

        Raises:
            InvalidTask: it can be no task of this backend.
        """
        super().validate_task(task)
        declare(task, serve)

    def enqueue(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Enqueues a job for a call of the task, and sends task_enqueued, whose receivers' errors reach the caller.

        Returns:
            The result, READY; with on_conflict="existing" that of the job of this task that has the dedupe key.

        Raises:
            InvalidTask: the task cannot be run by this backend.
            TypeError, ValueError: an argument cannot be kept; the message names it. Nothing is enqueued.
            DuplicateJob: the dedupe key is taken.
            Those of `PgQueuer.enqueue`.
        """
        self.validate_task(task)
        payload = payload_of(args, kwargs)
        options = job_options(task, args, kwargs)
        try:
            job_id = pgq.enqueue(
                task.module_path,
                payload,
                priority=int(task.priority),
                execute_after=_aware(task.run_after),
                queue=task.queue_name,
                headers={results.HEADER: self.alias},
                **options,
            )
        except DuplicateJob as duplicate:
            return self._existing(task, duplicate)
        result = results.enqueued(task, self.alias, job_id, payload)
        task_enqueued.send(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """The result of a job that was enqueued by this alias.

        Raises:
            TaskResultDoesNotExist: there is no such job, or none any more; or its task is gone.
        """
        record = pgq.jobs.get(int(result_id)) if _can_be_id(result_id) else None
        if record is None or (record.headers or {}).get(results.HEADER) != self.alias:
            raise TaskResultDoesNotExist(result_id)
        task = declared(record.entrypoint)
        if task is None:
            raise TaskResultDoesNotExist(f"{result_id}: there is no task {record.entrypoint!r} any more")
        try:
            return results.of_record(task, self.alias, record)
        except ValueError as error:
            raise TaskResultDoesNotExist(f"{result_id}: {error}") from None

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        """What is wrong with the backend's settings."""
        if self.options:
            yield Error(
                f"TASKS[{self.alias!r}]['OPTIONS'] has {', '.join(map(str, self.options))}: PgqBackend has no options.",
                hint="Settings of the queue stand in PGQ_SYNC.",
                id="pgq_sync.E103",
            )
        if not apps.is_installed(_APP):
            yield Error(
                f"TASKS[{self.alias!r}] is PgqBackend, but {_APP!r} is not installed.",
                hint=f"Add {_APP!r} to INSTALLED_APPS.",
                id="pgq_sync.E101",
            )
        try:
            require_postgresql(configuration().database)
        except ConfigError as error:
            yield Error(f"TASKS[{self.alias!r}]: {error}", id="pgq_sync.E102")

    def _existing(self, task: Any, duplicate: DuplicateJob) -> Any:
        if task.on_conflict != "existing" or duplicate.job_id is None:
            raise duplicate
        try:
            result = self.get_result(str(duplicate.job_id))
        except TaskResultDoesNotExist:
            raise duplicate from None
        if result.task.func is not task.func:
            raise duplicate  # dedupe keys are the whole queue's
        return result


def _can_be_id(result_id: object) -> bool:
    return isinstance(result_id, str) and _ID.fullmatch(result_id) is not None and int(result_id) <= _LARGEST


def _aware(moment: Any) -> Any:
    return timezone.make_aware(moment) if moment is not None and timezone.is_naive(moment) else moment
