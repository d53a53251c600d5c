"""What an operator asks of the jobs in memory."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from pgq_sync.models import CancelResult, DeleteResult, JobId, JobRecord, RequeueResult
from pgq_sync.storage.memory.rows import MemoryRow
from pgq_sync.storage.memory.state import MemoryState
from pgq_sync.storage.progress import current
from pgq_sync.storage.store import CANCELLED_WAITING, WAITING


class MemoryOperations:
    """Operations on the jobs in memory."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        requeued: dict[JobId, JobId] = {}
        already: dict[JobId, JobId] = {}
        conflicts, unknown = [], []
        with self._state.lock:
            for job_id in dict.fromkeys(map(JobId, ids)):
                row = self._state.find(job_id)
                if row is None or row.status not in ("held", "failed"):
                    unknown.append(job_id)
                elif row.requeued_as is not None:
                    already[job_id] = row.requeued_as
                elif row.status == "failed" and row.dedupe_until is not None and row.dedupe_key in self._state.keys:
                    conflicts.append(job_id)
                else:
                    requeued[job_id] = self._requeue_one(row, reset_attempts)
        self._state.wake()
        return RequeueResult(requeued=requeued, already=already, conflicts=conflicts, unknown=unknown)

    def _requeue_one(self, row: MemoryRow, reset_attempts: bool) -> JobId:
        now = self._state.now()
        attempt = 0 if reset_attempts else row.attempt
        anew = dataclasses.replace(row, status="queued", execute_after=now, attempt=attempt, rescues=0)
        self._state.requests.discard(row.id)
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
            self._state.history[row.id] = dataclasses.replace(row, requeued_as=anew.id)
        self._state.put(anew)
        return anew.id

    def cancel(self, ids: Iterable[int]) -> CancelResult:
        ended, asked, unknown = [], [], []
        with self._state.lock:
            for job_id in dict.fromkeys(map(JobId, ids)):
                row = self._state.jobs.get(job_id)
                if row is None:
                    unknown.append(job_id)
                elif row.status == "running":
                    self._state.requests.add(job_id)
                    asked.append(job_id)
                else:
                    self._cancel_waiting(row)
                    ended.append(job_id)
        self._state.wake()
        return CancelResult(ended=ended, asked=asked, unknown=unknown)

    def _cancel_waiting(self, row: MemoryRow) -> None:
        errors = (*row.errors, json.loads(CANCELLED_WAITING))
        self._state.finish(dataclasses.replace(row, status="cancelled", errors=errors))

    def end_requested(self) -> int:
        """Ends jobs that wait although they were asked to end, and forgets what finished jobs were asked; how many it ended."""
        with self._state.lock:
            waiting = [row for row in self._requested() if row.status in WAITING]
            for row in waiting:
                self._cancel_waiting(row)
            self._state.requests = {row.id for row in self._requested()}
        return len(waiting)

    def _requested(self) -> list[MemoryRow]:
        return [row for job_id in self._state.requests if (row := self._state.jobs.get(job_id))]

    def delete(self, ids: Iterable[int]) -> DeleteResult:
        deleted, refused, unknown = [], [], []
        with self._state.lock:
            for job_id in dict.fromkeys(map(JobId, ids)):
                row = self._state.find(job_id)
                if row is None:
                    unknown.append(job_id)
                elif row.status == "running":
                    refused.append(job_id)
                else:
                    self._delete_one(row)
                    deleted.append(job_id)
        return DeleteResult(deleted=deleted, refused=refused, unknown=unknown)

    def _delete_one(self, row: MemoryRow) -> None:
        if row.status in WAITING:
            self._state.finish(dataclasses.replace(row, status="deleted"))
        else:
            self._state.remove(row)

    def purge(self, status: str, *, entrypoint: str | None, older_than: timedelta) -> int:
        with self._state.lock:
            rows = self._purgeable(status, entrypoint, older_than)
            for row in rows:
                self._delete_one(row)
        return len(rows)

    def count_purgeable(self, status: str, *, entrypoint: str | None, older_than: timedelta) -> int:
        with self._state.lock:
            return len(self._purgeable(status, entrypoint, older_than))

    def _purgeable(self, status: str, entrypoint: str | None, older_than: timedelta) -> list[MemoryRow]:
        before = self._state.now() - older_than
        rows = self._state.jobs if status in WAITING else self._state.history
        return [
            row
            for row in rows.values()
            if row.status == status
            and entrypoint in (None, row.entrypoint)
            and (row.created_at if row.finished_at is None else row.finished_at) <= before
        ]

    def get(self, job_id: int) -> JobRecord | None:
        with self._state.lock:
            row = self._state.find(job_id)
            return self._record(row) if row else None

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        with self._state.lock:
            rows = [*self._state.jobs.values(), *self._state.history.values()]
            wanted = {"status": status, "entrypoint": entrypoint, "queue": queue}
            found = [row for row in rows if all(value in (None, getattr(row, name)) for name, value in wanted.items())]
            return [self._record(row) for row in sorted(found, key=lambda row: row.id, reverse=True)[:limit]]

    def _record(self, row: MemoryRow) -> JobRecord:
        return dataclasses.replace(row.record, progress=current(row.record, self._state.progress.get(row.id)))

    def held(self, *, entrypoint: str | None = None, limit: int = 25) -> list[JobRecord]:
        return self.find(status="held", entrypoint=entrypoint, limit=limit)

    def now(self) -> datetime:
        with self._state.lock:
            return self._state.now()

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
