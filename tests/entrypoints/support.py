"""What the tests of entrypoints share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgq_sync import JobRecord, PgQueuer


def run_one(pgq: PgQueuer, func: Callable[..., Any], **options: Any) -> JobRecord:
    """What became of one job that `func` served."""
    pgq.entrypoint("work", **options)(func)
    job_id = pgq.enqueue("work", "payload")
    pgq.drain()
    return record_of(pgq, job_id)


def record_of(pgq: PgQueuer, job_id: int) -> JobRecord:
    record = pgq.jobs.get(job_id)
    assert record is not None, f"there is no job {job_id}"
    return record
