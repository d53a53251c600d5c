"""Writes how far jobs are, the latest word of all of them at once, in a thread that starts with the first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from pgq_sync.engine.entries import storable
from pgq_sync.engine.threads import BackgroundThread
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Job, JobId, Report

logger = logging.getLogger("pgq_sync.engine")

_EVERY = 0.5  # seconds between two writes
_MOST_NOTE = 1_000  # characters of a note that are kept
_LAST_WORDS = 1.0  # seconds for the last write


class Reports(Protocol):
    """The part of a store that the reporter needs."""

    def report(self, worker_id: UUID, reports: Sequence[Report]) -> Collection[JobId]: ...


class Reporter:
    """Keeps the latest progress of each job until it is written.

    Args:
        store: writes it.
        worker_id: in whose name.
    """

    def __init__(self, store: Reports, worker_id: UUID) -> None:
        self._store = store
        self._worker_id = worker_id
        self._lock = threading.Lock()
        self._latest: dict[JobId, Report] = {}
        self._news = threading.Event()
        self._thread: BackgroundThread | None = None
        self._stopped = self._said = False

    def put(self, job: Job, fraction: float, note: str | None) -> None:
        """Takes what a handler says, in its thread. Raises nothing that has to do with the store."""
        report = Report(job, fraction, None if note is None else storable(note)[:_MOST_NOTE])
        with self._lock:
            if self._stopped:
                return
            self._latest[job.id] = report
            if self._thread is None:
                self._thread = BackgroundThread("pgq-progress", self._run, lambda thread, error: None)
                self._thread.start()
        self._news.set()

    def stop(self) -> None:
        """Writes what is left and ends the thread; does not wait long for the store."""
        with self._lock:
            self._stopped, thread = True, self._thread
        if thread is not None:
            thread.stop()
            self._news.set()
            thread.join(_LAST_WORDS)

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._news.wait()
            self._news.clear()
            self._write()
            stopping.wait(_EVERY)
        self._write()

    def _write(self) -> None:
        with self._lock:
            reports, self._latest = self._latest, {}
        if not reports:
            return
        try:
            left = set(self._store.report(self._worker_id, list(reports.values())))
            self._said = False
        except StoreUnavailable as error:
            left = set(reports)
            self._complain(error)
        except Exception as error:
            left = set()  # it would fail again
            self._complain(error)
        if left:
            with self._lock:
                self._latest = {job_id: reports[job_id] for job_id in left} | self._latest
            self._news.set()

    def _complain(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            logger.warning("how far jobs are could not be written: %s", error)
