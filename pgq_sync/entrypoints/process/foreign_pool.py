"""Jobs on somebody else's executor of `concurrent.futures`: threads, processes, or a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.process.child import run

Value = TypeVar("Value")


class ForeignPool:
    """Submits jobs, and waits for their answers.

    Args:
        work: what is done with the jobs.
        pool: the executor, which stays its owner's; or what makes one, which is shut down by `close`.
    """

    def __init__(self, work: bytes, pool: Executor | Callable[[], Executor]) -> None:
        self._work = work
        self._make = None if isinstance(pool, Executor) else pool
        self._lock = threading.Lock()  # of everything below
        self._pool: Future[Executor] | None = _ready(pool) if isinstance(pool, Executor) else None  # maybe just being made
        self._jobs = 0  # that use it
        self._deserted = False  # whether jobs go on in it that nobody waits for

    def run(self, job: bytes, context: Context) -> bytes:
        """Has the executor run a job; the answer.

        Raises:
            JobTimeout, Cancelled: the job is to end: its answer is not waited for.
            BrokenExecutor: the executor has lost its processes; the next job gets another one, if that can be made.
            RuntimeError: the executor that was given takes no jobs, since it is shut down.
            TypeError: what makes the executor has returned something else.
            Whatever the function raises that makes the executor; the next job has it called again.
        """
        woken = threading.Event()
        with context.waking(woken.set), self._used() as pool:
            executor = _await(pool, context.check_idle, woken)
            context.check_idle()
            future = self._submit(executor, job)
            try:
                return _await(future, context.check, woken)
            finally:
                if not future.cancel() and not future.done():
                    self._deserted = True

    def close(self) -> None:
        """Shuts down what was made here, unless jobs of another worker run in it."""
        with self._lock:
            pool, wait = self._pool, not self._deserted
            if self._make is None or pool is None or self._jobs:
                return
            self._pool, self._deserted = None, False
        if pool.done():
            _shut_down(pool, wait=wait)
        else:
            pool.add_done_callback(_shut_down)  # in the thread that makes it

    @contextmanager
    def _used(self) -> Iterator[Future[Executor]]:
        with self._lock:
            pool = self._pool = self._pool or self._begin(self._make)
            self._jobs += 1
        try:
            yield pool
        except BrokenExecutor:
            self._drop(pool)
            raise
        finally:
            with self._lock:
                self._jobs -= 1

    def _submit(self, executor: Executor, job: bytes) -> Future[bytes]:
        try:
            return executor.submit(run, self._work, job)
        except BrokenExecutor:
            raise
        except RuntimeError as error:
            if self._make is not None:
                raise
            raise RuntimeError(f"the executor given as pool={executor!r:.100} takes no jobs: {error}") from error

    def _begin(self, make: Any) -> Future[Executor]:
        """An executor to be, made in a thread of its own: a cluster may be long in answering, and jobs are to end meanwhile."""
        pool: Future[Executor] = Future()
        threading.Thread(target=self._fulfil, args=(pool, make), name="pgq-pool", daemon=True).start()
        return pool

    def _fulfil(self, pool: Future[Executor], make: Callable[[], Executor]) -> None:
        try:
            made = make()
            if not isinstance(made, Executor):
                raise TypeError(f"pool={make!r} returned {made!r:.60}: it must make an Executor of concurrent.futures")
        except BaseException as error:
            self._drop(pool)
            pool.set_exception(error)
        else:
            pool.set_result(made)

    def _drop(self, pool: Future[Executor]) -> None:
        with self._lock:
            if self._make is not None and self._pool is pool:
                self._pool = None


def _ready(executor: Executor) -> Future[Executor]:
    ready: Future[Executor] = Future()
    ready.set_result(executor)
    return ready


def _await(future: Future[Value], check: Callable[[], object], woken: threading.Event) -> Value:
    """What comes of `future`, unless `check` raises, which is called whenever the job is woken."""
    future.add_done_callback(lambda _: woken.set())
    while not future.done():
        check()
        woken.wait()
        woken.clear()
    return future.result()


def _shut_down(pool: Future[Any], *, wait: bool = True) -> None:
    if pool.exception() is None:
        pool.result().shutdown(wait=wait)
