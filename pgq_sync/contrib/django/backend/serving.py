"""One attempt of a task of Django, in the slot's thread: its context, its signals, and what it returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from django.utils import timezone

from pgq_sync.contrib.django.application import pgq
from pgq_sync.contrib.django.backend import coroutines, results
from pgq_sync.contrib.django.backend.compat import (
    InvalidTaskBackend,
    TaskContext,
    TaskResultStatus,
    task_backends,
    task_finished,
    task_started,
)
from pgq_sync.contrib.django.backend.declaring import declared
from pgq_sync.contrib.django.backend.values import plain
from pgq_sync.contrib.django.environment import ConnectionCare
from pgq_sync.engine.attempt import Attempt
from pgq_sync.engine.runner import ClaimLost
from pgq_sync.entrypoints.context import Context
from pgq_sync.errors import Cancelled, Hold, JobTimeout, Retry
from pgq_sync.models import Job

AtEnd = Callable[[BaseException | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PgqTaskContext(TaskContext):
    """What a task gets that takes a context: Django's, and pgq-sync's own as `pgq`."""

    pgq: Context


def serve(job: Job, context: Context) -> Any:
    """Runs a job's task.

    task_started is sent for each attempt, task_finished once the attempt has ended for good and its transaction is committed
    or rolled back; not after an attempt that is followed by another one, nor where the job is held. What their receivers
    raise is logged.
    """
    started = time.monotonic()
    task = declared(job.entrypoint)
    alias, sender = _backend(task, job.headers)
    result = results.of_attempt(task, alias, job, _errors_before(job))

    def finish(error: BaseException | None) -> None:
        if _settle(result, job, context, error, time.monotonic() - started):
            task_finished.send_robust(sender=sender, task_result=result)

    with _at_end(context, finish):
        task_started.send_robust(sender=sender, task_result=result)
        value = plain(_call(task, result, context), f"what {task.module_path} returned")
        object.__setattr__(result, "_return_value", value)
    return value


def _backend(task: Any, headers: Mapping[str, Any] | None) -> tuple[str, type[Any]]:
    """The alias by which the job was enqueued, or where the settings have it no more, the task's own; and its class."""
    alias = (headers or {}).get(results.HEADER, task.backend)
    try:
        return alias, type(task_backends[alias])
    except InvalidTaskBackend:
        return task.backend, type(task_backends[task.backend])


def _errors_before(job: Job) -> Sequence[Mapping[str, Any]]:
    record = pgq.jobs.get(job.id) if job.attempt > 1 else None
    return record.errors if record else ()


def _call(task: Any, result: Any, context: Context) -> Any:
    args = list(result.args)
    if task.takes_context:
        args.insert(0, PgqTaskContext(task_result=result, pgq=context))
    if iscoroutinefunction(task.func):
        return coroutines.run(lambda: task.func(*args, **result.kwargs), context)
    return task.call(*args, **result.kwargs)


@contextmanager
def _at_end(context: Context, finish: AtEnd) -> Iterator[None]:
    """Has `finish` called with what came out of the attempt, outside of its deadline and of its transaction."""
    surrounding = context.surrounding if isinstance(context, Attempt) else None
    if isinstance(surrounding, ConnectionCare):
        surrounding.at_end.append(finish)
        yield
        return
    # One that a test runs by itself.
    try:
        yield
    except BaseException as error:
        finish(error)
        raise
    finish(None)


def _settle(result: Any, job: Job, context: Context, raised: BaseException | None, running: float) -> bool:
    """Notes in the result how the attempt ended; False if that is not the end of the job."""
    error = None if raised is None else context.blamed(raised)
    if error is not None:
        if not _is_final(job, context, error, running):
            return False
        steers = isinstance(error, (Retry, Hold, Cancelled))
        result.errors.append(results.task_error(error.__cause__ if steers and error.__cause__ else error))
    object.__setattr__(result, "finished_at", timezone.now())
    object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL if error is None else TaskResultStatus.FAILED)
    return True


def _is_final(job: Job, context: Context, error: BaseException, running: float) -> bool:
    """As the engine decides it for its outcome."""
    if isinstance(error, ClaimLost):
        return False  # whoever has the job now tells
    if isinstance(error, Cancelled):
        return not context.interrupted
    if context.cancel_requested:
        return True
    if isinstance(error, (Retry, Hold)):
        return False
    entrypoint = pgq.registry.get(job.entrypoint)
    # What its executor could not catch.
    given_up = isinstance(error, JobTimeout) or (isinstance(context, Attempt) and context.settling)
    if given_up and entrypoint.executor.retry_after(job, error, running) is not None:
        return False
    return entrypoint.parameters.on_failure == "fail"
