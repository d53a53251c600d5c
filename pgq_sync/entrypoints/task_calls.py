"""How a task's job becomes the call of its function, and which functions can be tasks."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgq_sync.entrypoints.arguments import Arguments
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.signature import describe, names_type, parameters_of, refuse_async
from pgq_sync.models import Job

_MAIN = ("__main__", "__mp_main__")  # the latter in processes that multiprocessing spawned
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class TaskCall:
    """Calls a task's function with the arguments in the job's payload, and with the context first if it wants that."""

    name: str  # of the task
    func: Callable[..., Any]
    context_parameter: str | None
    arguments: Arguments

    def __call__(self, job: Job, context: Context) -> Any:
        """What the function returns.

        Raises:
            ArgumentsError: the arguments do not fit it (any more).
        """
        bound = self.arguments.read(job.payload)
        if self.context_parameter is None:
            return self.func(*bound.args, **bound.kwargs)
        return self.func(context, *bound.args, **bound.kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process imports the function, or where a module has the task under its name, that."""
        found = _imported(self.func)
        if getattr(found, "__wrapped__", None) is self.func:
            return _of_wrapped, (self.name, found)
        return task_call, (self.name, self.func)


def task_call(name: str, func: Callable[..., Any]) -> TaskCall:
    """The call of the task that `func` becomes.

    Raises:
        TypeError: `func` can be no task; the message says why.
    """
    _refuse_what_runs_nothing(func)
    try:
        parameters = parameters_of(func)
    except ValueError:
        raise TypeError(
            f"task {name!r}: {describe(func)} does not tell its parameters: call it from a function that does"
        ) from None
    _refuse_method(func, parameters)
    context = parameters.pop(0).name if parameters and _is_context(parameters[0]) else None
    for parameter in parameters:
        if names_type(parameter.annotation, Context):
            raise TypeError(
                f"task {name!r}: the parameter {parameter.name} is annotated Context, but a task takes its context as the first, "
                "positional one"
            )
    return TaskCall(name, func, context, Arguments(name, func, parameters))


def default_name(func: Callable[..., Any]) -> str:
    """The name of a task that was given none: `module.qualname`.

    Raises:
        TypeError: the function has no name that another process could find it by.
    """
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not module or not qualname or "<lambda>" in qualname:
        raise TypeError(f"{describe(func)} has no name of its own: give it one by @pgq.task('name')")
    return f"{_main_name(module) if module in _MAIN else module}.{qualname}"


def _main_name(module: str) -> str:
    """By which name a worker would import the script that runs: tasks that it enqueues are to be found there."""
    main = sys.modules.get(module)
    if spec := getattr(main, "__spec__", None):
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def _refuse_what_runs_nothing(func: Callable[..., Any]) -> None:
    if isinstance(func, type):
        raise TypeError(f"{describe(func)} is a class: a task is a function. Call it from one")
    refuse_async(func)


def _refuse_method(func: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """What stands in a class body and takes the object has nobody to give it one when its job runs."""
    owner = getattr(func, "__qualname__", "").rpartition(".")[0]
    in_class = owner and not owner.endswith("<locals>") and not inspect.ismethod(func)
    if in_class and parameters and parameters[0].name in ("self", "cls"):
        raise TypeError(
            f"{describe(func)} is a method, and a job has no object to call it on: make it a function, or a @staticmethod "
            "that finds its object"
        )


def _is_context(parameter: inspect.Parameter) -> bool:
    return parameter.kind in _POSITIONAL and names_type(parameter.annotation, Context)


def _imported(func: Callable[..., Any]) -> Any:
    """What stands under the function's name in its module."""
    try:
        return operator.attrgetter(func.__qualname__)(sys.modules[func.__module__])
    except (AttributeError, KeyError):
        return None


def _of_wrapped(name: str, wrapper: Any) -> TaskCall:
    return task_call(name, wrapper.__wrapped__)
