"""The life of a worker: starts its threads, waits, and stops them in the order that loses nothing."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any
from uuid import uuid4

from pgq_sync.engine.completer import Completer
from pgq_sync.engine.exit import stop_at_exit
from pgq_sync.engine.keeper import Keeper
from pgq_sync.engine.limits import LocalLimits
from pgq_sync.engine.listener import Listener
from pgq_sync.engine.mailbox import ENDED, IDLE, Mailbox
from pgq_sync.engine.runner import Runner, failure
from pgq_sync.engine.scheduler import Scheduler
from pgq_sync.engine.slots import Slots
from pgq_sync.engine.threads import BackgroundThread
from pgq_sync.entrypoints.registry import Registry
from pgq_sync.errors import ConfigError
from pgq_sync.models import Claim, Outcome, Peers, QueueExecutionMode, Settlement, WorkerInfo
from pgq_sync.settings import Settings
from pgq_sync.storage.store import Claimer, Store
from pgq_sync.version import __version__

logger = logging.getLogger("pgq_sync.engine")

_LAST_WORDS = 1.0  # seconds that jobs get to notice that they were asked to stop
_FLUSH = 10.0  # seconds to write the last outcomes


@dataclass(frozen=True, slots=True)
class WorkReport:
    """What a worker did.

    Attributes:
        counts: attempts by outcome: succeeded, failed, cancelled, retried, held, released; and lost ones.
        requeued: jobs that still ran when the time to stop was over and were put back.
    """

    counts: Mapping[str, int]
    requeued: int = 0


class Worker:
    """Runs jobs; made by `PgQueuer.worker`, which documents the options.

    A context manager: it starts on entering, and on leaving it stops and waits for running jobs.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        *,
        resources: MutableMapping[Any, Any],
        enqueue: Callable[..., Any],
        queues: Sequence[str] | None,
        entrypoints: Sequence[str] | None,
        mode: QueueExecutionMode,
        scheduler: bool,
        max_jobs: int | None,
        name: str | None,
    ) -> None:
        self.info = _info(name, queues, _served(registry, entrypoints), settings)
        self._store = store
        self._settings = settings
        self._mailbox = Mailbox()
        self._started = self._stopped = False
        self._stop_lock = threading.Lock()
        self._idle = threading.Event()  # set when the last running job of a stopping worker has finished
        self._report = WorkReport({})

        worker_id = self.info.worker_id
        limits = LocalLimits({})
        self._listener = Listener(
            *(store, self.info, limits, settings.poll_interval, mode, max_jobs), on_end=lambda: self._mailbox.put(ENDED)
        )
        self._completer = Completer(store, worker_id, self._listener.written)
        self._slots = Slots(
            settings.concurrency,
            Runner(registry, resources, enqueue).run,
            self._completer.put,
            self._listener.wake,
            batch_size=settings.batch_size,
            max_stuck=settings.max_stuck,
        )
        self._keeper = Keeper(store, self.info, settings.beat_interval, settings.retention, self._on_beat)
        self._listener.serve(self._slots, self._completer, self._connected, lambda: None)
        self._threads = {
            "listener": BackgroundThread("pgq-listener", self._listener.run, self._crashed),
            "completer": BackgroundThread("pgq-completer", self._completer.run, self._crashed),
            "keeper": BackgroundThread("pgq-keeper", self._keeper.run, self._crashed),
        }
        self._scheduler = Scheduler(store.schedules, registry)
        if scheduler and mode is QueueExecutionMode.continuous:
            self._threads["scheduler"] = BackgroundThread("pgq-scheduler", self._scheduler.run, self._crashed)

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
        if self._started:
            raise RuntimeError("a worker starts once: make a new one with pgq.worker()")
        if os.getpid() != self.info.pid:
            raise RuntimeError("a worker starts in the process that made it: make a new one with pgq.worker()")
        self._store.require_schema()
        self._keeper.register()
        try:
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
        """
        with self._stop_lock:
            if not self._stopped:
                self._mailbox.clear()
            return self._stop(timeout)

    def run(self) -> WorkReport:
        """Starts, works until a signal (SIGTERM, SIGINT), `request_stop` or the end of a drain, and stops.

        A second signal does not wait for running jobs any longer. Signals are handled only where `run` is called in the
        main thread.

        Raises:
            The error of a thread that crashed, after an orderly stop.
        """
        with self._mailbox.signals():
            self.start()
            reason = self._mailbox.next(None)
            with self._stop_lock:
                report = self._stop(None)
        if isinstance(reason, BaseException):
            raise reason
        return report

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def _stop(self, timeout: timedelta | float | None) -> WorkReport:
        if not self._started or self._stopped or os.getpid() != self.info.pid:
            return self._report
        self._stopped = True
        started = time.monotonic()
        for first in ("scheduler", "listener"):
            if first in self._threads:
                self._threads[first].stop()
        self._listener.wake()
        self._keeper.stopping()
        if not self._threads["listener"].join(_LAST_WORDS):
            # It waits for the database: for a lock on the table, say. A claim that is cut off takes nothing.
            self._listener.cancel()
            self._threads["listener"].join(_FLUSH)
        self._settle(self._slots.take_back(), _released)
        self._slots.close(self._became_idle)
        requeued = 0 if self._wait_for_idle(_seconds(timeout, self._settings.shutdown_timeout)) else self._requeue_running()
        deadline = time.monotonic() + _FLUSH
        self._completer.close()
        if not self._threads["completer"].join(_FLUSH):
            logger.error("the last outcomes could not be written: those jobs run again")
            self._threads["completer"].stop()
        for last in ("scheduler", "keeper"):
            if last in self._threads:
                self._threads[last].stop()
                self._threads[last].join(max(deadline - time.monotonic(), _LAST_WORDS))
        self._keeper.deregister(clean=self._completer.idle and not self._listener.in_doubt)
        self._report = WorkReport(dict(self._completer.counts), requeued)
        self._mailbox.put(ENDED)  # to a thread that waits in `run` while another one has stopped the worker
        logger.info("worker %s stopped after %.1f s: %s", self.info.name, time.monotonic() - started, self._report)
        return self._report

    def _became_idle(self) -> None:
        self._idle.set()
        self._mailbox.put(IDLE)

    def _wait_for_idle(self, seconds: float) -> bool:
        """Waits for the running jobs, until the time is over or somebody is in a hurry."""
        deadline = time.monotonic() + seconds
        while not self._idle.is_set():
            # In short waits: the thread in `run` may have taken the word that was meant for this one.
            mail = self._mailbox.next(min(deadline, time.monotonic() + _LAST_WORDS))
            if isinstance(mail, int) or time.monotonic() >= deadline:
                break
        return self._idle.is_set()

    def _requeue_running(self) -> int:
        """Asks what still runs to stop, and puts back what does not."""
        self._slots.cancel_running()
        if self._wait_for_idle(_LAST_WORDS):
            return 0
        running = self._slots.cancel_running()
        logger.warning("put back %s jobs that still run: %s", len(running), [claim.job.id for claim in running])
        self._settle(running, _interrupted)
        return len(running)

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
                self._settle(given_back, _released)
            finally:
                self._stop_lock.release()

    def _connected(self, claimer: Claimer) -> None:
        self._keeper.shown_by(exclusive=claimer.exclusive)

    def _crashed(self, thread: str, error: BaseException) -> None:
        self._mailbox.put(error)


def _info(name: str | None, queues: Sequence[str] | None, entrypoints: tuple[str, ...], settings: Settings) -> WorkerInfo:
    host, pid = socket.gethostname(), os.getpid()
    return WorkerInfo(
        worker_id=uuid4(),
        name=name or f"{host}:{pid}",
        host=host,
        pid=pid,
        version=__version__,
        queues=None if queues is None else tuple(sorted(set(_names("queues", queues)))),
        entrypoints=entrypoints,
        slots=settings.concurrency,
        liveness_limit=settings.liveness_limit,
    )


def _served(registry: Registry, entrypoints: Sequence[str] | None) -> tuple[str, ...]:
    known = registry.names()
    if entrypoints is not None:
        _names("entrypoints", entrypoints)
    unknown = [name for name in entrypoints or () if name not in known]
    if unknown:
        raise ConfigError(f"entrypoints {unknown} are not registered; known: {', '.join(known) or 'none'}")
    if not known:
        raise ConfigError("no entrypoint is registered: decorate a function with @pgq.entrypoint(...) before running a worker")
    return tuple(sorted(set(entrypoints or known)))


def _names(option: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{option}={names!r}: a list of names is accepted, or None for all")
    return names


def _released(claim: Claim) -> Outcome:
    return Outcome(status="released")


def _interrupted(claim: Claim) -> Outcome:
    return Outcome(status="retried", error=failure(claim.job, "Interrupted", "the worker stopped while the job ran"))


def _seconds(timeout: timedelta | float | None, default: timedelta) -> float:
    if timeout is None:
        timeout = default
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
