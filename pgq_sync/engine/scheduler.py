"""Fires schedules, in a thread of its own: sleeps until the next is due, and enqueues its job."""

from __future__ import annotations

import logging
import threading

from pgq_sync.entrypoints.registry import Registry
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import WorkerInfo
from pgq_sync.settings import Settings
from pgq_sync.storage.scheduling import Schedules

logger = logging.getLogger("pgq_sync.engine")

_LONGEST_NAP = 30.0  # seconds while something is scheduled: two clocks may run apart
_AGAIN = 1.0  # seconds after the store could not be reached, or something else went wrong


class Scheduler:
    """Fires the schedules whose jobs this worker serves, whether declared in code or added at run time.

    Several schedulers share the ticks; none fires twice.

    Args:
        store: keeps when each schedule is due, by its own clock.
        worker: whose entrypoints and queues are meant.
        registry: what is declared in code.
        settings: how late a tick may be, and how often to look where nothing tells of changes.
        listening: set while the worker's listener is connected.
    """

    def __init__(
        self, store: Schedules, worker: WorkerInfo, registry: Registry, settings: Settings, listening: threading.Event
    ) -> None:
        self._store = store
        self._worker = worker
        self._registry = registry
        self._grace = settings.misfire_grace
        self._poll_interval = settings.poll_interval.total_seconds()
        self._listening = listening
        self._hears = False
        self._wake = threading.Event()

    def declare(self) -> None:
        """Makes the schedules that are declared in code known to the store."""
        if schedules := self._registry.schedules():
            self._store.declare(schedules)

    def wake(self) -> None:
        """Has the thread look at once: something has changed, or it is to stop. From any thread."""
        self._wake.set()

    def connected(self, *, hears: bool) -> None:
        """The listener is connected; `hears`: it will tell of changes. What changed before is found by looking now."""
        self._hears = hears
        self.wake()

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        nap: float | None = 0.0
        while not stopping.is_set():
            self._wake.wait(nap)
            self._wake.clear()
            if not stopping.is_set():
                nap = self._look()

    def _look(self) -> float | None:
        """Fires what is due; returns how long to sleep unless woken, None: for ever."""
        try:
            due_in = self._store.tick(self._worker.entrypoints, self._worker.queues, self._grace)
        except StoreUnavailable as error:
            logger.warning("the schedules wait for the database: %s", error)
            return _AGAIN
        except Exception:
            logger.exception("the schedules could not be looked after, and are tried again")
            return _AGAIN
        if not (self._hears and self._listening.is_set()):
            return min(self._poll_interval, _LONGEST_NAP if due_in is None else due_in)
        return None if due_in is None else min(due_in, _LONGEST_NAP)
