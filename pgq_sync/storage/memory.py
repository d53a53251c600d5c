"""The queue in this process's memory: the same behaviour as on PostgreSQL, for tests and first steps.

One lock guards everything; public methods take it, those with an underscore expect it held.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pgq_sync.errors import DuplicateJob
from pgq_sync.models import (
    Claim,
    JobId,
    OnConflict,
    Peers,
    Settled,
    Settlement,
    WorkerInfo,
)
from pgq_sync.storage.intake import CheckedJob
from pgq_sync.storage.lanes import Key, claim_order
from pgq_sync.storage.memory_claimer import MemoryClaimer
from pgq_sync.storage.memory_limits import MemoryLimits
from pgq_sync.storage.memory_operations import MemoryOperations
from pgq_sync.storage.memory_rows import MemoryRow, new_row
from pgq_sync.storage.memory_schedules import MemorySchedules
from pgq_sync.storage.memory_state import MemoryState
from pgq_sync.storage.store import OWN, Clock

_MOST_ERRORS = 100  # of one job


class MemoryStore:
    """The store in memory.

    Args:
        clock: the time that rows get; by default this machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._state = MemoryState(clock)
        self.schedules = MemorySchedules(self, self._state.now)
        self.limits = MemoryLimits(self._state)

    def for_engine(self) -> MemoryStore:
        return self

    def require_schema(self) -> None:
        """There is none."""

    def close(self) -> None:
        """There is nothing to close; the jobs stay."""

    @contextmanager
    def intake(self, connection: Any = OWN) -> Iterator[MemoryStore]:
        """The store itself; a connection changes nothing here, so that code under test may pass the one it has."""
        yield self

    def cancel_requests(self, ids: Sequence[int]) -> set[JobId]:
        with self._state.lock:
            return self._state.requests.intersection(map(JobId, ids))

    def end_cancelled(self) -> int:
        return self.operations().end_requested()

    def operations(self, connection: Any = OWN) -> MemoryOperations:
        return MemoryOperations(self._state)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        with self._state.lock:
            saved = dict(self._state.jobs), dict(self._state.keys), {lane: list(heap) for lane, heap in self._state.lanes.items()}
            try:
                yield
            except BaseException:
                self._state.jobs, self._state.keys = saved[0], saved[1]
                self._state.lanes = defaultdict(list, saved[2])
                raise

    def add(self, jobs: Sequence[CheckedJob], *, on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
        with self._state.lock:
            if on_conflict == "raise":
                self._refuse_duplicates(jobs)
            ids = [self._add_one(job, on_conflict) for job in jobs]
        if notify:
            self._state.wake()
        return ids

    def _refuse_duplicates(self, jobs: Sequence[CheckedJob]) -> None:
        keys = [job.dedupe_key for job in jobs if job.dedupe_key is not None]
        for key, times in Counter(keys).items():
            if times > 1:
                raise DuplicateJob(key, None)
        for key in keys:
            if key in self._state.keys:
                raise DuplicateJob(key, self._state.keys[key])

    def _add_one(self, job: CheckedJob, on_conflict: OnConflict) -> JobId | None:
        now = self._state.now()
        due = job.due_at if job.due_at is not None else now + timedelta(seconds=job.delay)
        row = new_row(job, now, max(due, now))
        holder = self._state.keys.get(job.dedupe_key) if job.dedupe_key is not None else None
        if holder is None:
            row = dataclasses.replace(row, id=self._state.next_id())
        elif on_conflict == "replace" and self._state.jobs[holder].status in ("queued", "held"):
            row = dataclasses.replace(row, id=holder, created_at=self._state.jobs[holder].created_at)
        else:
            return holder if on_conflict == "existing" else None
        self._state.put(row)
        return row.id

    @contextmanager
    def claimer(self, worker: WorkerInfo, poll_interval: timedelta) -> Iterator[MemoryClaimer]:
        claimer = MemoryClaimer(self, worker)
        with self._state.lock:
            self._state.claimers.append(claimer)
        try:
            yield claimer
        finally:
            with self._state.lock:
                self._state.claimers.remove(claimer)

    def claim_for(self, worker: WorkerInfo, serves: Callable[[str, str], bool], room: int) -> list[Claim]:
        """What `MemoryClaimer.claim` does, with the whole store at hand."""
        with self._state.lock:
            now, fence = self._state.now(), self._state.next_fence()
            lanes = sorted((lane for lane in self._state.lanes if serves(*lane[:2])), key=lambda lane: -lane[2])
            # Served lanes of equal priority take turns, as in PostgreSQL.
            self._state.lanes = defaultdict(
                list, dict([*list(self._state.lanes.items())[1:], *list(self._state.lanes.items())[:1]])
            )
            ids: list[JobId] = []
            for lane in lanes:
                while len(ids) < room and (job_id := self._pop_due(lane, now)) is not None:
                    ids.append(job_id)
            claims = [self._claim_one(job_id, worker.worker_id, fence, now) for job_id in ids]
            return sorted(claims, key=claim_order)

    def _pop_due(self, lane: Key, now: datetime) -> JobId | None:
        heap = self._state.lanes[lane]
        while heap:
            due, job_id = heap[0]
            row = self._state.jobs.get(job_id)
            stale = row is None or row.status != "queued" or row.execute_after != due or row.lane != lane
            if not stale and due > now:
                return None
            heapq.heappop(heap)
            if not stale:
                return job_id
        del self._state.lanes[lane]
        return None

    def _claim_one(self, job_id: JobId, worker_id: UUID, fence: int, now: datetime) -> Claim:
        row = self._state.jobs[job_id]
        if row.dedupe_until == "started":
            self._state.free_key(row)
        row = self._state.jobs[job_id] = dataclasses.replace(
            row,
            status="running",
            attempt=row.attempt + 1,
            worker_id=worker_id,
            fence=fence,
            claimed_at=now,
            dedupe_until=None if row.dedupe_until == "started" else row.dedupe_until,
        )
        return Claim(row.job, fence, row.rescues)

    def next_due(self, serves: Callable[[str, str], bool]) -> float | None:
        """In how many seconds the next served job is due; None if there is none."""
        with self._state.lock:
            now = self._state.now()
            dues = [heap[0][0] for lane, heap in self._state.lanes.items() if heap and serves(*lane[:2])]
            return min(((due - now).total_seconds() for due in dues), default=None)

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement]) -> Settled:
        written, lost = [], []
        with self._state.lock:
            for each in settlements:
                row = self._state.jobs.get(each.claim.job.id)
                held = row is not None and (row.worker_id, row.fence) == (worker_id, each.claim.fence)
                if row is not None and held and row.status == "running":
                    self._settle_one(row, each)
                    written.append(each)
                else:
                    lost.append(each)
        self._state.wake()
        return Settled(written=written, lost=lost)

    def _settle_one(self, row: MemoryRow, settlement: Settlement) -> None:
        outcome, now = settlement.outcome, self._state.now()
        errors = row.errors if outcome.error is None else (*row.errors, json.loads(outcome.error))
        if outcome.status in ("succeeded", "failed", "cancelled"):
            finished = dataclasses.replace(row, status=outcome.status, errors=errors, result=outcome.result)
            self._state.finish(finished, keep=outcome.keep)
            return
        self._state.put(
            dataclasses.replace(
                row,
                status="held" if outcome.status == "held" else "queued",
                attempt=row.attempt - (outcome.status == "released"),
                execute_after=now + outcome.delay if outcome.status == "retried" else row.execute_after,
                worker_id=None,
                fence=None,
                claimed_at=None,
                errors=errors[-_MOST_ERRORS:],
            )
        )

    def register(self, worker: WorkerInfo) -> None:
        with self._state.lock:
            now = self._state.now()
            known = self._state.workers.get(worker.worker_id)
            started_at = known.started_at if known else now
            self._state.workers[worker.worker_id] = dataclasses.replace(worker, started_at=started_at, beat_at=now)

    def beat(self, worker: WorkerInfo, liveness_limit: timedelta) -> Peers:
        self.register(worker)
        return Peers()  # one process: nobody to take turns with

    def deregister(self, worker_id: UUID) -> None:
        with self._state.lock:
            self._state.workers.pop(worker_id, None)

    def workers(self) -> list[WorkerInfo]:
        with self._state.lock:
            return list(self._state.workers.values())

    def maintain(self, retention: timedelta) -> None:
        with self._state.lock:
            limit = self._state.now() - retention
            for row in [row for row in self._state.history.values() if row.finished_at and row.finished_at < limit]:
                del self._state.history[row.id]
