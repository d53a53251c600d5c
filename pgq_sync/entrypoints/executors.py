"""How a registered function is called: the strategy that users may write themselves, and the one that just calls.

The others have files of their own.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pgq_sync.entrypoints.calls import Call
from pgq_sync.entrypoints.context import Context
from pgq_sync.models import Job, Limit, OnFailure
from pgq_sync.storage.intake import refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Self


Surround = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrypointExecutorParameters:
    """What was declared about an entrypoint, for its executor."""

    name: str
    func: Callable[..., Any]  # the user's function
    call: Call  # calls it with what it was declared to take
    queue: str | None
    on_failure: OnFailure
    store_result: bool
    keep_history: bool
    limit: Limit | None = None  # None: unlimited
    timeout: float | None = None  # of an attempt, in seconds
    transactional: bool = False
    surround: Surround | None = None  # what surrounds each job in a process of its own, the import of its function included


class AbstractEntrypointExecutor(ABC):
    """A strategy that calls the function. Subclass it, write `execute`, and give the class as `executor_factory`."""

    def __new__(cls, *args: Any, **given: Any) -> Self:
        # Here, and not in `__init__`, to be asked before those of the subclasses, whose errors would be Python's.
        taken = inspect.signature(cls.__init__).parameters
        if all(each.kind is not each.VAR_KEYWORD for each in taken.values()):
            refuse_unknown(given, list(taken)[1:])
        if given and not args and "parameters" in taken and "parameters" not in given:
            raise TypeError(
                f"{cls.__name__} is made for each entrypoint, with its parameters: give "
                f"executor_factory=functools.partial({cls.__name__}, {', '.join(f'{name}={given[name]!r}' for name in given)})"
            )
        return super().__new__(cls)

    def __init__(self, parameters: EntrypointExecutorParameters) -> None:
        self.parameters = parameters

    @abstractmethod
    def execute(self, job: Job, context: Context) -> Any:
        """Runs one attempt, in a thread of the pool.

        Returns:
            The job's result.

        Raises:
            Retry, Hold, Cancelled: to steer the job; anything else fails the attempt.
        """

    def retry_after(self, job: Job, error: BaseException, running: float) -> timedelta | None:
        """After which delay to try a job again that failed outside of `execute`, or None to let it fail.

        Asked for what the engine alone knows: a thread that hangs beyond its timeout, a commit that failed.

        Args:
            job: with the number of the attempt that failed.
            error: what it failed with.
            running: how long it ran, in seconds.
        """
        return None

    def close(self) -> None:  # noqa: B027  most have nothing to let go of
        """Lets go of what is not in use: processes, connections. Called when a worker's last job has ended.

        Other workers of the process may go on with the same executor, and it may be used again.
        """


class EntrypointExecutor(AbstractEntrypointExecutor):
    """Calls the function."""

    def execute(self, job: Job, context: Context) -> Any:
        return self.parameters.call(job, context)
