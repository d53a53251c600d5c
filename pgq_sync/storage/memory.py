"""The queue in this process's memory: the same behaviour as on PostgreSQL, for tests and first steps.

One lock guards everything; public methods take it, those with an underscore expect it held. That one state under one
lock is why this file is longer than others.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from pgq_sync.errors import DuplicateJob
from pgq_sync.models import (
    Claim,
    JobId,
    JobRecord,
    OnConflict,
    Peers,
    RequeueResult,
    Settled,
    Settlement,
    WorkerInfo,
)
from pgq_sync.storage.intake import CheckedJob
from pgq_sync.storage.lanes import Key, claim_order
from pgq_sync.storage.memory_claimer import MemoryClaimer
from pgq_sync.storage.memory_rows import MemoryRow, new_row
from pgq_sync.storage.memory_schedules import MemorySchedules
from pgq_sync.storage.store import OWN, Clock

_MOST_ERRORS = 100  # of one job


class MemoryStore:
    """The store in memory.

    Args:
        clock: the time that rows get; by default this machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or _utc_now
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._fences = itertools.count(1)
        self._jobs: dict[JobId, MemoryRow] = {}
        self._history: dict[JobId, MemoryRow] = {}
        self._keys: dict[str, JobId] = {}  # dedupe keys that guard an unfinished job
        # Heaps by (execute_after, id). An entry whose job is no longer queued for that time is skipped when it comes up.
        self._lanes: defaultdict[Key, list[tuple[datetime, JobId]]] = defaultdict(list)
        self._workers: dict[UUID, WorkerInfo] = {}
        self.schedules = MemorySchedules(self, self._now)
        self._claimers: list[MemoryClaimer] = []

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

    @contextmanager
    def atomic(self) -> Iterator[None]:
        with self._lock:
            saved = dict(self._jobs), dict(self._keys), {lane: list(heap) for lane, heap in self._lanes.items()}
            try:
                yield
            except BaseException:
                self._jobs, self._keys = saved[0], saved[1]
                self._lanes = defaultdict(list, saved[2])
                raise

    def add(self, jobs: Sequence[CheckedJob], *, on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
        with self._lock:
            if on_conflict == "raise":
                self._refuse_duplicates(jobs)
            ids = [self._add_one(job, on_conflict) for job in jobs]
        if notify:
            self._wake()
        return ids

    def _refuse_duplicates(self, jobs: Sequence[CheckedJob]) -> None:
        keys = [job.dedupe_key for job in jobs if job.dedupe_key is not None]
        for key, times in Counter(keys).items():
            if times > 1:
                raise DuplicateJob(key, None)
        for key in keys:
            if key in self._keys:
                raise DuplicateJob(key, self._keys[key])

    def _add_one(self, job: CheckedJob, on_conflict: OnConflict) -> JobId | None:
        now = self._now()
        due = job.due_at if job.due_at is not None else now + timedelta(seconds=job.delay)
        row = new_row(job, now, max(due, now))
        holder = self._keys.get(job.dedupe_key) if job.dedupe_key is not None else None
        if holder is None:
            row = dataclasses.replace(row, id=JobId(next(self._ids)))
        elif on_conflict == "replace" and self._jobs[holder].status in ("queued", "held"):
            row = dataclasses.replace(row, id=holder, created_at=self._jobs[holder].created_at)
        else:
            return holder if on_conflict == "existing" else None
        self._put(row)
        return row.id

    def _put(self, row: MemoryRow) -> None:
        self._jobs[row.id] = row
        if row.dedupe_key is not None and row.dedupe_until is not None:
            self._keys[row.dedupe_key] = row.id
        if row.status == "queued":
            heapq.heappush(self._lanes[row.lane], (row.execute_after, row.id))

    @contextmanager
    def claimer(self, worker: WorkerInfo, poll_interval: timedelta) -> Iterator[MemoryClaimer]:
        claimer = MemoryClaimer(self, worker)
        with self._lock:
            self._claimers.append(claimer)
        try:
            yield claimer
        finally:
            with self._lock:
                self._claimers.remove(claimer)

    def claim_for(self, worker: WorkerInfo, serves: Callable[[str, str], bool], room: int) -> list[Claim]:
        """What `MemoryClaimer.claim` does, with the whole store at hand."""
        with self._lock:
            now, fence = self._now(), next(self._fences)
            lanes = sorted((lane for lane in self._lanes if serves(*lane[:2])), key=lambda lane: -lane[2])
            # Served lanes of equal priority take turns, as in PostgreSQL.
            self._lanes = defaultdict(list, dict([*list(self._lanes.items())[1:], *list(self._lanes.items())[:1]]))
            ids: list[JobId] = []
            for lane in lanes:
                while len(ids) < room and (job_id := self._pop_due(lane, now)) is not None:
                    ids.append(job_id)
            claims = [self._claim_one(job_id, worker.worker_id, fence, now) for job_id in ids]
            return sorted(claims, key=claim_order)

    def _pop_due(self, lane: Key, now: datetime) -> JobId | None:
        heap = self._lanes[lane]
        while heap:
            due, job_id = heap[0]
            row = self._jobs.get(job_id)
            stale = row is None or row.status != "queued" or row.execute_after != due or row.lane != lane
            if not stale and due > now:
                return None
            heapq.heappop(heap)
            if not stale:
                return job_id
        del self._lanes[lane]
        return None

    def _claim_one(self, job_id: JobId, worker_id: UUID, fence: int, now: datetime) -> Claim:
        row = self._jobs[job_id]
        if row.dedupe_key is not None and row.dedupe_until == "started":
            self._keys.pop(row.dedupe_key, None)
        row = self._jobs[job_id] = dataclasses.replace(
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
        with self._lock:
            now = self._now()
            dues = [heap[0][0] for lane, heap in self._lanes.items() if heap and serves(*lane[:2])]
            return min(((due - now).total_seconds() for due in dues), default=None)

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement]) -> Settled:
        written, lost = [], []
        with self._lock:
            for each in settlements:
                row = self._jobs.get(each.claim.job.id)
                held = row is not None and (row.worker_id, row.fence) == (worker_id, each.claim.fence)
                if row is not None and held and row.status == "running":
                    self._settle_one(row, each)
                    written.append(each)
                else:
                    lost.append(each)
        self._wake()
        return Settled(written=written, lost=lost)

    def _settle_one(self, row: MemoryRow, settlement: Settlement) -> None:
        outcome, now = settlement.outcome, self._now()
        errors = row.errors if outcome.error is None else (*row.errors, json.loads(outcome.error))
        if outcome.status in ("succeeded", "failed", "cancelled"):
            del self._jobs[row.id]
            if row.dedupe_key is not None and self._keys.get(row.dedupe_key) == row.id:
                del self._keys[row.dedupe_key]
            if outcome.keep:
                self._history[row.id] = dataclasses.replace(
                    row, status=outcome.status, finished_at=now, errors=errors, result=outcome.result
                )
            return
        self._put(
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

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        requeued: dict[JobId, JobId] = {}
        conflicts, unknown = [], []
        with self._lock:
            for job_id in dict.fromkeys(map(JobId, ids)):
                row = self._jobs.get(job_id) or self._history.get(job_id)
                if row is None or row.status not in ("held", "failed"):
                    unknown.append(job_id)
                elif row.status == "failed" and row.dedupe_until is not None and row.dedupe_key in self._keys:
                    conflicts.append(job_id)
                else:
                    requeued[job_id] = self._requeue_one(row, reset_attempts)
        self._wake()
        return RequeueResult(requeued=requeued, conflicts=conflicts, unknown=unknown)

    def _requeue_one(self, row: MemoryRow, reset_attempts: bool) -> JobId:
        now = self._now()
        attempt = 0 if reset_attempts else row.attempt
        anew = dataclasses.replace(row, status="queued", execute_after=now, attempt=attempt, rescues=0)
        if row.status == "failed":
            anew = dataclasses.replace(
                anew,
                id=JobId(next(self._ids)),
                requeued_from=row.id,
                created_at=now,
                claimed_at=None,
                finished_at=None,
                worker_id=None,
                fence=None,
            )
        self._put(anew)
        return anew.id

    def get(self, job_id: int) -> JobRecord | None:
        with self._lock:
            row = self._jobs.get(JobId(job_id)) or self._history.get(JobId(job_id))
        return row.record if row else None

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        with self._lock:
            rows = [*self._jobs.values(), *self._history.values()]
        wanted = {"status": status, "entrypoint": entrypoint, "queue": queue}
        found = [row for row in rows if all(value in (None, getattr(row, name)) for name, value in wanted.items())]
        return [row.record for row in sorted(found, key=lambda row: row.id, reverse=True)[:limit]]

    def count(self) -> Mapping[tuple[str, str], int]:
        with self._lock:
            return Counter((row.entrypoint, row.status) for row in [*self._jobs.values(), *self._history.values()])

    def latencies(self) -> tuple[float, float, float] | None:
        with self._lock:
            rows = list(self._history.values())
        waits = sorted((row.claimed_at - row.execute_after).total_seconds() for row in rows if row.claimed_at)
        if not waits:
            return None
        p50, p95, p99 = (waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.95, 0.99))
        return p50, p95, p99

    def register(self, worker: WorkerInfo) -> None:
        with self._lock:
            now = self._now()
            known = self._workers.get(worker.worker_id)
            started_at = known.started_at if known else now
            self._workers[worker.worker_id] = dataclasses.replace(worker, started_at=started_at, beat_at=now)

    def beat(self, worker: WorkerInfo, liveness_limit: timedelta) -> Peers:
        self.register(worker)
        return Peers()  # one process: nobody to take turns with

    def deregister(self, worker_id: UUID) -> None:
        with self._lock:
            self._workers.pop(worker_id, None)

    def workers(self) -> list[WorkerInfo]:
        with self._lock:
            return list(self._workers.values())

    def maintain(self, retention: timedelta) -> None:
        with self._lock:
            limit = self._now() - retention
            for row in [row for row in self._history.values() if row.finished_at and row.finished_at < limit]:
                del self._history[row.id]

    def _now(self) -> datetime:
        return self._clock() or _utc_now()

    def _wake(self) -> None:
        with self._lock:
            claimers = list(self._claimers)
        for claimer in claimers:
            claimer.wake()


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)
