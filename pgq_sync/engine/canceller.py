"""Asks, once a second while anything is claimed, which jobs a person wants cancelled, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from pgq_sync.engine.outcomes import withdrawn
from pgq_sync.engine.slots import Slots
from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Claim, JobId

logger = logging.getLogger("pgq_sync.engine")

_EVERY = 1.0  # seconds


class Requests(Protocol):
    """The part of a store that the canceller needs."""

    def cancel_requests(self, ids: Sequence[int]) -> Collection[JobId]: ...

    def end_cancelled(self) -> int: ...


class Canceller:
    """Cancels the attempts that were asked to: running ones are told, the others end without having started.

    Args:
        held: the worker's claims, running or waiting for a slot.
        store: knows which jobs were asked to end.
        slots: where they run.
    """

    def __init__(self, held: Callable[[], Sequence[Claim]], store: Requests, slots: Slots) -> None:
        self._held = held
        self._store = store
        self._slots = slots
        self._wake = threading.Event()

    def look(self) -> None:
        """Has the thread ask at once. From any thread."""
        self._wake.set()

    def run(self, stopping: threading.Event) -> None:
        """The thread."""
        while not stopping.is_set():
            notified = self._wake.wait(_EVERY)
            self._wake.clear()
            try:
                self._ask()
                if notified and not stopping.is_set():
                    # Jobs that went back into the queue while the request was on its way.
                    self._store.end_cancelled()
            except StoreUnavailable as error:
                logger.warning("whether jobs are to be cancelled could not be asked: %s", error)

    def _ask(self) -> None:
        held = [claim.job.id for claim in self._held()]
        asked = set(self._store.cancel_requests(held)) if held else set()
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
