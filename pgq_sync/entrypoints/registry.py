"""What the user declares: which function serves which name, and how."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pgq_sync.entrypoints.calls import Call, JobCall
from pgq_sync.entrypoints.database_retry import DatabaseRetry, DatabaseRetryEntrypointExecutor
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutor, EntrypointExecutorParameters, Surround
from pgq_sync.entrypoints.options import (
    CommonOptions,
    EntrypointOptions,
    ExecutorFactory,
    TaskOptions,
    TickOptions,
    complete,
    parameters,
    parted,
)
from pgq_sync.entrypoints.schedules import ScheduleCall
from pgq_sync.entrypoints.signature import context_parameter, describe, refuse_other_subject
from pgq_sync.entrypoints.task_calls import TaskCall
from pgq_sync.entrypoints.tasks import AnyTask
from pgq_sync.models import DeclaredSchedule, Limit
from pgq_sync.storage.declaring import check_schedule
from pgq_sync.storage.intake import refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger("pgq_sync.entrypoints")

Handler = TypeVar("Handler", bound=Callable[..., Any])
MakeCall = Callable[[Callable[..., Any], bool | None], Call]  # of the function and its option accepts_context

# What the decorator of tasks takes besides the options of an entrypoint; errors about unknown ones name these too.
_OF_JOBS = ("priority", "dedupe_key", "dedupe_until", "on_conflict")


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """A registered function, ready to be called."""

    parameters: EntrypointExecutorParameters
    executor: AbstractEntrypointExecutor


class Registry:
    """The entrypoints of one application. Functions are registered at import; workers read.

    Attributes:
        surround: what surrounds each job in a process of its own, of entrypoints that are registered from then on; a framework's.
    """

    def __init__(self) -> None:
        self.surround: Surround | None = None
        self._entrypoints: dict[str, Entrypoint] = {}
        self._schedules: list[DeclaredSchedule] = []

    def get(self, name: str) -> Entrypoint:
        """The entrypoint of that name.

        Raises:
            KeyError: there is none.
        """
        return self._entrypoints[name]

    def names(self) -> tuple[str, ...]:
        """The names of all entrypoints, in the order of registration."""
        return tuple(self._entrypoints)

    def queue_of(self, name: str) -> str | None:
        """The queue that the entrypoint was declared with, if any."""
        entrypoint = self._entrypoints.get(name)
        return entrypoint.parameters.queue if entrypoint else None

    def limited(self) -> Mapping[str, Limit]:
        """The limits of those entrypoints that have one, by name."""
        limits = {name: entrypoint.parameters.limit for name, entrypoint in self._entrypoints.items()}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def entrypoint(self, name: str, **options: Unpack[EntrypointOptions]) -> Callable[[Handler], Handler]:
        """The decorator behind `PgQueuer.entrypoint`, which documents it."""
        if callable(name):
            raise TypeError(f"{describe(name)} has no name to be enqueued under: write @pgq.entrypoint('name')")
        register = self._declare(name, _with_context(JobCall), options)

        def decorate(func: Handler) -> Handler:
            register(func)
            return func

        return decorate

    def schedule(self, name: str, expression: str, **given: Unpack[TickOptions]) -> Callable[[Handler], Handler]:
        """The decorator behind `PgQueuer.schedule`, which documents it."""
        own, options = parted(given)
        new = check_schedule(name, expression, **own)
        if not self._expressions(name):
            self._declare(name, _with_context(ScheduleCall), options)  # whatever is wrong is told at once

        def decorate(func: Handler) -> Handler:
            # Now, and not above: of several decorators one above the other, all are made before the first is applied.
            if new.expression in self._expressions(name):
                raise ValueError(f"schedule {name!r} has the expression {expression!r} already")
            if self._expressions(name):
                self._refuse_other(name, func)
                if options:
                    raise ValueError(
                        f"schedule {name!r} has its options already: give {', '.join(options)} with its first expression"
                    )
            else:
                self._declare(name, _with_context(ScheduleCall), options)(func)
            self._schedules.append(new)
            return func

        return decorate

    def task(self, call: TaskCall, options: TaskOptions) -> None:
        """Registers the function of a task, behind `PgQueuer.task`, which documents it."""
        if "accepts_context" in options:
            raise TypeError("a task takes its context as its first parameter, annotated Context: accepts_context is not for it")
        refuse_unknown(options, (*_OF_JOBS, *TaskOptions.__annotations__))
        declared: TaskOptions = {"store_result": True, **options}
        self._declare(call.name, lambda *_: call, declared)(call.func)

    def schedules(self) -> tuple[DeclaredSchedule, ...]:
        """What is scheduled."""
        return tuple(self._schedules)

    def close(self) -> None:
        """Has every executor let go of what it does not use."""
        for name, entrypoint in self._entrypoints.items():
            try:
                entrypoint.executor.close()
            except Exception:
                logger.exception("the executor of entrypoint %r could not be closed", name)

    def _declare(self, name: str, make_call: MakeCall, options: CommonOptions) -> Callable[[Callable[..., Any]], None]:
        """Checks what is declared of an entrypoint; what comes back registers its function."""
        given = complete(options)
        declared = parameters(name, **given)
        self._refuse_second(name)

        def register(func: Callable[..., Any]) -> None:
            if not callable(func):
                raise TypeError(f"entrypoint {name!r} decorates {func!r}, which cannot be called")
            call = make_call(func, given["accepts_context"])
            if given["executor_factory"] is None and not isinstance(call, TaskCall):
                refuse_other_subject(func)  # an executor of the user's own may call it with something else
            self._refuse_second(name)
            made = EntrypointExecutorParameters(func=func, call=call, surround=self.surround, **declared)
            self._entrypoints[name] = Entrypoint(made, _executor(made, given["executor_factory"], given["retry"]))

        return register

    def _expressions(self, name: str) -> list[str]:
        return [schedule.expression for schedule in self._schedules if schedule.name == name]

    def _refuse_other(self, name: str, func: Callable[..., Any]) -> None:
        """A further expression of a schedule is for the same function."""
        first = self._entrypoints[name].parameters.func
        if func is not first:
            raise ValueError(f"schedule {name!r} is registered already, for {describe(first)}: names must be unique")

    def _refuse_second(self, name: str) -> None:
        if name in self._entrypoints:
            holder = describe(self._entrypoints[name].parameters.func)
            raise ValueError(f"entrypoint {name!r} is registered already, for {holder}: names must be unique")


def _with_context(make_call: Callable[[Callable[..., Any], str | None], Call]) -> MakeCall:
    """For a function that may take the context anywhere."""

    def made(func: Callable[..., Any], accepts_context: bool | None) -> Call:
        if isinstance(func, AnyTask):
            # It would be called with the job, or with the tick, for its first argument.
            raise TypeError(
                f"{func!r} is an entrypoint of its own, whose jobs carry its arguments: enqueue it from another function, or "
                f"schedule it by pgq.schedules.add(..., entrypoint={func.name!r}, payload=task.payload(...))"
            )
        return make_call(func, context_parameter(func, accepts_context))

    return made


def _executor(
    parameters: EntrypointExecutorParameters, factory: ExecutorFactory | None, retry: DatabaseRetry | None
) -> AbstractEntrypointExecutor:
    executor = (factory or EntrypointExecutor)(parameters)
    if not isinstance(executor, AbstractEntrypointExecutor):
        raise TypeError(f"executor_factory of {parameters.name!r} returned {executor!r}, which is no AbstractEntrypointExecutor")
    return DatabaseRetryEntrypointExecutor(parameters, policy=retry, inner=executor) if retry else executor
