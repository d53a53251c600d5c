"""The futures of watched jobs. Made by any thread; whoever takes one out of here ends it, and nobody else does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from pgq_sync.models import Completion, JobId

logger = logging.getLogger("pgq_sync.engine")
Promise = Future[Completion]


class Promises:
    """Futures by job."""

    def __init__(self) -> None:
        # No future is ended while the lock is held: that calls back whoever waits for it.
        self._lock = threading.Lock()
        self._futures: dict[JobId, list[Promise]] = {}
        self._new: list[JobId] = []  # not yet known to the thread
        self._left: list[JobId] = []  # of which nobody wants to know any more

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, job_id: JobId) -> Promise:
        """One more future for a job."""
        future: Promise = Future()
        with self._lock:
            futures = self._futures.setdefault(job_id, [])
            futures.append(future)
            if len(futures) == 1:
                self._new.append(job_id)
        future.add_done_callback(partial(self._withdraw, job_id))
        return future

    def news(self) -> tuple[set[JobId], set[JobId]]:
        """The jobs that are watched since the last call, and those that are no longer, though they have not ended."""
        with self._lock:
            new, self._new = self._new, []
            left, self._left = self._left, []
            return self._futures.keys() & set(new), set(left) - self._futures.keys()

    def ids(self) -> set[JobId]:
        """The jobs that are watched."""
        with self._lock:
            return set(self._futures)

    def among(self, ids: Iterable[int]) -> set[JobId]:
        """Those of the jobs that are watched."""
        with self._lock:
            return self._futures.keys() & set(map(JobId, ids))

    def resolve(self, completion: Completion) -> None:
        """The job has ended so."""
        self._end(self._take(completion.job_id), lambda future: future.set_result(completion))

    def fail(self, job_id: JobId, error: Callable[[], BaseException]) -> None:
        """Nothing can be said of the job; each future gets an error of its own."""
        self._end(self._take(job_id), lambda future: future.set_exception(error()))

    def fail_all(self, error: BaseException) -> None:
        """Nothing can be said of any job."""
        for job_id in self.ids():
            self.fail(job_id, lambda: error)

    def cancel_all(self) -> None:
        """Nobody waits any more."""
        for job_id in self.ids():
            futures = self._take(job_id)
            for future in futures:
                future.cancel()
            self._end(futures, lambda future: None)

    def _take(self, job_id: JobId) -> list[Promise]:
        with self._lock:
            return self._futures.pop(job_id, [])

    def _withdraw(self, job_id: JobId, future: Promise) -> None:
        """A future was ended: if somebody has cancelled it, those who wait for it by `concurrent.futures.wait` are told."""
        with self._lock:
            futures = self._futures.get(job_id, [])
            if future not in futures:
                return
            futures.remove(future)
            if not futures:
                del self._futures[job_id]
                self._left.append(job_id)
        self._end([future], lambda future: None)

    def _end(self, futures: Iterable[Promise], act: Callable[[Promise], None]) -> None:
        for future in futures:
            try:
                if future.set_running_or_notify_cancel():
                    act(future)
            except BaseException:
                # Somebody else has set it; or a callback raises what the future does not catch, SystemExit say.
                logger.exception("a future could not be ended in order")
