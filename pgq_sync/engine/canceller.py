"""Asks, once a second while anything is claimed, which jobs a person wants cancelled, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence

from pgq_sync.engine.outcomes import withdrawn
from pgq_sync.engine.slots import Slots
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import JobId

logger = logging.getLogger("pgq_sync.engine")

_EVERY = 1.0  # seconds


class Canceller:
    """Cancels the attempts that were asked to: running ones are told, the others end without having started.

    Args:
        claimed: the worker's jobs, running or waiting for a slot.
        requests: which of these jobs were asked to cancel.
        slots: where they run.
    """

    def __init__(
        self,
        claimed: Callable[[], Sequence[JobId]],
        requests: Callable[[Sequence[JobId]], Collection[JobId]],
        slots: Slots,
    ) -> None:
        self._claimed = claimed
        self._requests = requests
        self._slots = slots
        self._wake = threading.Event()

    def look(self) -> None:
        """Has the thread ask at once. From any thread."""
        self._wake.set()

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        while not stopping.is_set():
            self._wake.wait(_EVERY)
            self._wake.clear()
            try:
                self._ask()
            except StoreUnavailable as error:
                logger.warning("whether jobs are to be cancelled could not be asked: %s", error)

    def _ask(self) -> None:
        claimed = self._claimed()
        asked = set(self._requests(claimed)) if claimed else set()
        if not asked:
            return
        started: set[JobId] = set()
        for slot in self._slots.running():
            context = slot.context
            if context is not None and context.job.id in asked:
                started.add(context.job.id)
                context.request_cancel()
        if asked - started:
            self._slots.withdraw(asked - started, withdrawn)
