"""A job as the model believes it to be, and as a store is seen to have it: the two are compared after every step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from pgq_sync.models import Claim

Lane = tuple[str, str, int, bool]  # queue, entrypoint, priority, whether in quarantine

UNFINISHED = ("queued", "running", "held")
WAITING = ("queued", "held")
QUARANTINE = 2  # rescues from which on a job is in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All that matters of a job."""

    id: int
    queue: str
    entrypoint: str
    priority: int
    status: str
    execute_after: datetime
    created_at: datetime
    payload: bytes | None = None
    dedupe_key: str | None = None
    dedupe_until: str | None = None
    attempts: int = 0
    rescues: int = 0  # of unfinished jobs
    errors: int = 0  # how many
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    worker_id: UUID | None = None
    fence: int | None = None
    requeued_from: int | None = None
    requeued_as: int | None = None

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED

    @property
    def guards(self) -> bool:
        """Whether nobody else may enqueue under its dedupe key."""
        return self.unfinished and self.dedupe_key is not None and self.dedupe_until is not None

    @property
    def quarantined(self) -> bool:
        return self.rescues >= QUARANTINE

    @property
    def lane(self) -> Lane:
        return self.queue, self.entrypoint, self.priority, self.quarantined

    @property
    def place(self) -> tuple[datetime, int]:
        """Where in its lane."""
        return self.execute_after, self.id

    def is_held_under(self, claim: Claim) -> bool:
        """Whether the claim is valid still."""
        return (self.status, self.worker_id, self.fence) == ("running", claim.job.worker_id, claim.fence)


def differences(found: dict[int, Row], believed: dict[int, Row]) -> list[str]:
    """What the store has, and the model has not, or otherwise."""
    lines = [f"job {job_id} is missing in the store: {believed[job_id]}" for job_id in believed.keys() - found.keys()]
    lines += [f"job {job_id} should not be in the store: {found[job_id]}" for job_id in found.keys() - believed.keys()]
    for job_id in found.keys() & believed.keys():
        for field in fields(Row):
            there, here = getattr(found[job_id], field.name), getattr(believed[job_id], field.name)
            if there != here:
                lines.append(f"job {job_id} has {field.name} {there!r} in the store, and should have {here!r}")
    return lines
