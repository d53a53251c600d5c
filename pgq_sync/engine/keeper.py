"""Gives the worker's signs of life, and looks after history. A thread of its own, so that no busy one delays a beat."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Peers, WorkerInfo
from pgq_sync.storage.store import Fleet

logger = logging.getLogger("pgq_sync.engine")

_MAINTENANCE = 3600.0  # seconds


class Keeper:
    """Beats.

    Args:
        store: the fleet's book.
        worker: whose life it is.
        beat_interval, liveness_limit: how often to beat, and how old the last beat of a living worker may be.
        retention: how long finished jobs are remembered.
        on_peers: gets the worker's place in the fleet after each beat.
    """

    def __init__(
        self,
        store: Fleet,
        worker: WorkerInfo,
        beat_interval: timedelta,
        liveness_limit: timedelta,
        retention: timedelta,
        on_peers: Callable[[Peers], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._beat_interval = beat_interval.total_seconds()
        self._liveness_limit = liveness_limit
        self._retention = retention
        self._on_peers = on_peers
        self._heard = True  # whether the last sign of life reached the store
        # Not at once: a fleet that starts together should not maintain together.
        self._next_maintenance = time.monotonic() + random.uniform(0, 60)

    def register(self) -> None:
        """The first sign of life, before any job is claimed."""
        self._store.register(self._worker)
        self._on_peers(self._store.beat(self._worker, self._liveness_limit))

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        while not stopping.wait(self._beat_interval):
            try:
                self._on_peers(self._store.beat(self._worker, self._liveness_limit))
                self._heard = True
                self._maintain_when_due()
            except StoreUnavailable as error:
                self._heard = False
                logger.warning("no sign of life could be given: %s", error)

    def stopping(self) -> None:
        """Tells the fleet that this worker takes no more jobs."""
        self._worker = dataclasses.replace(self._worker, state="stopping")
        self._say(lambda: self._store.beat(self._worker, self._liveness_limit), "that this worker stops")

    def deregister(self) -> None:
        """The end. Where it cannot be written, the worker's last beat grows old."""
        self._say(lambda: self._store.deregister(self._worker.worker_id), "that this worker has stopped")

    def _say(self, farewell: Callable[[], object], what: str) -> None:
        """A farewell never keeps a worker from stopping, and is not tried on a store that is known to be away."""
        try:
            if self._heard:
                farewell()
        except Exception as error:
            self._heard = False
            logger.warning("the fleet could not be told %s: %s", what, error)

    def _maintain_when_due(self) -> None:
        if time.monotonic() >= self._next_maintenance:
            self._next_maintenance = time.monotonic() + _MAINTENANCE * random.uniform(0.9, 1.1)
            self._store.maintain(self._retention)
