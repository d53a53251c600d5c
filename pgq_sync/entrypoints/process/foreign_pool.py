"""Jobs on somebody else's executor of `concurrent.futures`: threads, processes, or a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from typing import cast

from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.process.child import run


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
        self._pool = pool if isinstance(pool, Executor) else None
        self._jobs = 0  # in the executor

    def run(self, job: bytes, context: Context) -> bytes:
        """Has the executor run a job; the answer.

        Raises:
            JobTimeout, Cancelled: the job is to end: its answer is not waited for.
            BrokenExecutor: the executor has lost its processes; the next job gets another one, if that can be made.
        """
        woken = threading.Event()
        with context.waking(woken.set), self._used() as pool:
            context.check_idle()
            future = pool.submit(run, self._work, job)
            future.add_done_callback(lambda _: woken.set())
            try:
                while not future.done():
                    context.check()
                    woken.wait()
                    woken.clear()
                return future.result()
            finally:
                future.cancel()  # which does nothing where it is done

    def close(self) -> None:
        """Shuts down what was made here, unless jobs of another worker run in it."""
        with self._lock:
            pool = self._pool
            if self._make is None or pool is None or self._jobs:
                return
            self._pool = None
        pool.shutdown()

    @contextmanager
    def _used(self) -> Iterator[Executor]:
        with self._lock:
            if self._pool is None and self._make is not None:
                self._pool = self._make()
            pool = cast(Executor, self._pool)
            self._jobs += 1
        try:
            yield pool
        except BrokenExecutor:
            with self._lock:
                if self._make is not None and self._pool is pool:
                    self._pool = None
            raise
        finally:
            with self._lock:
                self._jobs -= 1
