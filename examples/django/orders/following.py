"""What the pages tell of the jobs, in words for customers: read from the queue whenever somebody looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from orders.models import Export, Order
from pgq_sync import JobRecord
from pgq_sync.contrib.django import pgq


@dataclass(frozen=True)
class State:
    """Where a job is."""

    text: str
    done: bool = False  # nothing more will happen by itself
    ready: bool = False  # it has done its work
    fraction: float = 0  # from 0 to 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def receipt_state(order: Order) -> State:
    """Where the receipt of an order is."""
    if order.receipt_sent_at is not None:
        return State("The receipt is sent.", done=True, ready=True, fraction=1)
    job = _latest(order.receipt_job)
    if job is None:
        return State("There is no receipt for this order.", done=True)
    if job.status in ("failed", "cancelled", "deleted"):
        return State(f"The receipt could not be sent: {_reason(job)}.", done=True)
    if job.errors:
        return State(f"The mail server did not take it yet ({_reason(job)}); attempt {job.attempts + 1} comes soon.")
    return State("The receipt is on its way.")


def export_state(export: Export) -> State:
    """How far an export is."""
    if export.finished_at is not None:
        return State("The file is ready.", done=True, ready=True, fraction=1)
    job = _latest(export.job)
    if job is None or job.status in ("failed", "cancelled", "deleted"):
        return State(f"The export has ended without a file: {_reason(job)}.", done=True)
    if job.progress is not None:
        return State(job.progress.note or "", fraction=job.progress.fraction)
    return State("Running." if job.status == "running" else "Waiting for a worker.")


def _latest(job_id: int | None) -> JobRecord | None:
    """The job, or the one that took its place when it was put back."""
    job = None if job_id is None else pgq.jobs.get(job_id)
    while job is not None and job.requeued_as is not None:
        job = pgq.jobs.get(job.requeued_as)
    return job


def _reason(job: JobRecord | None) -> str:
    if job is None:
        return "its job is gone"
    return str(job.errors[-1]["message"]) if job.errors else f"its job was {job.status}"
