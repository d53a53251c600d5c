"""What an operator asks of the jobs on PostgreSQL, on whatever connection and in whatever transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from pgq_sync.models import JobId, JobRecord, RequeueResult
from pgq_sync.storage.database import Row, Session, atomic
from pgq_sync.storage.inserts import text
from pgq_sync.storage.names import Names
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import Clock


class PostgresOperations:
    """Operations on one installation's jobs.

    Args:
        session: gives the session that an operation runs on.
        names: the tables' names.
        clock: the time that rows get.
    """

    def __init__(self, session: Callable[[], AbstractContextManager[Session]], names: Names, clock: Clock) -> None:
        self._session = session
        self._sql = statements(names)
        self._clock = clock

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        wanted = list(dict.fromkeys(ids))
        with self._session() as session, atomic(session):
            params = {"ids": wanted, "reset_attempts": reset_attempts, "now": text(self._clock())}
            held = {row[0]: row[0] for row in session.run(self._sql["requeue_held"], params)}
            anew = {row[1]: row[0] for row in session.run(self._sql["requeue_failed"], params)}
            failed = {row[0] for row in session.run(self._sql["failed"], params)}
        requeued = held | anew
        return RequeueResult(
            requeued=requeued,
            conflicts=[JobId(each) for each in wanted if each in failed and each not in requeued],
            unknown=[JobId(each) for each in wanted if each not in failed and each not in requeued],
        )

    def get(self, job_id: int) -> JobRecord | None:
        with self._session() as session:
            rows = session.run(self._sql["get"], {"id": job_id})
        return _record(rows[0]) if rows else None

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        params = {"status": status, "entrypoint": entrypoint, "queue": queue, "limit": limit}
        with self._session() as session:
            rows = [row for name in ("find_unfinished", "find_finished") for row in session.run(self._sql[name], params)]
        # A job that finishes between the two statements is in both answers.
        records = {row[0]: _record(row) for row in rows}
        return sorted(records.values(), key=lambda record: record.id, reverse=True)[:limit]

    def count(self) -> Mapping[tuple[str, str], int]:
        with self._session() as session:
            return {(row[0], row[1]): row[2] for row in session.run(self._sql["count"])}

    def latencies(self) -> tuple[float, float, float] | None:
        with self._session() as session:
            percentiles = session.run(self._sql["latencies"])[0][0]
        if percentiles is None:
            return None
        p50, p95, p99 = map(float, percentiles)
        return p50, p95, p99


def _record(row: Row) -> JobRecord:
    fields = dict(zip(_RECORD, row, strict=True))
    fields["payload"] = None if fields["payload"] is None else bytes(fields["payload"])
    return JobRecord(**(fields | {"errors": fields["errors"] or []}))


_RECORD = (
    *("id", "queue", "entrypoint", "priority", "status", "attempts", "execute_after", "created_at", "claimed_at"),
    *("finished_at", "worker_id", "dedupe_key", "payload", "headers", "errors", "result", "requeued_from"),
)
