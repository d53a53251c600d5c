"""How a watcher learns that jobs in memory have ended: whoever changes them tells its lookout."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from pgq_sync.models import Completion, JobId
from pgq_sync.storage.memory.rows import MemoryRow
from pgq_sync.storage.memory.state import MemoryState
from pgq_sync.storage.waker import Waker
from pgq_sync.storage.watching import Looked, Notice


class MemoryLookout:
    """A lookout on the store in memory.

    Args:
        state: of the store.
        waker: ends the wait.
    """

    hears = True

    def __init__(self, state: MemoryState, waker: Waker) -> None:
        self._state = state
        self._waker = waker
        self._watched: set[JobId] = set()
        self._notices: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        """Takes a notice, whoever it concerns. The caller holds the state's lock."""
        if not self._watched.isdisjoint(map(JobId, notice.ids or ())):
            self._notices.append(notice)
            self._waker.set()

    def register(self, ids: Collection[int]) -> set[JobId]:
        with self._state.lock:
            unfinished = self._state.jobs.keys() & set(map(JobId, ids))
            self._watched |= unfinished
        return unfinished

    def look(self, ids: Collection[int]) -> Looked:
        with self._state.lock:
            found = {JobId(job_id): self._state.find(job_id) for job_id in ids}
            ended = [row for row in found.values() if row is not None and row.status not in ("queued", "running")]
            nowhere = [job_id for job_id, row in found.items() if row is None]
            self._watched.difference_update(nowhere, [row.id for row in ended])
        return Looked([_completion(row) for row in ended], nowhere)

    def leave(self, ids: Collection[int]) -> None:
        with self._state.lock:
            self._watched.difference_update(map(JobId, ids))

    def heard(self) -> Sequence[Notice]:
        with self._state.lock:
            notices, self._notices = self._notices, []
        return notices

    def wait(self, until: float = math.inf) -> None:
        self._waker.wait(until)

    def cut_off(self) -> None:
        """Nothing here waits for anybody."""


@contextmanager
def lookout(state: MemoryState, waker: Waker) -> Iterator[MemoryLookout]:
    """A lookout that is told of everything until the block ends."""
    one = MemoryLookout(state, waker)
    with state.lock:
        state.lookouts.append(one)
    try:
        yield one
    finally:
        with state.lock:
            state.lookouts.remove(one)


def _completion(row: MemoryRow) -> Completion:
    record = row.record
    return Completion(
        job_id=record.id,
        entrypoint=record.entrypoint,
        status=record.status,  # type: ignore[arg-type]  # the caller has seen that it has ended
        attempts=record.attempts,
        error=record.errors[-1] if record.errors and record.status != "succeeded" else None,
        result=record.result,
    )
