"""What a handler gets beside its job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pgq_sync.durations import in_seconds
from pgq_sync.entrypoints.signals import Signal
from pgq_sync.errors import Cancelled
from pgq_sync.models import Job
from pgq_sync.storage.producer import Producer

_making_events = threading.Lock()
logger = logging.getLogger("pgq_sync.job")


if TYPE_CHECKING:
    LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:
    LoggerAdapter = logging.LoggerAdapter  # generic at run time from Python 3.11 on


TakeReport = Callable[[Job, float, str | None], None]


class JobLog(LoggerAdapter):
    """A logger whose records bear the job's id and entrypoint as fields."""

    def __init__(self, job: Job) -> None:
        super().__init__(logger, {"job_id": job.id, "entrypoint": job.entrypoint})


class Context:
    """The surroundings of one attempt.

    Args:
        job: the job that runs.
        resources: the mapping that all jobs and schedules of the process share.
        producer: enqueues further jobs; in the job's transaction where the entrypoint is transactional.
        report: takes what `progress` is told; None: nobody does.
        stopping: set when the worker stops; None: it never does.
    """

    __slots__ = (
        *("_cancelled", "_log", "_stopping", "cancel_requested", "interrupted", "job", "producer", "put_back", "report"),
        "resources",
    )

    def __init__(
        self,
        job: Job,
        resources: MutableMapping[Any, Any],
        producer: Producer,
        report: TakeReport | None = None,
        stopping: Signal | None = None,
    ) -> None:
        self.job = job
        self.resources = resources
        self.producer = producer
        self.report = report
        self.cancel_requested = False  # by a person
        self.interrupted = False  # by the worker, which has no more time for it
        self.put_back = False  # into the queue, since it stopped when it was asked to
        self._stopping = stopping
        self._cancelled: Signal | None = None
        self._log: JobLog | None = None

    @property
    def enqueue(self) -> Callable[..., Any]:
        """Enqueues a further job, with the arguments of `PgQueuer.enqueue`; in the job's transaction where it has one."""
        return self.producer.enqueue

    @property
    def enqueue_many(self) -> Callable[..., Any]:
        """Enqueues many, with the arguments of `PgQueuer.enqueue_many`; in the job's transaction where it has one."""
        return self.producer.enqueue_many

    @property
    def cancelled(self) -> Signal:
        """Set when the job was asked to stop; a handler may wait on it."""
        # Made when it is first asked for: an event for each of many short jobs took a fifth of the worker's time.
        if self._cancelled is None:
            with _making_events:
                if self._cancelled is None:
                    self._cancelled = Signal()
        return self._cancelled

    @property
    def stopping(self) -> bool:
        """Whether the worker stops; running jobs still have their `shutdown_timeout`."""
        return self._stopping is not None and self._stopping.is_set()

    def check(self) -> None:
        """To be called now and then by a long handler.

        Raises:
            JobTimeout: the time of this attempt is over.
            Cancelled: the job was asked to stop.
        """
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled("the job was asked to stop")

    def check_idle(self) -> None:
        """`check` for where a job only waits: a worker that stops does not wait for that, and puts the job back at once.

        Raises:
            JobTimeout: the time of this attempt is over.
            Cancelled: the job was asked to stop, or the worker stops: then the attempt does not count.
        """
        self.check()
        if self.stopping:
            self.interrupt()
            raise Cancelled("the worker stops")

    def sleep(self, duration: timedelta | float) -> None:
        """Waits, and ends at once when there is no point in waiting any longer.

        Args:
            duration: a timedelta, or seconds.

        Raises:
            JobTimeout: the time of this attempt is over.
            Cancelled: the job was asked to stop, or the worker stops: then the job goes back into the queue, and the
                attempt does not count.
        """
        seconds = in_seconds("duration", duration)
        woken = threading.Event()
        with self.waking(woken.set):
            woken.wait(min(seconds, threading.TIMEOUT_MAX))
            self.check_idle()

    @contextmanager
    def waking(self, wake: Callable[[], object], *, idle: bool = True) -> Iterator[None]:
        """For executors: a block that waits for something else, and is woken when the job is to end.

        `JobTimeout` is not raised in it from outside, and so leaves nothing half done: whoever is woken calls `check`.

        Args:
            wake: called, in another thread, when the job is asked to stop or its time is over; maybe more than once. What
                it raises is logged, and wakes nobody.
            idle: whether the job only waits meanwhile, so that it is called also when the worker stops; then `check_idle`
                is what to call.
        """
        stop = self._stopping.calling(wake) if idle and self._stopping is not None else nullcontext()
        with self._shielded(), self.cancelled.calling(wake), stop:
            yield

    @property
    def deadline(self) -> datetime | None:
        """When the time of this attempt is over, by this machine's clock; None without a `timeout`."""
        return None

    @property
    def timed_out(self) -> bool:
        """Whether the time of this attempt was over before it ended."""
        return False

    @property
    def connection(self) -> Any:
        """A connection of this attempt's own, in the transaction in which the job's completion will be written.

        The transaction begins at the first use. It is committed when the handler has returned, and rolled back if it raises.

        Raises:
            RuntimeError: the entrypoint is not transactional, or its jobs are in memory.
        """
        raise RuntimeError(
            f"entrypoint {self.job.entrypoint!r} has no connection: declare it with transactional=True, or open one of your own"
        )

    def progress(self, fraction: float, note: str | None = None) -> None:
        """Tells how far the job is: it is shown with the job as long as this attempt runs.

        Costs no I/O and waits for nothing: the latest word is written now and then, at most twice a second, outside of the
        handler's transaction. That the database is away is no error here.

        Args:
            fraction: from 0 to 1.
            note: what it is about, in words; 1,000 characters are kept.

        Raises:
            TypeError: the fraction is no number, or the note no text.
            ValueError: the fraction is not between 0 and 1.
            JobTimeout: the time of this attempt is over, and nobody has told so yet.
        """
        if not isinstance(fraction, (int, float)) or isinstance(fraction, bool):
            raise TypeError(f"fraction={fraction!r}: a number from 0 to 1 is accepted")
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction={fraction!r}: a number from 0 to 1 is accepted")
        if note is not None and not isinstance(note, str):
            raise TypeError(f"note={note!r}: text or None is accepted")
        if self.report is not None:
            self.report(self.job, float(fraction), note)

    @property
    def log(self) -> JobLog:
        """A logger that names the job in every record."""
        if self._log is None:
            self._log = JobLog(self.job)
        return self._log

    def request_cancel(self) -> None:
        """Asks the job to stop, for good: it will not be tried again. From any thread."""
        self.cancel_requested = True
        self.cancelled.set()

    def interrupt(self) -> None:
        """Asks the job to stop, for now: it goes back into the queue. From any thread."""
        self.interrupted = True
        self.cancelled.set()

    def _shielded(self) -> AbstractContextManager[None]:
        """A block in which nothing is raised from outside."""
        return nullcontext()

    def blamed(self, error: BaseException) -> BaseException:
        """What the attempt failed with: once its time is over, an ordinary error is taken for a consequence of that."""
        return error
