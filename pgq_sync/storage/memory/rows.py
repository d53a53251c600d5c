"""A job as the store in memory keeps it, and what others get to see of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pgq_sync.models import Job, JobId, JobRecord
from pgq_sync.storage.intake import CheckedJob

MemoryKey = tuple[str, str, int, bool]  # queue, entrypoint, priority, whether in quarantine
UNCLAIMED: dict[str, Any] = {"status": "queued", "worker_id": None, "fence": None, "claimed_at": None}
"""What a job that is put back has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """A job, as its row in PostgreSQL has it."""

    id: JobId
    queue: str
    entrypoint: str
    priority: int
    execute_after: datetime
    created_at: datetime
    dedupe_key: str | None = None
    dedupe_until: str | None = None
    payload: bytes | None = None
    headers: str | None = None
    status: Literal["queued", "running", "held", "succeeded", "failed", "cancelled", "deleted"] = "queued"
    attempt: int = 0
    rescues: int = 0
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    worker_id: UUID | None = None
    fence: int | None = None
    errors: tuple[Any, ...] = ()
    result: str | None = None
    requeued_from: JobId | None = None
    requeued_as: JobId | None = None

    @property
    def lane(self) -> MemoryKey:
        return (self.queue, self.entrypoint, self.priority, self.rescues >= 2)

    @property
    def job(self) -> Job:
        """The job as its handler sees it, once it is claimed."""
        # For the type checker: a claimed row has both.
        assert self.claimed_at is not None  # noqa: S101
        assert self.worker_id is not None  # noqa: S101
        return Job(
            *(self.id, self.queue, self.entrypoint, self.payload, _loads(self.headers), self.priority, self.attempt),
            *(self.execute_after, self.created_at, self.claimed_at, self.dedupe_key, self.worker_id),
        )

    @property
    def record(self) -> JobRecord:
        """The job as an operator sees it."""
        return JobRecord(
            id=self.id,
            queue=self.queue,
            entrypoint=self.entrypoint,
            priority=self.priority,
            status=self.status,
            attempts=self.attempt,
            execute_after=self.execute_after,
            created_at=self.created_at,
            claimed_at=self.claimed_at,
            finished_at=self.finished_at,
            worker_id=self.worker_id,
            dedupe_key=self.dedupe_key,
            payload=self.payload,
            headers=_loads(self.headers),
            errors=list(self.errors),
            result=_loads(self.result),
            requeued_from=self.requeued_from,
            requeued_as=self.requeued_as,
        )


def new_row(job: CheckedJob, now: datetime, due: datetime) -> MemoryRow:
    """The row of a job that has no id yet."""
    return MemoryRow(
        id=JobId(0),
        queue=job.queue,
        entrypoint=job.entrypoint,
        priority=job.priority,
        execute_after=due,
        created_at=now,
        dedupe_key=job.dedupe_key,
        dedupe_until=job.dedupe_until,
        payload=job.payload,
        headers=job.headers,
    )


def _loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)
