"""What an operator asks of the jobs in memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from pgq_sync.models import JobId, JobRecord, RequeueResult
from pgq_sync.storage.memory_rows import MemoryRow
from pgq_sync.storage.memory_state import MemoryState


class MemoryOperations:
    """Operations on the jobs in memory."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        requeued: dict[JobId, JobId] = {}
        conflicts, unknown = [], []
        with self._state.lock:
            for job_id in dict.fromkeys(map(JobId, ids)):
                row = self._state.find(job_id)
                if row is None or row.status not in ("held", "failed"):
                    unknown.append(job_id)
                elif row.status == "failed" and row.dedupe_until is not None and row.dedupe_key in self._state.keys:
                    conflicts.append(job_id)
                else:
                    requeued[job_id] = self._requeue_one(row, reset_attempts)
        self._state.wake()
        return RequeueResult(requeued=requeued, conflicts=conflicts, unknown=unknown)

    def _requeue_one(self, row: MemoryRow, reset_attempts: bool) -> JobId:
        now = self._state.now()
        attempt = 0 if reset_attempts else row.attempt
        anew = dataclasses.replace(row, status="queued", execute_after=now, attempt=attempt, rescues=0)
        if row.status == "failed":
            anew = dataclasses.replace(
                anew,
                id=self._state.next_id(),
                requeued_from=row.id,
                created_at=now,
                claimed_at=None,
                finished_at=None,
                worker_id=None,
                fence=None,
            )
        self._state.put(anew)
        return anew.id

    def get(self, job_id: int) -> JobRecord | None:
        with self._state.lock:
            row = self._state.find(job_id)
        return row.record if row else None

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        with self._state.lock:
            rows = [*self._state.jobs.values(), *self._state.history.values()]
        wanted = {"status": status, "entrypoint": entrypoint, "queue": queue}
        found = [row for row in rows if all(value in (None, getattr(row, name)) for name, value in wanted.items())]
        return [row.record for row in sorted(found, key=lambda row: row.id, reverse=True)[:limit]]

    def count(self) -> Mapping[tuple[str, str], int]:
        with self._state.lock:
            return Counter((row.entrypoint, row.status) for row in [*self._state.jobs.values(), *self._state.history.values()])

    def latencies(self) -> tuple[float, float, float] | None:
        with self._state.lock:
            rows = list(self._state.history.values())
        waits = sorted((row.claimed_at - row.execute_after).total_seconds() for row in rows if row.claimed_at)
        if not waits:
            return None
        p50, p95, p99 = (waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.95, 0.99))
        return p50, p95, p99
