"""Gives the worker's signs of life, rescues the jobs of dead workers, and looks after history.

A thread of its own, so that no busy one delays a beat.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Beat, Peers, WorkerInfo, WorkerState
from pgq_sync.storage.store import Store

logger = logging.getLogger("pgq_sync.engine")

_MAINTENANCE = 3600.0  # seconds
_THOROUGH = 60.0  # seconds between two searches for the jobs of workers that nobody knows
_WITHOUT_LOCK = 4  # times the silence is allowed to a worker whose life shows by its beats alone


class Keeper:
    """Beats, and takes over from those who do not any more.

    Args:
        store: the fleet's book, and the jobs.
        worker: whose life it is.
        beat_interval: how often to beat.
        retention: how long finished jobs are remembered.
        on_peers: gets the worker's place in the fleet after each beat.
    """

    def __init__(
        self,
        store: Store,
        worker: WorkerInfo,
        beat_interval: timedelta,
        retention: timedelta,
        on_peers: Callable[[Peers], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._state: WorkerState = "running"  # the next two change by other threads
        self._liveness_limit = worker.liveness_limit
        self._beat_interval = beat_interval.total_seconds()
        self._retention = retention
        self._on_peers = on_peers
        self._well_since = time.monotonic()  # since when all beats have reached the store
        self._heard = True  # whether the last one did
        self._wake = threading.Event()
        self._clean: bool | None = None  # how the worker leaves, once it does
        self._next_thorough = time.monotonic() + _THOROUGH * random.uniform(0.5, 1.5)
        # Not at once: a fleet that starts together should not maintain together.
        self._next_maintenance = time.monotonic() + random.uniform(0, 60)

    def register(self) -> None:
        """The first sign of life, before any job is claimed."""
        self._store.register(self._worker)
        self._beat()

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        nap = self._beat_interval
        while not self._is_over(stopping, nap):
            nap = self._beat_interval
            try:
                overdue_in = self._beat().overdue_in
                if overdue_in is not None and 0 < overdue_in < nap:
                    nap = overdue_in + 0.05  # to be there when it is over
                self._rescue_when_due(overdue_in)
                self._maintain_when_due()
            except StoreUnavailable as error:
                self._heard = False
                logger.warning("no sign of life could be given: %s", error)
        if self._clean is not None:
            self.deregister(clean=self._clean)

    def shown_by(self, *, exclusive: bool) -> None:
        """Whether the store sees by the listener too that the worker lives; where not, it may be silent for longer."""
        self._liveness_limit = self._worker.liveness_limit * (1 if exclusive else _WITHOUT_LOCK)

    def stopping(self) -> None:
        """Has the fleet told that this worker takes no more jobs. By the thread: a store that does not answer delays no stop."""
        self._state = "stopping"
        self._wake.set()

    def leave(self, *, clean: bool) -> None:
        """Ends the thread; the last that it does is to tell the fleet that this worker has stopped.

        Args:
            clean: whether it surely has no claimed jobs left.
        """
        self._clean = clean
        self._wake.set()

    def deregister(self, *, clean: bool) -> None:
        """Tells the fleet that this worker has stopped. Where that cannot be written, its last beat grows old."""
        try:
            try:
                self._store.deregister(self._worker.worker_id, clean=clean)
            except StoreUnavailable:
                # The first statement after an outage finds that its connection is lost.
                self._store.deregister(self._worker.worker_id, clean=clean)
        except Exception as error:
            logger.warning("the fleet could not be told that this worker has stopped: %s", error)

    def _is_over(self, stopping: threading.Event, nap: float) -> bool:
        self._wake.wait(nap)
        self._wake.clear()
        return stopping.is_set() or self._clean is not None

    def _beat(self) -> Beat:
        beat = self._store.beat(self._myself())
        # By the store's clock: this process's own may stand still while the whole machine is paused.
        if not self._heard or beat.silence is None or beat.silence >= self._worker.liveness_limit.total_seconds():
            self._well_since = time.monotonic()
        self._heard = True
        self._on_peers(beat.peers)
        return beat

    def _myself(self) -> WorkerInfo:
        return dataclasses.replace(self._worker, state=self._state, liveness_limit=self._liveness_limit)

    def _rescue_when_due(self, overdue_in: float | None) -> None:
        now = time.monotonic()
        thorough = now >= self._next_thorough
        silent = overdue_in is not None and overdue_in <= 0
        # After an outage everybody has been silent: all get the time to be heard again before one is taken for dead.
        well = now - self._well_since >= self._worker.liveness_limit.total_seconds()
        if not well or not (silent or thorough):
            return
        for dead in self._store.rescue(self._myself(), thorough=thorough):
            if dead.jobs:  # one whose jobs were put back is found once more, without any, and then forgotten
                logger.warning("worker %s is dead: %s of its jobs put back", dead.worker, dead.jobs)
            else:
                logger.debug("dead worker %s is forgotten: none of its jobs is left", dead.worker)
        if thorough:
            self._store.end_cancelled()
            self._next_thorough = now + _THOROUGH * random.uniform(0.9, 1.1)

    def _maintain_when_due(self) -> None:
        if time.monotonic() >= self._next_maintenance:
            self._next_maintenance = time.monotonic() + _MAINTENANCE * random.uniform(0.9, 1.1)
            try:
                self._store.maintain(self._retention)
            except StoreUnavailable:
                raise
            except Exception:
                # A table in a partition's place, say: all workers find it, and jobs finish as long as partitions last.
                logger.exception("history could not be looked after; it is tried again in about %g s", _MAINTENANCE)
