"""Claims for one worker on the store in memory. It needs neither notifications nor polls: the store wakes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from pgq_sync.models import Claim, Peers, WorkerInfo
from pgq_sync.storage.lanes import serving

Serves = Callable[[str, str], bool]


class Claimable(Protocol):
    """The store in memory, as its claimers use it."""

    def claim_for(self, worker: WorkerInfo, serves: Serves, room: int) -> list[Claim]: ...

    def next_due(self, serves: Serves) -> float | None: ...


class MemoryClaimer:
    """Claims for one worker. Unlike PostgreSQL's it needs neither notifications nor polls: the store wakes it."""

    def __init__(self, store: Claimable, worker: WorkerInfo) -> None:
        self.peers = Peers()
        self._store = store
        self._worker = worker
        self._serves = serving(worker.queues, worker.entrypoints)
        self._event = threading.Event()

    def arm(self) -> None:
        self._event.clear()

    def wake(self) -> None:
        if not self._event.is_set():
            self._event.set()

    def cancel(self) -> None:
        """A claim here waits for nothing."""

    def claim(self, room: int, *, thorough: bool = False) -> Sequence[Claim]:
        return self._store.claim_for(self._worker, self._serves, room)

    def wait(self, *, for_room: bool = False) -> None:
        due = None if for_room else self._store.next_due(self._serves)
        self._event.wait(None if due is None else max(due, 0.0))
