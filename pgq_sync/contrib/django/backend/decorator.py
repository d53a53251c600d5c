"""`task`, Django's decorator with pgq-sync's options beside Django's, on every version of Django."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from pgq_sync.contrib.django.backend.compat import DEFAULT_TASK_PRIORITY, DEFAULT_TASK_QUEUE_NAME, Task, task_backends
from pgq_sync.contrib.django.backend.task import PgqTask
from pgq_sync.storage.intake import refuse_unknown

_ALIAS = "default"
_EXTRAS = tuple(field.name for field in fields(PgqTask) if field.name not in {own.name for own in fields(Task)})


def task(
    function: Callable[..., Any] | None = None,
    *,
    priority: int = DEFAULT_TASK_PRIORITY,
    queue_name: str = DEFAULT_TASK_QUEUE_NAME,
    backend: str = _ALIAS,
    takes_context: bool = False,
    **extras: Any,
) -> Any:
    """Makes a task of the decorated function; bare, or with options.

    Where the backend of that alias is another one, Django's ImmediateBackend in tests say, the options of pgq-sync's are
    checked and have no effect.

    Args:
        priority, queue_name, backend, takes_context: as in Django's `task`.
        extras: the options of `PgqTask`.

    Raises:
        TypeError, ValueError: there is no such option, or its value cannot be used.
        InvalidTask: the function can be no task.
    """
    refuse_unknown(extras, _EXTRAS)

    def decorate(func: Callable[..., Any]) -> Any:
        chosen = task_backends[backend].task_class
        kind = chosen if issubclass(chosen, PgqTask) else PgqTask if chosen is Task else chosen
        options = extras if issubclass(kind, PgqTask) else {}
        own: dict[str, Any] = {"priority": priority, "queue_name": queue_name, "backend": backend, "takes_context": takes_context}
        # Django 6.0 asks for it, and its own decorator takes none of the extras.
        return kind(func=func, run_after=None, **own, **options)

    return decorate if function is None else decorate(function)
