"""Claims for whoever does one job after the other, in a thread of his own: on PostgreSQL, on any kind of connection."""

from __future__ import annotations

import itertools
import json
from uuid import UUID

from pgq_sync.models import Claim, Job, JobId, WorkerInfo
from pgq_sync.storage.database import Row, Session
from pgq_sync.storage.inserts import text
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock

_fences = itertools.count(1)  # a worker that takes turns has no other claims


def claim_next(session: Session, names: Names, clock: Clock, worker: WorkerInfo) -> Claim | None:
    """The claim of the job that comes first, as `Jobs.claim_next` documents it."""
    fence = next(_fences)
    rows = session.run(
        statements(names)["claim_next"],
        {
            "now": text(clock()),
            "worker_id": str(worker.worker_id),
            "fence": fence,
            "entrypoints": list(worker.entrypoints),
        },
    )
    return _claim(rows[0], worker.worker_id, fence) if rows else None


def _claim(row: Row, worker_id: UUID, fence: int) -> Claim:
    job_id, queue, entrypoint, payload, headers, *others, dedupe_key, rescues = row
    # Drivers and frameworks read bytea and jsonb each in a way of its own.
    data = None if payload is None else bytes(payload)
    read = None if headers is None else json.loads(headers)
    fields: Row = (JobId(job_id), queue, entrypoint, data, read, *others, dedupe_key, worker_id)
    return Claim(Job(*fields), fence, rescues)
