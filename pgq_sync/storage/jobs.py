"""The jobs as an operator sees them: `pgq.jobs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from pgq_sync.models import CancelResult, DeleteResult, JobRecord, RequeueResult
from pgq_sync.storage.intake import check_name
from pgq_sync.storage.store import Operations

STATUSES = ("queued", "running", "held", "succeeded", "failed", "cancelled", "deleted")
PURGEABLE = tuple(status for status in STATUSES if status != "running")
_MOST = 2**31 - 1  # PostgreSQL's integer
_OLDEST = timedelta(days=36_500)


class JobBook:
    """Looks jobs up, puts them back, ends and deletes them. Every call checks its arguments before it reaches the store."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def get(self, job_id: int) -> JobRecord | None:
        """One job, unfinished or still in history; None if it is neither."""
        return self._operations.get(check_id(job_id))

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        """Jobs, the latest first.

        Args:
            status: queued, running, held, succeeded, failed, cancelled or deleted; None: any.
            entrypoint, queue: only those of this name.
            limit: the most to return.

        Raises:
            TypeError, ValueError: there is no such status, no job can have the name, or the limit is not positive.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"status={status!r}: {', '.join(STATUSES)} is accepted")
        return self._operations.find(
            status=status,
            entrypoint=_check_name("entrypoint", entrypoint),
            queue=_check_name("queue", queue),
            limit=_check_limit(limit),
        )

    def count(self) -> Mapping[tuple[str, str], int]:
        """How many jobs there are by (entrypoint, status), those in history included."""
        return self._operations.count()

    def latencies(self) -> tuple[float, float, float] | None:
        """From due to claimed: median, 95th and 99th percentile in seconds over the finished jobs; None without any."""
        return self._operations.latencies()

    def held(self, limit: int = 25, entrypoint: str | None = None) -> list[JobRecord]:
        """Jobs that wait for a person, the latest first.

        Args:
            limit: the most to return.
            entrypoint: only those of this name.

        Raises:
            TypeError, ValueError: no job can have the name, or the limit is not positive.
        """
        return self._operations.held(entrypoint=_check_name("entrypoint", entrypoint), limit=_check_limit(limit))

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        """Puts held jobs back, and failed ones that are still in history under new ids that name the old.

        A failed job is put back once: after that it is the new one that may fail and be put back again. Requests to end
        the job are forgotten.

        Args:
            ids: of the jobs.
            reset_attempts: count their attempts from 1 again.

        Returns:
            What became of each id; a dedupe key that is taken blocks only its own job.
        """
        return self._operations.requeue(_check_ids(ids), reset_attempts=reset_attempts)

    def cancel(self, ids: Iterable[int]) -> CancelResult:
        """Ends jobs that are queued or held, which then never run, and asks running ones to end.

        Those who run learn of it within a second of the commit; until they end they keep their slot, their limit and
        their dedupe key.

        Args:
            ids: of the jobs.

        Returns:
            What became of each id.
        """
        return self._operations.cancel(_check_ids(ids))

    def delete(self, ids: Iterable[int]) -> DeleteResult:
        """Moves jobs that are queued or held to history as deleted, and removes finished ones from history.

        Args:
            ids: of the jobs; those of running ones are refused: `cancel` asks them to end.

        Returns:
            What became of each id.
        """
        return self._operations.delete(_check_ids(ids))

    def purge(
        self,
        entrypoint: str | None = None,
        status: str = "queued",
        older_than: timedelta | None = None,
        *,
        plan: bool = False,
    ) -> int:
        """Deletes every job of a status: unfinished ones go to history as deleted, finished ones are removed from it.

        Done in slices of 10,000, each a transaction of its own, unless the connection is in one. Jobs that somebody else
        is about to claim or change are left.

        Args:
            entrypoint: only those of this name.
            status: queued, held, succeeded, failed, cancelled or deleted.
            older_than: only those that were enqueued, or have finished, so long ago; at most 36,500 days.
            plan: only tell how many it would be.

        Returns:
            How many jobs were deleted.

        Raises:
            TypeError, ValueError: jobs of this status cannot be purged, no job can have the name, or older_than is negative
                or too long.
        """
        if status not in PURGEABLE:
            hint = "; running ones end by `cancel`" if status == "running" else ""
            raise ValueError(f"status={status!r}: {', '.join(PURGEABLE)} is accepted{hint}")
        age = timedelta() if older_than is None else older_than
        if not isinstance(age, timedelta):
            raise TypeError(f"older_than={age!r} must be a timedelta, not {type(age).__name__}")
        if not timedelta() <= age <= _OLDEST:
            raise ValueError(f"older_than={age}: from 0 to {_OLDEST.days:,} days are accepted")
        purge = self._operations.count_purgeable if plan else self._operations.purge
        return purge(status, entrypoint=_check_name("entrypoint", entrypoint), older_than=age)


def _check_name(field: str, name: object) -> str | None:
    return None if name is None else check_name(field, name)


def _check_limit(limit: object) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit={limit!r} must be an int, not {type(limit).__name__}")
    if not 1 <= limit <= _MOST:
        raise ValueError(f"limit={limit!r}: a whole number from 1 to {_MOST:,} is accepted")
    return limit


def _check_ids(ids: object) -> list[int]:
    if not isinstance(ids, Iterable):
        raise TypeError(f"ids={ids!r} must be a list of job ids, not {type(ids).__name__}")
    return [check_id(job_id) for job_id in ids]


def check_id(job_id: object) -> int:
    """Raises TypeError or ValueError unless a job can have this id; returns it."""
    if not isinstance(job_id, int) or isinstance(job_id, bool):
        raise TypeError(f"job id {job_id!r} must be an int, not {type(job_id).__name__}")
    if not 0 < job_id < 2**63:
        raise ValueError(f"job id {job_id} is out of range: ids are positive")
    return job_id
