"""The life of a worker: starts its threads, waits, and stops them in the order that loses nothing.

A little longer than other files: starting and stopping mirror each other, and are read side by side.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Any

from pgq_sync.durations import in_seconds
from pgq_sync.engine.canceller import Canceller
from pgq_sync.engine.completer import Completer
from pgq_sync.engine.environment import Environment, around_in
from pgq_sync.engine.exit import stop_at_exit
from pgq_sync.engine.identity import identify, refuse_import
from pgq_sync.engine.keeper import Keeper
from pgq_sync.engine.limits import declare_limits, local_limits
from pgq_sync.engine.listener import Listener
from pgq_sync.engine.mailbox import ENDED, EXHAUSTED, Mailbox
from pgq_sync.engine.outcomes import released
from pgq_sync.engine.progress import Reporter
from pgq_sync.engine.runner import Produce, Runner
from pgq_sync.engine.scheduler import Scheduler
from pgq_sync.engine.shutdown import Shutdown
from pgq_sync.engine.slots import Slots
from pgq_sync.engine.threads import BackgroundThread
from pgq_sync.engine.watchdog import Watchdog
from pgq_sync.entrypoints.registry import Registry
from pgq_sync.models import Claim, Outcome, Peers, QueueExecutionMode, Settlement
from pgq_sync.settings import Settings
from pgq_sync.storage.claiming import Claimer
from pgq_sync.storage.store import Store

logger = logging.getLogger("pgq_sync.engine")

_LAST_WORDS = 1.0  # seconds in which a thread ends that has nothing left to do
_CUT_OFF = 3.0  # seconds in which a claim ends that was cut off
_FLUSH = 10.0  # seconds to write the last outcomes


@dataclass(frozen=True, slots=True)
class WorkReport:
    """What a worker did.

    Attributes:
        counts: attempts by outcome: succeeded, failed, cancelled, retried, held, released; and lost ones.
        requeued: jobs that run again: they still ran when the time to stop was over, or their outcome could not be written.
        stuck: threads that go on with a job, beyond its timeout or although it was asked to stop: they keep the interpreter
            from exiting.
        exhausted: whether the worker ended because more than `max_stuck` threads hang. It should be started again, in a
            new process.
    """

    counts: Mapping[str, int]
    requeued: int = 0
    stuck: int = 0
    exhausted: bool = False


class Worker:
    """Runs jobs; made by `PgQueuer.worker`, which documents the options.

    A context manager: it starts on entering, and on leaving it stops and waits for running jobs. Should one of its threads
    crash, it stops at once, and leaving the block raises the error.
    """

    def __init__(
        self,
        store: Store,  # the worker's own, closed when it has stopped
        registry: Registry,
        settings: Settings,
        *,
        resources: MutableMapping[Any, Any],
        produce: Produce,
        environment: Environment | None,
        queues: Sequence[str] | None,
        entrypoints: Sequence[str] | None,
        mode: QueueExecutionMode,
        scheduler: bool,
        max_jobs: int | None,
        name: str | None,
    ) -> None:
        self.info = identify(registry, settings, name=name, queues=queues, entrypoints=entrypoints)
        self._store = store
        self._registry = registry
        self._settings = settings
        self._mailbox = Mailbox[BaseException | str]()  # crashes, and the mailbox's words
        self._started = self._stopped = self._runs = False
        self._stop_lock = threading.Lock()
        self._crash: BaseException | None = None  # what a thread ended with
        self._report = WorkReport({})

        limits = local_limits(self.info, registry)
        self._listener = Listener(
            *(store, self.info, limits, settings.poll_interval, mode, max_jobs), on_end=lambda: self._mailbox.put(ENDED)
        )
        self._completer = Completer(store, self.info.worker_id, self._listener.written)
        self._watchdog = Watchdog(lambda: self._mailbox.put(EXHAUSTED))
        self._reporter = Reporter(store, self.info.worker_id)
        self._runner = Runner(
            *(registry, store, resources, produce, settings.max_rescues, self._watchdog.expect, self._reporter.put),
            around=around_in(environment, borrowed=False),
        )
        self._slots = Slots(
            settings.concurrency,
            self._runner.run,
            self._completer.put,
            self._listener.wake,
            batch_size=settings.batch_size,
            max_stuck=settings.max_stuck,
            on_leave=(lambda: None) if environment is None else environment.leave_thread,
        )
        self._shutdown = Shutdown(self._mailbox, self._slots, self._runner, self._completer)
        self._canceller = Canceller(self._completer.held, store, self._slots)
        self._keeper = Keeper(store, self.info, settings.beat_interval, settings.retention, self._on_beat)
        self._scheduler = Scheduler(store.schedules, self.info, registry, settings, self._listener.listening)
        self._listener.serve(self._slots, self._completer, self._connected, self._canceller.look, self._scheduler.wake)
        self._watchdog.watch(self._slots)
        self._threads = self._make_threads(scheduler and mode is QueueExecutionMode.continuous)

    @property
    def listening(self) -> threading.Event:
        """Set while jobs are noticed as they are enqueued."""
        return self._listener.listening

    def start(self) -> None:
        """Starts the threads and returns.

        Raises:
            SchemaError: the database's schema is missing or not this version's.
            StoreUnavailable: the database cannot be reached.
            RuntimeError: the worker was started before; make a new one.
        """
        refuse_import()
        if self._started:
            raise RuntimeError("a worker starts once: make a new one with pgq.worker()")
        if os.getpid() != self.info.pid:
            raise RuntimeError("a worker starts in the process that made it: make a new one with pgq.worker()")
        self._store.require_schema()
        self._keeper.register()
        try:
            declare_limits(self._store.limits, self.info, self._registry)
            if "scheduler" in self._threads:
                self._scheduler.declare()
        except BaseException:
            self._keeper.deregister(clean=True)
            raise
        with self._stop_lock:
            # A stop from another thread finds all of them started.
            self._started = True
            stop_at_exit(self)
            self._slots.start()
            for thread in self._threads.values():
                thread.start()
        logger.info(
            "worker %s started: %s slots, entrypoints %s", self.info.name, self.info.slots, ", ".join(self.info.entrypoints)
        )

    def look(self) -> None:
        """Has it look at once for whatever is due, everywhere. For tests, which may move the clock of the jobs' times."""
        self._listener.look()
        self._scheduler.wake()

    def request_stop(self) -> None:
        """Makes `run` stop; returns at once. May be called from a signal's handler."""
        self._mailbox.put(signal.SIGTERM)

    def stop(self, timeout: timedelta | float | None = None) -> WorkReport:
        """Stops claiming, gives back what has not started, waits for running jobs, writes every outcome.

        Args:
            timeout: how long to wait for running jobs, in seconds or as a timedelta; by default
                `Settings.shutdown_timeout`. Jobs that still run then are asked to stop and put back into the queue.

        Returns:
            What the worker did. Stopping twice returns the same again.

        Raises:
            TypeError, ValueError: the timeout is no duration. The worker goes on.
        """
        seconds = None if timeout is None else in_seconds("timeout", timeout, most=None)
        with self._stop_lock:
            if not self._stopped:
                self._mailbox.clear()
            return self._stop(seconds)

    def run(self) -> WorkReport:
        """Starts, works until a signal (SIGTERM, SIGINT), `request_stop` or the end of a drain, and stops.

        A second signal does not wait for running jobs any longer. Signals are handled only where `run` is called in the
        main thread.

        Raises:
            The error of a thread that crashed, after an orderly stop.
        """
        self._runs = True
        with self._mailbox.signals():
            self.start()
            reason = self._mailbox.next(None)
            with self._stop_lock:
                report = self._stop(None, exhausted=reason == EXHAUSTED)
        if self._crash is not None:
            raise self._crash
        # Whoever sent a signal meanwhile wants no other worker in its place.
        return replace(report, exhausted=report.exhausted and not self._mailbox.signalled)

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
        if self._crash is not None and error is None:
            raise self._crash

    def _make_threads(self, fires_schedules: bool) -> dict[str, BackgroundThread]:
        runs = {
            "listener": self._listener.run,
            "completer": self._completer.run,
            "keeper": self._keeper.run,
            "watchdog": self._watchdog.run,
            "canceller": self._canceller.run,
        }
        if fires_schedules:
            runs["scheduler"] = self._scheduler.run
        return {name: BackgroundThread(f"pgq-{name}", run, self._crashed) for name, run in runs.items()}

    def _stop(self, timeout: float | None, *, exhausted: bool = False) -> WorkReport:
        if not self._started or self._stopped or os.getpid() != self.info.pid:
            return self._report
        self._stopped = True
        started = time.monotonic()
        self._stop_claiming()
        put_back = self._shutdown.end_jobs(self._settings.shutdown_timeout.total_seconds() if timeout is None else timeout)
        self._registry.close()
        self._stop_threads()
        run_again = put_back.union(claim.job.id for claim in self._completer.held())
        self._report = WorkReport(
            *(dict(self._completer.counts), len(run_again), len(self._slots.running())),
            exhausted=exhausted and not self._mailbox.signalled,
        )
        self._mailbox.put(ENDED)  # to a thread that waits in `run` while another one has stopped the worker
        logger.info("worker %s stopped after %.1f s: %s", self.info.name, time.monotonic() - started, self._report)
        return self._report

    def _stop_claiming(self) -> None:
        for first in ("scheduler", "listener"):
            if first in self._threads:
                self._threads[first].stop()
        self._listener.wake()
        self._scheduler.wake()
        self._runner.stopping.set()  # after the listener, which would claim again what goes back now
        self._keeper.stopping()
        if not self._threads["listener"].join(_LAST_WORDS):
            # It waits for the database: for a lock on the table, say. A claim that is cut off takes nothing.
            self._listener.cancel()
            self._threads["listener"].join(_CUT_OFF)
        self._settle(self._slots.take_back(), released)

    def _stop_threads(self) -> None:
        """What serves the jobs ends after them; last the sign of life, while outcomes are written."""
        deadline = time.monotonic() + _FLUSH
        for name, wake in (("watchdog", self._watchdog.wake), ("canceller", self._canceller.look)):
            self._threads[name].stop()
            wake()
            self._threads[name].join(_LAST_WORDS)
        self._reporter.stop()
        self._completer.close()
        if not self._threads["completer"].join(_FLUSH):
            logger.error("the last outcomes could not be written: those jobs run again")
            self._threads["completer"].stop()
        self._keeper.leave(clean=self._completer.idle and not self._listener.in_doubt)
        for last in ("scheduler", "keeper"):
            if last in self._threads:
                self._threads[last].join(max(deadline - time.monotonic(), _LAST_WORDS))
        self._store.close()

    def _settle(self, claims: Sequence[Claim], outcome: Callable[[Claim], Outcome]) -> None:
        for claim in claims:
            self._completer.put(Settlement(claim, outcome(claim)))

    def _on_beat(self, peers: Peers) -> None:
        self._listener.set_peers(peers)
        # A worker that stops gives everything back by itself, and then takes no more outcomes.
        if self._stop_lock.acquire(blocking=False):
            try:
                given_back = self._slots.give_back()
                # First counted out: once they are written, a listener at its max_jobs would take them for done.
                self._listener.given_back(len(given_back))
                self._settle(given_back, released)
            finally:
                self._stop_lock.release()

    def _connected(self, claimer: Claimer) -> None:
        self._keeper.shown_by(exclusive=claimer.exclusive)
        self._scheduler.connected(hears=claimer.hears)

    def _crashed(self, thread: str, error: BaseException) -> None:
        self._crash = error
        if self._runs:
            self._mailbox.put(error)
        else:
            # Nobody waits for mail: a worker without one of its threads would go on beating, and do nothing.
            threading.Thread(target=self.stop, name="pgq-stop", daemon=True).start()
