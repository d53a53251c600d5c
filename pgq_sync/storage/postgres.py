"""The queue on PostgreSQL: enqueuing, writing outcomes, the fleet. Claims are made in claimer.py, on a connection apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from pgq_sync.models import (
    JobId,
    JobRecord,
    Peers,
    RequeueResult,
    Settled,
    Settlement,
    WorkerInfo,
)
from pgq_sync.storage.claimer import PostgresClaimer
from pgq_sync.storage.connections import Connections
from pgq_sync.storage.database import Row, Session, atomic, bind
from pgq_sync.storage.failures import translated
from pgq_sync.storage.inserts import PostgresIntake, text
from pgq_sync.storage.names import Names
from pgq_sync.storage.schedules import PostgresSchedules
from pgq_sync.storage.schema import Schema
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import OWN, Clock, database_clock

_FINISHING = ("succeeded", "failed", "cancelled")


class PostgresStore:
    """The store on PostgreSQL.

    Args:
        connections: where its connections come from.
        names: the tables' names.
        clock: the time that rows get; by default the database's own.
    """

    def __init__(self, connections: Connections, names: Names, clock: Clock = database_clock) -> None:
        self._connections = connections
        self._names = names
        self._sql = statements(names)
        self._clock = clock

    def for_engine(self) -> PostgresStore:
        return PostgresStore(self._connections.for_engine(), self._names, self._clock)

    def require_schema(self) -> None:
        with translated():
            Schema(self._connections, self._names).require()

    def close(self) -> None:
        self._connections.close()

    @property
    def schedules(self) -> PostgresSchedules:
        return PostgresSchedules(self._connections, self._names, self._clock)

    @contextmanager
    def intake(self, connection: Any = OWN) -> Iterator[PostgresIntake]:
        if connection is not OWN:
            yield PostgresIntake(bind(connection), self._names, self._clock)
            return
        with self._connections.session(patient=True) as session:
            yield PostgresIntake(session, self._names, self._clock)

    @contextmanager
    def claimer(self, worker: WorkerInfo, poll_interval: timedelta) -> Iterator[PostgresClaimer]:
        with translated():
            connection = self._connections.direct(listening=True)
        try:
            with PostgresClaimer(connection, self._names, worker, self._clock, poll_interval) as claimer:
                yield claimer
        finally:
            connection.close()

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement]) -> Settled:
        try:
            return self._settle(worker_id, settlements)
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name:
                raise
            # No partition of history takes this day. What was written is rolled back by now, and written again.
            with translated(), self._connections.session() as session:
                session.run(self._sql["maintain"], {"now": self._clock(), "retention": None})
            return self._settle(worker_id, settlements)

    def _settle(self, worker_id: UUID, settlements: Sequence[Settlement]) -> Settled:
        finishing = [each for each in settlements if each.outcome.status in _FINISHING]
        returning = [each for each in settlements if each.outcome.status not in _FINISHING]
        ids: set[JobId] = set()
        with translated(), self._connections.session() as session:
            if finishing:
                rows = session.run(self._sql["finish"], self._claims(worker_id, finishing) | _finish(finishing))
                ids |= {row[0] for row in rows}
            if returning:
                rows = session.run(self._sql["put_back"], self._claims(worker_id, returning) | _put_back(returning))
                ids |= {row[0] for row in rows}
            missing = [each for each in settlements if each.claim.job.id not in ids]
            return self._sort_out(session, worker_id, settlements, ids, missing)

    def _sort_out(
        self, session: Session, worker_id: UUID, settlements: Sequence[Settlement], ids: set[JobId], missing: Sequence[Settlement]
    ) -> Settled:
        if not missing:
            return Settled(written=settlements)
        claims = self._claims(worker_id, missing)
        blocked = {row[0] for row in session.run(self._sql["still_running"], claims)}
        written = ids | {row[0] for row in session.run(self._sql["in_history"], claims)} - blocked
        return Settled(
            written=[each for each in settlements if each.claim.job.id in written],
            blocked=[each for each in missing if each.claim.job.id in blocked],
            lost=[each for each in missing if each.claim.job.id not in blocked | written],
        )

    def _claims(self, worker_id: UUID, settlements: Sequence[Settlement]) -> dict[str, Any]:
        return {
            "now": self._clock(),
            "worker_id": worker_id,
            "ids": [each.claim.job.id for each in settlements],
            "fences": list({each.claim.fence for each in settlements}),
        }

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        wanted = list(dict.fromkeys(ids))
        with self._connections.session() as session, atomic(session):
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
        with self._connections.session() as session:
            rows = session.run(self._sql["get"], {"id": job_id})
        return _record(rows[0]) if rows else None

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        params = {"status": status, "entrypoint": entrypoint, "queue": queue, "limit": limit}
        with self._connections.session() as session:
            rows = [row for name in ("find_unfinished", "find_finished") for row in session.run(self._sql[name], params)]
        # A job that finishes between the two statements is in both answers.
        records = {row[0]: _record(row) for row in rows}
        return sorted(records.values(), key=lambda record: record.id, reverse=True)[:limit]

    def count(self) -> Mapping[tuple[str, str], int]:
        with self._connections.session() as session:
            return {(row[0], row[1]): row[2] for row in session.run(self._sql["count"])}

    def latencies(self) -> tuple[float, float, float] | None:
        with self._connections.session() as session:
            percentiles = session.run(self._sql["latencies"])[0][0]
        if percentiles is None:
            return None
        p50, p95, p99 = map(float, percentiles)
        return p50, p95, p99

    def register(self, worker: WorkerInfo) -> None:
        with translated(), self._connections.session() as session:
            session.run(self._sql["register"], self._worker(worker))

    def beat(self, worker: WorkerInfo, liveness_limit: timedelta) -> Peers:
        params = self._worker(worker) | {"liveness": liveness_limit.total_seconds()}
        with translated(), self._connections.session() as session:
            rows = session.run(self._sql["beat"], params)
            if not rows:
                session.run(self._sql["register"], params)
                rows = session.run(self._sql["beat"], params)
        return Peers(*rows[0])

    def deregister(self, worker_id: UUID) -> None:
        with translated(), self._connections.session() as session:
            session.run(self._sql["deregister"], {"worker_id": worker_id})

    def workers(self) -> list[WorkerInfo]:
        with self._connections.session() as session:
            return [_worker_info(row) for row in session.run(self._sql["workers"])]

    def maintain(self, retention: timedelta) -> None:
        with translated(), self._connections.session() as session:
            session.run(self._sql["maintain"], {"now": self._clock(), "retention": retention.total_seconds()})

    def _worker(self, worker: WorkerInfo) -> dict[str, Any]:
        return {
            "now": self._clock(),
            "worker_id": worker.worker_id,
            "name": worker.name,
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "queues": list(worker.queues) if worker.queues is not None else None,
            "entrypoints": list(worker.entrypoints),
            "slots": worker.slots,
            "state": worker.state,
        }


def _finish(finishing: Sequence[Settlement]) -> dict[str, Any]:
    return {
        "statuses": [each.outcome.status for each in finishing],
        "results": [each.outcome.result for each in finishing],
        "errors": [each.outcome.error for each in finishing],
        "keep": [each.outcome.keep for each in finishing],
    }


def _put_back(returning: Sequence[Settlement]) -> dict[str, Any]:
    released = [each.outcome.status == "released" for each in returning]
    return {
        "statuses": ["held" if each.outcome.status == "held" else "queued" for each in returning],
        "delays": [each.outcome.delay.total_seconds() if each.outcome.status == "retried" else None for each in returning],
        "errors": [each.outcome.error for each in returning],
        "attempts": [int(unstarted) for unstarted in released],  # to be taken back
    }


def _record(row: Row) -> JobRecord:
    fields = dict(zip(_RECORD, row, strict=True))
    fields["payload"] = None if fields["payload"] is None else bytes(fields["payload"])
    return JobRecord(**(fields | {"errors": fields["errors"] or []}))


def _worker_info(row: Row) -> WorkerInfo:
    fields = dict(zip(_WORKER, row, strict=True))
    queues = fields["queues"]
    arrays = {"queues": None if queues is None else tuple(queues), "entrypoints": tuple(fields["entrypoints"])}
    return WorkerInfo(**(fields | arrays))


_RECORD = (
    *("id", "queue", "entrypoint", "priority", "status", "attempts", "execute_after", "created_at", "claimed_at"),
    *("finished_at", "worker_id", "dedupe_key", "payload", "headers", "errors", "result", "requeued_from"),
)
_WORKER = (
    *("worker_id", "name", "host", "pid", "version", "queues", "entrypoints", "slots", "state"),
    *("started_at", "beat_at"),
)
