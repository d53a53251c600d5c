"""Jobs in processes of their own, or wherever else an executor of `concurrent.futures` runs things."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgq_sync.entrypoints.policies import check_from_one
from pgq_sync.entrypoints.process.answers import result
from pgq_sync.entrypoints.process.foreign_pool import ForeignPool
from pgq_sync.entrypoints.process.pool import ProcessPool
from pgq_sync.entrypoints.process.references import pack, refuse_nameless
from pgq_sync.models import Job


class Pool(Protocol):
    """Where jobs are run."""

    def run(self, job: bytes, context: Context) -> bytes: ...

    def close(self) -> None: ...


class ProcessExecutor(AbstractEntrypointExecutor):
    """Runs the function in a spawned process: off this interpreter's lock, killed at its timeout, and free to crash.

    A process serves this entrypoint alone, and runs one job after the other. It is started when a job needs it, and ends
    with the worker. When the job is asked to stop or its `timeout` is over, the process is killed, with whatever it has
    started; when the worker stops, the job may finish within the `shutdown_timeout`. Where a process crashes, that attempt
    has failed by `ProcessCrashed`.

    Args:
        parameters: of the entrypoint. Its function must stand at the top level of a module, and gets no context.
        max_workers: how many processes there are at most in each worker process; by default one per processor. A job that
            finds all of them busy waits in its slot.
        pool: an `Executor` of `concurrent.futures` to run the jobs in its place, or a function that makes one at
            first use; what that made is shut down when the worker stops. What runs in there cannot be killed: when a job
            has to end, its result is no longer waited for.

    Raises:
        TypeError: the function cannot be found by its name, wants the context, or is transactional; or a value is of
            another kind.
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        parameters: EntrypointExecutorParameters,
        max_workers: int | None = None,
        pool: Executor | Callable[[], Executor] | None = None,
    ) -> None:
        super().__init__(parameters)
        _refuse_surroundings(parameters)
        refuse_nameless(parameters.func)
        if max_workers is not None:
            check_from_one("max_workers", max_workers)
        if pool is not None and max_workers is not None:
            raise TypeError(f"max_workers={max_workers!r}: pool={pool!r} has its own number of workers")
        if pool is not None and (isinstance(pool, type) or not (isinstance(pool, Executor) or callable(pool))):
            raise TypeError(f"pool={pool!r}: an Executor of concurrent.futures is accepted, or a function that makes one")
        self._size = max_workers or os.cpu_count() or 1
        self._pool = pool
        self._made: dict[int, Pool] = {}  # by process: what was forked has pools of its own

    def execute(self, job: Job, context: Context) -> Any:
        """Has the job run elsewhere, and waits.

        Returns:
            What the function returned, if the entrypoint stores results. What nobody keeps is not sent: None.

        Raises:
            ProcessCrashed: the process has ended.
            RemoteError: the function raised what cannot be sent; anything else that it raised comes as it is.
            TypeError: what it returned cannot be sent.
        """
        return result(self._running().run(pickle.dumps(job), context))

    def close(self) -> None:
        """Ends the processes that run nothing."""
        if (pool := self._made.get(os.getpid())) is not None:
            pool.close()

    def _running(self) -> Pool:
        # By setdefault, which needs no lock: none can be held while the process forks.
        return self._made.get(os.getpid()) or self._made.setdefault(os.getpid(), self._make())

    def _make(self) -> Pool:
        work = pickle.dumps((pack(self.parameters.call), self.parameters.store_result, self.parameters.surround))
        return ProcessPool(work, self._size) if self._pool is None else ForeignPool(work, self._pool)


def _refuse_surroundings(parameters: EntrypointExecutorParameters) -> None:
    name, wanted = parameters.name, parameters.call.context_parameter
    if wanted is not None:
        raise TypeError(
            f"entrypoint {name!r} wants a context as {wanted!r}: in a process of its own there is none. "
            "Leave that parameter out, or run it in a thread"
        )
    if parameters.transactional:
        raise TypeError(
            f"entrypoint {name!r} is transactional: its transaction cannot be used from another process. "
            "Declare it with transactional=False, or run it in a thread"
        )
