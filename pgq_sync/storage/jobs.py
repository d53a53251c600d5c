"""The jobs as an operator sees them: `pgq.jobs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgq_sync.models import JobRecord, RequeueResult
from pgq_sync.storage.store import Operations

STATUSES = ("queued", "running", "held", "succeeded", "failed", "cancelled", "deleted")


class JobBook:
    """Looks jobs up and puts them back. Every call checks its arguments before it reaches the store."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def get(self, job_id: int) -> JobRecord | None:
        """One job, unfinished or still in history; None if it is neither."""
        return self._operations.get(_check_id(job_id))

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        """Jobs, the latest first.

        Args:
            status: queued, running, held, succeeded, failed, cancelled or deleted; None: any.
            entrypoint, queue: only those of this name.
            limit: the most to return.

        Raises:
            ValueError: there is no such status, or the limit is not positive.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"status={status!r}: {', '.join(STATUSES)} is accepted")
        if limit < 1:
            raise ValueError(f"limit={limit!r}: a whole number from 1 up is accepted")
        return self._operations.find(status=status, entrypoint=entrypoint, queue=queue, limit=limit)

    def count(self) -> Mapping[tuple[str, str], int]:
        """How many jobs there are by (entrypoint, status), those in history included."""
        return self._operations.count()

    def latencies(self) -> tuple[float, float, float] | None:
        """From due to claimed: median, 95th and 99th percentile in seconds over the finished jobs; None without any."""
        return self._operations.latencies()

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        """Puts held jobs back, and failed ones that are still in history under new ids that name the old.

        Args:
            ids: of the jobs.
            reset_attempts: count their attempts from 1 again.

        Returns:
            What became of each id; a dedupe key that is taken blocks only its own job.
        """
        if not isinstance(ids, Iterable):
            raise TypeError(f"ids={ids!r} must be a list of job ids, not {type(ids).__name__}")
        return self._operations.requeue([_check_id(job_id) for job_id in ids], reset_attempts=reset_attempts)


def _check_id(job_id: object) -> int:
    if not isinstance(job_id, int) or isinstance(job_id, bool):
        raise TypeError(f"job id {job_id!r} must be an int, not {type(job_id).__name__}")
    if not 0 < job_id < 2**63:
        raise ValueError(f"job id {job_id} is out of range: ids are positive")
    return job_id
