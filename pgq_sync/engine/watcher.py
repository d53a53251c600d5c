"""CompletionWatcher: waits until jobs have ended, any number of them in one thread on one connection."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from pgq_sync.durations import in_seconds
from pgq_sync.engine.promises import Promises
from pgq_sync.engine.threads import BackgroundThread
from pgq_sync.engine.vigil import Lookouts, Vigil
from pgq_sync.errors import JobFailed, RemoteTraceback, WaitEnded
from pgq_sync.models import Completion, JobId
from pgq_sync.storage.jobs import check_id

_LAST_WORDS = 0.4  # seconds in which the thread ends that has nothing to wait for
_CUT_OFF = 0.2  # and in which it does after its statement was cut off


class Application(Protocol):
    """What has jobs: a PgQueuer."""

    @property
    def store(self) -> Lookouts: ...


@dataclass(frozen=True, slots=True)
class Watched:
    """The jobs of one store that are watched, and the thread that looks after them."""

    promises: Promises
    vigil: Vigil
    thread: BackgroundThread


class CompletionWatcher:
    """Waits for jobs to end: as succeeded, failed, cancelled or deleted, or to be held.

    A context manager. It may be used from many threads, in the process that made it. Its thread and its connection, which
    is one of its own, come with the first job that is watched, and go ten seconds after the last one.

    Args:
        pgq: whose jobs.
        refresh_interval: how often to look at the jobs without having been told, as a timedelta or in seconds; more than
            ten minutes count as ten.

    Raises:
        TypeError: `pgq` is no PgQueuer, or the interval neither a timedelta nor a number.
        ValueError: it is not positive.
    """

    def __init__(self, pgq: Application, refresh_interval: timedelta | float = timedelta(seconds=5)) -> None:
        # Asked of its class, since an application need not have a database yet; a proxy tells nothing before it is used.
        if not (hasattr(type(pgq), "store") or hasattr(type(pgq), "__getattr__")):
            raise TypeError(f"pgq={pgq!r:.60}: the PgQueuer whose jobs are watched is accepted")
        self._pgq = pgq
        self._refresh = in_seconds("refresh_interval", refresh_interval, positive=True, most=None)
        self._pid = os.getpid()
        self._lock = threading.Lock()  # of the next two, and taken before that of the promises
        # By where the jobs are: a test may put its application elsewhere while this waits, and there the ids begin anew.
        self._watched: dict[Lookouts, Watched] = {}
        self._closed = False

    def watch(self, job_id: int) -> concurrent.futures.Future[Completion]:
        """A future of how a job ends, for `concurrent.futures.wait` and `as_completed` as well.

        While the database is away it waits. It may be cancelled, which changes nothing for the job. What is given to its
        `add_done_callback` runs in the watcher's thread, and delays other futures as long as it takes.

        Args:
            job_id: of a job that is committed.

        Returns:
            A future that gets a `Completion`; or `JobNotFound` at once if there is no such job; or a `SchemaError`.

        Raises:
            TypeError, ValueError: no job can have this id.
            WaitEnded: the watcher is closed.
            RuntimeError: it belongs to another process.
            ConfigError: nothing names a database.
        """
        checked = JobId(check_id(job_id))
        if os.getpid() != self._pid:
            raise RuntimeError("a watcher works in the process that made it: make a new one after a fork")
        store = self._pgq.store
        with self._lock:
            if self._closed:
                raise WaitEnded(checked)
            watched = self._watched.get(store) or self._start(store)
            promise = watched.promises.add(checked)
        watched.vigil.waker.set()
        return promise

    def wait_for(self, job_id: int, timeout: timedelta | float | None = None) -> Completion:
        """Waits until a job has ended.

        Args:
            job_id: of a job that is committed.
            timeout: how long at most, as a timedelta or in seconds; None: however long it takes.

        Raises:
            JobNotFound: there is no such job.
            TimeoutError: it has not ended in time.
            TypeError, ValueError: no job can have this id, or the timeout is no duration.
            WaitEnded: the watcher is closed, or was meanwhile.
            RuntimeError: it belongs to another process.
        """
        seconds = None if timeout is None else in_seconds("timeout", timeout, most=None, otherwise=", or None for ever")
        promise = self.watch(job_id)
        try:
            concurrent.futures.wait([promise], None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
            if not promise.done():
                raise TimeoutError(f"job {job_id} has not ended within {seconds:g} s")
            return promise.result()
        except concurrent.futures.CancelledError:
            raise WaitEnded(job_id) from None
        finally:
            promise.cancel()  # of no effect where it is done

    def close(self) -> None:
        """Cancels what is pending and ends the thread; takes no more than a moment, also if the database does not answer."""
        if os.getpid() != self._pid:
            return  # thread and connection are the parent's
        with self._lock:
            self._closed = True
            all_watched, self._watched = list(self._watched.values()), {}
        for watched in all_watched:
            watched.thread.stop()
            watched.vigil.waker.set()
            watched.promises.cancel_all()
        for watched in all_watched:
            _end(watched)

    def __enter__(self) -> CompletionWatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _start(self, store: Lookouts) -> Watched:
        promises = Promises()
        give_up = partial(self._give_up, store, promises)
        vigil = Vigil(store, promises, self._refresh, partial(self._may_end, store, promises), give_up)
        thread = BackgroundThread("pgq-watcher", vigil.run, lambda name, error: give_up(error))
        thread.start()
        self._watched[store] = watched = Watched(promises, vigil, thread)
        return watched

    def _may_end(self, store: Lookouts, promises: Promises) -> bool:
        with self._lock:
            if promises:
                return False
            self._forget(store, promises)
            return True

    def _give_up(self, store: Lookouts, promises: Promises, error: BaseException) -> None:
        """The thread ends by what no waiting mends: a schema that is missing, say."""
        with self._lock:
            self._forget(store, promises)
        promises.fail_all(error)

    def _forget(self, store: Lookouts, promises: Promises) -> None:
        """Under the lock: nothing is added any more to what a thread that ends looks after."""
        watched = self._watched.get(store)
        if watched is not None and watched.promises is promises:
            del self._watched[store]


def _end(watched: Watched) -> None:
    if not watched.thread.is_current and not watched.thread.join(_LAST_WORDS):
        watched.vigil.cut_off()
        watched.thread.join(_CUT_OFF)


def result_of(completion: Completion) -> Any:
    """What the function of a job returned.

    Raises:
        JobFailed: the job has not succeeded.
    """
    if completion.status == "succeeded":
        return completion.result
    trace = (completion.error or {}).get("traceback")
    raise JobFailed(completion) from (RemoteTraceback(trace) if trace else None)
