"""Declares tasks: checks what is said about them and registers their functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, TypeVar, overload

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.options import TaskOptions
from pgq_sync.entrypoints.registry import Registry
from pgq_sync.entrypoints.task_calls import default_name, task_call
from pgq_sync.entrypoints.tasks import AnyTask, ContextTask, P, Task
from pgq_sync.storage.intake import check_dedupe_key, check_dedupe_until, check_priority
from pgq_sync.storage.producer import Producer

R = TypeVar("R")

ON_CONFLICT = ("raise", "existing")  # what a task may be declared with, so that its `enqueue` always has an id to return


class NoContext:
    """A first parameter that takes this takes anything: it is not annotated, or with Any or object. Nobody makes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDecorator:
    """What `PgQueuer.task`, which documents it, makes of its options: puts a task in the place of a function."""

    registry: Registry
    on: Callable[[Any], Producer]
    name: str | None
    jobs: Mapping[str, Any]  # the options of its jobs, and
    options: TaskOptions  # those of the entrypoint

    # A function that takes anything first may be called with a context as well as without one: its arguments stay unchecked.
    @overload
    def __call__(self, func: Callable[Concatenate[NoContext, P], R], /) -> Task[..., R]: ...

    @overload
    def __call__(self, func: Callable[Concatenate[Context, P], R], /) -> ContextTask[P, R]: ...

    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...

    def __call__(self, func: Callable[..., Any], /) -> Any:
        func = func.func if isinstance(func, AnyTask) else func
        if not callable(func):
            raise TypeError(f"@pgq.task decorates {func!r}, which cannot be called")
        call = task_call(default_name(func) if self.name is None else self.name, func)
        kind = Task[..., Any] if call.context_parameter is None else ContextTask[..., Any]
        task = kind(call, self.on, self.jobs)
        self.registry.task(call, self.options)
        return task


def check_job_options(priority: Any, dedupe_key: Any, dedupe_until: Any, on_conflict: Any) -> dict[str, Any]:
    """The options of a task's jobs, as they are declared with it.

    Raises:
        TypeError, ValueError: one of them cannot be used; the message names it and its value.
    """
    if on_conflict not in ON_CONFLICT:
        raise ValueError(
            f"on_conflict={on_conflict!r}: 'raise' or 'existing' is accepted where a task is declared, the others by "
            "task.using(on_conflict=...)"
        )
    return {
        "priority": check_priority(priority),
        "dedupe_key": dedupe_key if callable(dedupe_key) else check_dedupe_key(dedupe_key),
        "dedupe_until": check_dedupe_until(dedupe_until),
        "on_conflict": on_conflict,
    }
