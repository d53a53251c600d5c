"""What the queue in memory holds, under one lock, with the few changes that everything else is made of."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import threading
from collections import defaultdict
from datetime import datetime, timezone
from typing import Protocol
from uuid import UUID

from pgq_sync.models import Claim, JobId, Progress, ScheduleRecord, WorkerInfo
from pgq_sync.storage.limit_rows import ANY, LimitRow
from pgq_sync.storage.memory.rows import MemoryKey, MemoryRow
from pgq_sync.storage.store import Clock
from pgq_sync.storage.waker import Wakeable
from pgq_sync.storage.watching import Notice


class MemoryEar(Protocol):
    """A lookout, as long as it is open."""

    def tell(self, notice: Notice) -> None: ...


class MemoryListener(Wakeable, Protocol):
    """A claimer, as long as it is open: its worker lives."""

    worker_id: UUID

    def schedules_changed(self) -> None: ...


class MemoryState:
    """The state that all parts of the store in memory share. Whoever calls a method or touches a field holds `lock`.

    Args:
        clock: the time that rows get.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.lock = threading.RLock()
        self.jobs: dict[JobId, MemoryRow] = {}
        self.history: dict[JobId, MemoryRow] = {}
        self.keys: dict[str, JobId] = {}  # dedupe keys that guard an unfinished job
        # Heaps by (execute_after, id), those of jobs in quarantine apart. An entry whose job is no longer queued for that
        # time is skipped when it comes up.
        self.lanes: defaultdict[MemoryKey, list[tuple[datetime, JobId]]] = defaultdict(list)
        self.limits: dict[tuple[str, str], LimitRow] = {}  # by (entrypoint, queue)
        self.schedules: dict[tuple[str, str], ScheduleRecord] = {}  # by (name, expression)
        self.requests: set[JobId] = set()  # jobs that were asked to end
        self.workers: dict[UUID, WorkerInfo] = {}
        self.claimers: list[MemoryListener] = []
        self.lookouts: list[MemoryEar] = []
        self.progress: dict[JobId, Progress] = {}
        self._clock = clock
        self._ids = itertools.count(1)
        self._fences = itertools.count(1)

    def now(self) -> datetime:
        return (self._clock() if self._clock else None) or datetime.now(timezone.utc)

    def next_id(self) -> JobId:
        return JobId(next(self._ids))

    def next_fence(self) -> int:
        return next(self._fences)

    def find(self, job_id: int) -> MemoryRow | None:
        """The row of a job, unfinished or finished."""
        return self.jobs.get(JobId(job_id)) or self.history.get(JobId(job_id))

    def put(self, row: MemoryRow) -> None:
        """Makes or changes an unfinished job."""
        self.jobs[row.id] = row
        if row.dedupe_key is not None and row.dedupe_until is not None:
            self.keys[row.dedupe_key] = row.id
        if row.status == "queued":
            heapq.heappush(self.lanes[row.lane], (row.execute_after, row.id))
        elif row.status == "held":
            self._tell(Notice("ended", [row.id]))

    def finish(self, row: MemoryRow, *, keep: bool = True) -> None:
        """Moves an unfinished job, `row` being its last state, to history."""
        del self.jobs[row.id]
        self.free_key(row)
        if keep:
            self.history[row.id] = dataclasses.replace(row, finished_at=self.now())
        self.progress.pop(row.id, None)
        self._tell(Notice("ended", [row.id]))

    def remove(self, row: MemoryRow) -> None:
        """Deletes a finished job from history."""
        del self.history[row.id]
        self._tell(Notice("removed", [row.id]))

    def free_key(self, row: MemoryRow) -> None:
        """Lets others enqueue under the job's dedupe key again."""
        if row.dedupe_key is not None and self.keys.get(row.dedupe_key) == row.id:
            del self.keys[row.dedupe_key]

    def paused(self, entrypoint: str, queue: str) -> bool:
        """Whether jobs of this entrypoint in this queue are not to be claimed."""
        rows = (self.limits.get(key) for key in ((entrypoint, ANY), (ANY, queue), (entrypoint, queue)))
        return any(row is not None and row.paused_at is not None for row in rows)

    def first_due(self, lane: MemoryKey, now: datetime) -> JobId | None:
        """The first due job of a lane; entries that are outdated are dropped on the way."""
        heap = self.lanes[lane]
        while heap:
            due, job_id = heap[0]
            row = self.jobs.get(job_id)
            if row is not None and (row.status, row.execute_after, row.lane) == ("queued", due, lane):
                return job_id if due <= now else None
            heapq.heappop(heap)
        del self.lanes[lane]
        return None

    def claim(self, job_id: JobId, worker_id: UUID, fence: int, now: datetime) -> Claim:
        """Claims a job that waits; the caller takes its entry out of the lane."""
        row = self.jobs[job_id]
        if row.dedupe_until == "started":
            self.free_key(row)
        row = self.jobs[job_id] = dataclasses.replace(
            row,
            status="running",
            attempt=row.attempt + 1,
            worker_id=worker_id,
            fence=fence,
            claimed_at=now,
            dedupe_until=None if row.dedupe_until == "started" else row.dedupe_until,
        )
        return Claim(row.job, fence, row.rescues)

    def _tell(self, notice: Notice) -> None:
        for lookout in self.lookouts:
            lookout.tell(notice)

    def wake(self) -> None:
        """Has every claimer look."""
        for claimer in list(self.claimers):
            claimer.wake()

    def wake_schedulers(self) -> None:
        """Has every worker see to the schedules."""
        for claimer in list(self.claimers):
            claimer.schedules_changed()
