"""How far running attempts are, on PostgreSQL: in a table apart from the jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pgq_sync.models import JobId, JobRecord, Progress, Report
from pgq_sync.storage.database import Session


def write(
    session: Session, sql: Mapping[str, str], worker_id: UUID, reports: Sequence[Report], now: datetime | None
) -> set[JobId]:
    """Writes what attempts report, while their claims hold; returns the jobs whose row somebody has locked."""
    params: dict[str, Any] = {
        "worker_id": worker_id,
        "now": now,
        "ids": [report.job.id for report in reports],
        "claimed": [report.job.claimed_at for report in reports],
        "fractions": [report.fraction for report in reports],
        "notes": [report.note for report in reports],
    }
    return {row[0] for row in session.run(sql["report_progress"], params)}


def sweep(session: Session, sql: Mapping[str, str]) -> None:
    """Forgets the progress of finished jobs."""
    while session.run(sql["sweep_progress"]):
        pass


def with_progress(session: Session, sql: Mapping[str, str], records: Sequence[JobRecord]) -> list[JobRecord]:
    """The records, those of running jobs with what their present attempts have reported."""
    running = [record.id for record in records if record.status == "running"]
    rows = session.run(sql["progress"], {"ids": running}) if running else []
    found = {row[0]: Progress(*row[1:]) for row in rows}
    return [dataclasses.replace(record, progress=current(record, found.get(record.id))) for record in records]


def current(record: JobRecord, progress: Progress | None) -> Progress | None:
    """The progress, unless it is that of an attempt before."""
    if record.status != "running" or progress is None or record.claimed_at is None:
        return None
    return progress if progress.updated_at >= record.claimed_at else None
