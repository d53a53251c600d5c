"""Tasks of Django that also say what only pgq-sync can do: retries, timeouts, limits, dedupe keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils.module_loading import import_string

from pgq_sync.contrib.django.backend.compat import Task
from pgq_sync.entrypoints.database_retry import DatabaseRetry
from pgq_sync.entrypoints.options import DEFAULTS, EntrypointOptions, complete, parameters
from pgq_sync.entrypoints.task_decorator import check_job_options
from pgq_sync.models import DedupeUntil, LimitScope, OnFailure

OF_ENTRYPOINT = (
    *("retry", "timeout", "on_failure", "transactional", "keep_history"),
    *("concurrency_limit", "requests_per_second", "burst", "limit_scope"),
)
_OF_JOBS = ("dedupe_key", "dedupe_until", "on_conflict")
_AS_IT_IS: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class PgqTask(Task):
    """A task of Django with options of pgq-sync's; `PgQueuer.entrypoint` and `PgQueuer.task` document them.

    Raises:
        TypeError, ValueError: one of them cannot be used; the message names it and its value.
        InvalidTask: as of every task of Django.
    """

    retry: DatabaseRetry | None = DEFAULTS["retry"]
    timeout: timedelta | float | None = DEFAULTS["timeout"]  # of an attempt
    on_failure: OnFailure = DEFAULTS["on_failure"]  # "hold": a failed job waits for a person, and its result for the outcome
    transactional: bool = DEFAULTS["transactional"]  # within atomic() on the queue's database, with the completion in it
    keep_history: bool = DEFAULTS["keep_history"]  # False: results of successful jobs do not exist any more
    concurrency_limit: int = DEFAULTS["concurrency_limit"]
    requests_per_second: float = DEFAULTS["requests_per_second"]
    burst: float | None = DEFAULTS["burst"]
    limit_scope: LimitScope = DEFAULTS["limit_scope"]
    dedupe_key: str | Callable[..., str | None] | None = None  # or what makes it from the arguments, which it gets by name
    dedupe_until: DedupeUntil = "finished"
    on_conflict: str = "raise"  # DuplicateJob; "existing": the result of the job that has the key

    def __post_init__(self) -> None:
        parameters("task", **complete(entrypoint_options(self)))
        check_job_options(0, self.dedupe_key, self.dedupe_until, self.on_conflict)
        Task.__post_init__(self)
        if callable(self.dedupe_key):
            _check_makes_key(self)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        dedupe_key: Any = _AS_IT_IS,
        dedupe_until: DedupeUntil | None = None,
        on_conflict: str | None = None,
    ) -> PgqTask:
        """This task with other options for its jobs; dedupe_key=None: no key."""
        given: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "dedupe_until": dedupe_until,
            "on_conflict": on_conflict,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if dedupe_key is not _AS_IT_IS:
            changes["dedupe_key"] = dedupe_key
        return replace(self, **changes)

    def __reduce__(self) -> tuple[Any, ...]:
        """By the function's path, as functions are, and what is different from the task that is found there."""
        declared = _imported(self.module_path)
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "func"}
        if isinstance(declared, PgqTask) and declared.func is self.func:
            given = {name: value for name, value in given.items() if value != getattr(declared, name)}
        return _restored, (self.module_path, given)


def entrypoint_options(task: Any) -> EntrypointOptions:
    """What a task says about its entrypoint: a plain one of Django says nothing."""
    found: Any = {name: getattr(task, name) for name in OF_ENTRYPOINT if isinstance(task, PgqTask)}
    return found


def job_options(task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a task says about a job with these arguments.

    Raises:
        TypeError: the function that makes its dedupe key cannot be called with them.
    """
    if not isinstance(task, PgqTask):
        return {}
    key = task.dedupe_key
    if callable(key):
        bound = _signature(task).bind(*args, **kwargs)
        bound.apply_defaults()
        key = key(**bound.arguments)
    return {"dedupe_key": key, "dedupe_until": task.dedupe_until}


def restated(task: Any, **changes: Any) -> Any:
    """A task as a job in the table has it, not validated: it is there, whatever the settings have become since."""
    made = object.__new__(type(task))
    for field in fields(task):
        object.__setattr__(made, field.name, changes.get(field.name, getattr(task, field.name)))
    return made


def _restored(path: str, given: Mapping[str, Any]) -> Any:
    declared = _imported(path)
    if not isinstance(declared, Task):
        raise ValueError(f"Expected {path!r} to point to a Task instance.")
    return replace(declared, **given)


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:
        return None


def _signature(task: Any) -> inspect.Signature:
    """Of the arguments that a job carries."""
    signature = inspect.signature(task.func)
    own = list(signature.parameters.values())[1 if task.takes_context else 0 :]
    return signature.replace(parameters=own)


def _check_makes_key(task: Any) -> None:
    names = list(_signature(task).parameters)
    try:
        inspect.signature(task.dedupe_key).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(
            f"dedupe_key of task {task.module_path!r} is called with {', '.join(names) or 'nothing'} by name: {error}. "
            "Let it take the others by **_"
        ) from None
    except ValueError:
        return  # some built-in functions do not tell what they take
