"""What the user declares: which function serves which name, and how."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from pgq_sync.entrypoints.executors import (
    AbstractEntrypointExecutor,
    DatabaseRetry,
    DatabaseRetryEntrypointExecutor,
    EntrypointExecutor,
    EntrypointExecutorParameters,
)
from pgq_sync.entrypoints.options import check_limit, check_on_failure, check_switches, check_timeout
from pgq_sync.entrypoints.schedules import ScheduleExecutor, check_expression
from pgq_sync.entrypoints.signature import context_parameter, describe
from pgq_sync.models import DeclaredSchedule, Limit, LimitScope, OnFailure
from pgq_sync.storage.intake import check_name, check_priority

Handler = TypeVar("Handler", bound=Callable[..., Any])
ExecutorFactory = Callable[[EntrypointExecutorParameters], AbstractEntrypointExecutor]


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """A registered function, ready to be called."""

    parameters: EntrypointExecutorParameters
    executor: AbstractEntrypointExecutor


class Registry:
    """The entrypoints of one application. Functions are registered at import; workers read."""

    def __init__(self) -> None:
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

    def entrypoint(
        self,
        name: str,
        *,
        queue: str | None = None,
        concurrency_limit: int = 0,
        requests_per_second: float = math.inf,
        burst: float | None = None,
        limit_scope: LimitScope = "fleet",
        timeout: timedelta | float | None = None,
        retry: DatabaseRetry | None = None,
        on_failure: OnFailure = "fail",
        executor_factory: ExecutorFactory | None = None,
        accepts_context: bool | None = None,
        transactional: bool = False,
        store_result: bool = False,
        keep_history: bool = True,
    ) -> Callable[[Handler], Handler]:
        """The decorator behind `PgQueuer.entrypoint`, which documents it."""
        if retry is not None and not isinstance(retry, DatabaseRetry):
            raise ValueError(f"retry={retry!r}: a DatabaseRetry is accepted")
        if executor_factory is not None and not callable(executor_factory):
            raise TypeError(f"executor_factory={executor_factory!r}: a subclass of AbstractEntrypointExecutor is accepted")
        if accepts_context not in (None, True, False):
            raise ValueError(f"accepts_context={accepts_context!r}: True, False or None is accepted")
        check_switches(transactional=transactional, store_result=store_result, keep_history=keep_history)
        declare = partial(
            EntrypointExecutorParameters,
            name=check_name("entrypoint", name),
            queue=None if queue is None else check_name("queue", queue),
            on_failure=check_on_failure(on_failure),
            store_result=store_result,
            keep_history=keep_history,
            limit=check_limit(concurrency_limit, requests_per_second, burst, limit_scope),
            timeout=check_timeout(timeout),
            transactional=transactional,
        )
        self._refuse_second(name)

        def register(func: Handler) -> Handler:
            if not callable(func):
                raise TypeError(f"entrypoint {name!r} decorates {func!r}, which cannot be called")
            parameters = declare(func=func, context_parameter=context_parameter(func, accepts_context))
            self._refuse_second(name)
            self._entrypoints[name] = Entrypoint(parameters, _executor(parameters, executor_factory, retry))
            return func

        return register

    def schedule(
        self, name: str, expression: str, *, timezone: str = "UTC", queue: str = "default", priority: int = 0, **options: Any
    ) -> Callable[[Handler], Handler]:
        """The decorator behind `PgQueuer.schedule`, which documents it."""
        check_expression(expression, timezone)
        declared = DeclaredSchedule(name, expression, timezone, check_name("queue", queue), check_priority(priority))
        if not self._expressions(name):
            self.entrypoint(name, executor_factory=ScheduleExecutor, **options)  # whatever is wrong is told at once

        def declare(func: Handler) -> Handler:
            # Now, and not above: of several decorators one above the other, all are made before the first is applied.
            if expression in self._expressions(name):
                raise ValueError(f"schedule {name!r} has the expression {expression!r} already")
            if self._expressions(name):
                self._refuse_other(name, func)
                if options:
                    raise ValueError(
                        f"schedule {name!r} has its options already: give {', '.join(options)} with its first expression"
                    )
            else:
                self.entrypoint(name, executor_factory=ScheduleExecutor, **options)(func)
            self._schedules.append(declared)
            return func

        return declare

    def schedules(self) -> tuple[DeclaredSchedule, ...]:
        """What is scheduled."""
        return tuple(self._schedules)

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


def _executor(
    parameters: EntrypointExecutorParameters, factory: ExecutorFactory | None, retry: DatabaseRetry | None
) -> AbstractEntrypointExecutor:
    executor = (factory or EntrypointExecutor)(parameters)
    if not isinstance(executor, AbstractEntrypointExecutor):
        raise TypeError(f"executor_factory of {parameters.name!r} returned {executor!r}, which is no AbstractEntrypointExecutor")
    return DatabaseRetryEntrypointExecutor(parameters, retry, executor) if retry else executor
