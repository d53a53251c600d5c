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


def send_receipt(order_id: int, *, copy: bool = False) -> str:
    """Sends the receipt."""
    return f"{order_id}, copied" if copy else str(order_id)


def with_all_kinds(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **others: int) -> list[Any]:
    return [a, b, c, list(rest), d, e, others]


def results(pgq: PgQueuer, *ids: int) -> list[Any]:
    """What these jobs returned once they have run."""
    pgq.drain()
    records = [record_of(pgq, job_id) for job_id in ids]
    assert [record.errors for record in records] == [[] for _ in records]
    return [record.result for record in records]


def annotated(annotation: Any) -> Callable[..., Any]:
    """A function whose parameter is annotated like this; None: not at all."""

    def take(value: Any) -> None: ...

    take.__annotations__ = {} if annotation is None else {"value": annotation}
    return take
