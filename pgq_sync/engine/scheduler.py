"""Fires schedules, in a thread of its own: sleeps until the next is due, and enqueues its job."""

from __future__ import annotations

import logging
import threading

from pgq_sync.entrypoints.registry import Registry
from pgq_sync.entrypoints.schedules import next_tick
from pgq_sync.errors import StoreUnavailable
from pgq_sync.storage.store import Schedules

logger = logging.getLogger("pgq_sync.engine")

_LONGEST_NAP = 30.0  # seconds; another process may have changed or resumed a schedule
_BESIDE_ANOTHER = 0.2
_AGAIN = 1.0  # seconds after the database could not be reached


class Scheduler:
    """Fires the schedules that this application declares. Several schedulers share the ticks; none fires twice.

    Args:
        store: keeps when each schedule is due, by its own clock.
        registry: what is declared.
    """

    def __init__(self, store: Schedules, registry: Registry) -> None:
        self._store = store
        self._schedules = registry.schedules()
        self._wake = threading.Event()

    def declare(self) -> None:
        """Makes the schedules known to the store; those it knows keep their next time."""
        if self._schedules:
            self._store.declare(self._schedules, next_tick)

    def wake(self) -> None:
        """Has the thread look at once: at what is due, and whether it is to end. From any thread."""
        self._wake.set()

    def run(self, stopping: threading.Event) -> None:
        """The thread; it ends at once where nothing is scheduled."""
        names = sorted({schedule.name for schedule in self._schedules})
        nap = 0.0
        while names and not self._is_over(stopping, nap):
            try:
                due_in = self._store.tick(names, next_tick)
                # Due and not fired: another scheduler is about to.
                nap = _LONGEST_NAP if due_in is None else min(due_in or _BESIDE_ANOTHER, _LONGEST_NAP)
            except StoreUnavailable as error:
                logger.warning("the schedules wait for the database: %s", error)
                nap = _AGAIN

    def _is_over(self, stopping: threading.Event, nap: float) -> bool:
        self._wake.wait(nap)
        self._wake.clear()
        return stopping.is_set()
