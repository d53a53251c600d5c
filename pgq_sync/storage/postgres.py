"""The queue on PostgreSQL: enqueuing, writing outcomes, the fleet. Claims are made in claimer.py, on a connection apart.

A little longer than other files: one class answers the store's whole protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg

from pgq_sync.errors import StoreUnavailable
from pgq_sync.models import Beat, Claim, JobId, Peers, Report, Rescued, Settled, Settlement, WorkerInfo
from pgq_sync.storage import progress
from pgq_sync.storage.arrays import integers
from pgq_sync.storage.claimer import PostgresClaimer
from pgq_sync.storage.claiming import LocalLimits
from pgq_sync.storage.connections import Connections, EngineConnections
from pgq_sync.storage.database import PsycopgSession, Row, Session, bind
from pgq_sync.storage.failures import lacks_partition, told, translated
from pgq_sync.storage.inserts import PostgresIntake
from pgq_sync.storage.limits import PostgresLimits
from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import CANCEL, SCHEDULES
from pgq_sync.storage.operations import PostgresOperations
from pgq_sync.storage.rights import rights_told
from pgq_sync.storage.schedules import PostgresSchedules
from pgq_sync.storage.schema import Schema
from pgq_sync.storage.settling import expected, finished, parted, returned
from pgq_sync.storage.statements import statements
from pgq_sync.storage.store import OWN, Clock, HandlerTransaction, database_clock, unheard
from pgq_sync.storage.turns import claim_next
from pgq_sync.storage.waker import Waker
from pgq_sync.storage.watches import PostgresLookout


class PostgresStore:
    """The store on PostgreSQL.

    Args:
        connections: where its connections come from.
        names: the tables' names.
        clock: the time that rows get; by default the database's own.
        engine: a worker's connections, which its store has.
    """

    def __init__(
        self, connections: Connections, names: Names, clock: Clock = database_clock, engine: EngineConnections | None = None
    ) -> None:
        self._connections = connections
        self._names = names
        self._sql = statements(names)
        self._told = told(names)
        self._translated = translated(names)
        self._clock = clock
        self._engine = engine
        self._partitioned_on: date | None = None  # the day on which history was last seen to be ready

    def for_engine(self, *, handlers: int = 1) -> PostgresStore:
        connections = self._connections.for_engine(handlers=handlers)
        return PostgresStore(connections, self._names, self._clock, connections)

    def require_schema(self) -> None:
        with self._translated, rights_told(self._connections, self._names):
            Schema(self._connections, self._names).require()
            # Later a listener that cannot connect tries again and again: what never was right is told at once.
            self._connections.direct(listening=True).close()

    def close(self) -> None:
        self._connections.close()

    @property
    def schedules(self) -> PostgresSchedules:
        return PostgresSchedules(self._connections.session, self._names, self._clock)

    def schedules_on(self, connection: Any) -> PostgresSchedules:
        return PostgresSchedules(lambda: self._session(connection), self._names, self._clock)

    @property
    def limits(self) -> PostgresLimits:
        return PostgresLimits(self._connections, self._names, self._clock)

    @contextmanager
    def intake(self, connection: Any = OWN) -> Iterator[PostgresIntake]:
        with self._session(connection) as session:
            yield PostgresIntake(session, self._names, self._clock)

    def operations(self, connection: Any = OWN) -> PostgresOperations:
        return self._operations(lambda: self._session(connection))

    def _operations(self, session: Callable[[], AbstractContextManager[Session]]) -> PostgresOperations:
        return PostgresOperations(session, self._names, self._clock, self._make_partitions)

    @contextmanager
    def claimer(
        self,
        worker: WorkerInfo,
        poll_interval: timedelta,
        limits: LocalLimits,
        on_cancel: Callable[[], None],
        on_schedules: Callable[[], None] = unheard,
    ) -> Iterator[PostgresClaimer]:
        with self._translated:
            connection = self._connections.direct(listening=True)
        try:
            told = (limits, {CANCEL: on_cancel, SCHEDULES: on_schedules})
            with PostgresClaimer(connection, self._names, worker, self._clock, poll_interval, *told) as claimer:
                yield claimer
        finally:
            connection.close()

    def claim_next(self, worker: WorkerInfo) -> Claim | None:
        with self._session(OWN) as session:
            return claim_next(session, self._names, self._clock, worker)

    def sheltered(self) -> AbstractContextManager[None]:
        return nullcontext()  # claims are committed here, and handlers have connections of their own

    def transaction(self) -> AbstractContextManager[HandlerTransaction]:
        return (self._engine or self._connections.for_engine()).transaction(self.intake, self.finish)

    def finish(self, connection: Any, settlement: Settlement) -> bool:
        self._have_partition()
        # Not prepared: the session's settings are the handler's, so each plan must fit the table as it is now.
        own = isinstance(connection, psycopg.Connection)
        session = PsycopgSession(connection, prepare=False) if own else bind(connection)
        worker_id = settlement.claim.job.worker_id
        claims = self._claims(worker_id, [settlement])
        return bool(session.run(self._sql["hold"], claims) and session.run(self._sql["finish"], claims | finished([settlement])))

    def _have_partition(self) -> None:
        """Once a day: a finish that found no partition of history would cost a handler its transaction."""
        today = (self._clock() or datetime.now(timezone.utc)).date()
        if self._partitioned_on != today:
            try:
                self.maintain(None)
                self._partitioned_on = today
            except StoreUnavailable:
                pass  # most likely there is one: seven days ahead are made

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], *, again: bool = False) -> Settled:
        try:
            return self._settle(worker_id, settlements, again)
        except Exception as error:
            if not lacks_partition(error):
                raise
            # Nothing was written: only what finishes jobs needs a partition, and that comes first.
            with self._translated:
                self._make_partitions()
            return self._settle(worker_id, settlements, again)

    def cancel_requests(self, ids: Sequence[int]) -> set[JobId]:
        with self._translated, self._connections.session() as session:
            return self._requested(session, ids)

    def _requested(self, session: Session, ids: Sequence[int]) -> set[JobId]:
        return {row[0] for row in session.run(self._sql["requests"], {"ids": list(ids)})}

    def end_cancelled(self) -> int:
        with self._translated:
            return self._operations(self._connections.session).end_requested()

    def report(self, worker_id: UUID, reports: Sequence[Report]) -> set[JobId]:
        with self._translated, self._connections.session() as session:
            return progress.write(session, self._sql, worker_id, reports, self._clock())

    @contextmanager
    def lookout(self, watcher_id: UUID, waker: Waker) -> Iterator[PostgresLookout]:
        with self._translated:
            connection = self._connections.direct(listening=True)
        lookout = PostgresLookout(connection, self._names, self._clock, watcher_id, waker)
        with closing(connection), rights_told(self._connections, self._names), lookout:
            yield lookout

    def _make_partitions(self) -> None:
        with self._connections.for_engine().session() as session:
            session.run(self._sql["maintain"], {"now": self._clock(), "retention": None})

    def _settle(self, worker_id: UUID, settlements: Sequence[Settlement], again: bool) -> Settled:
        ids: set[JobId] = set()
        with self._translated, self._connections.session() as session:
            finishing, returning = parted(settlements, ())
            if returning:
                # A request that comes after this look meets the job in its queue, or at the end of its next attempt.
                finishing, returning = parted(settlements, self._requested(session, [each.claim.job.id for each in returning]))
            if finishing:
                rows = session.run(self._sql["finish"], self._claims(worker_id, finishing) | finished(finishing))
                ids |= {row[0] for row in rows}
            if returning:
                rows = session.run(self._sql["put_back"], self._claims(worker_id, returning) | returned(returning))
                ids |= {row[0] for row in rows}
            missing = [each for each in settlements if each.claim.job.id not in ids]
            return self._sort_out(session, worker_id, settlements, missing, again) if missing else Settled(written=settlements)

    def _sort_out(
        self, session: Session, worker_id: UUID, settlements: Sequence[Settlement], missing: Sequence[Settlement], again: bool
    ) -> Settled:
        """Why some were not written: somebody has the row locked, it was written before, or it is another's by now."""
        claims = self._claims(worker_id, missing)
        blocked = {row[0] for row in session.run(self._sql["still_running"], claims)}
        before = {row[0] for row in session.run(self._sql["in_history"], claims)}
        if again:
            before |= {row[0] for row in session.run(self._sql["written_before"], claims | expected(missing))}
        lost = {each.claim.job.id for each in missing} - blocked - before
        return Settled(
            written=[each for each in settlements if each.claim.job.id not in blocked | lost],
            blocked=[each for each in missing if each.claim.job.id in blocked],
            lost=[each for each in missing if each.claim.job.id in lost],
        )

    def _claims(self, worker_id: UUID, settlements: Sequence[Settlement]) -> dict[str, Any]:
        return {
            "now": self._clock(),
            "worker_id": str(worker_id),  # which every driver can send
            "ids": integers(each.claim.job.id for each in settlements),
            "fences": integers({each.claim.fence for each in settlements}),
        }

    def register(self, worker: WorkerInfo) -> None:
        with self._translated, rights_told(self._connections, self._names), self._connections.session() as session:
            session.run(self._sql["register"], self._worker(worker))

    def beat(self, worker: WorkerInfo) -> Beat:
        params = self._worker(worker)
        with self._translated, self._connections.session() as session:
            rows = session.run(self._sql["beat"], params)
            if not (known := bool(rows)):
                session.run(self._sql["register"], params)
                rows = session.run(self._sql["beat"], params)
        rank, count, silence, overdue_in = rows[0]
        return Beat(Peers(rank, count), silence if known else None, overdue_in)

    def rescue(self, worker: WorkerInfo, *, thorough: bool = False) -> Sequence[Rescued]:
        params = self._worker(worker) | {"thorough": thorough}
        operations = self._operations(self._connections.session)

        def work(session: Session) -> list[Rescued]:
            rescued = [Rescued(*row) for row in session.run(self._sql["rescue"], params)]
            if any(each.jobs for each in rescued):
                operations.end_requested_on(session)  # what was asked to end does not run again
            return rescued

        with self._translated:
            if thorough and not self._forsaken(params):
                return []
            return operations.finishing(work)

    def _forsaken(self, params: dict[str, Any]) -> bool:
        """Whether there is anybody to rescue from."""
        with self._connections.session() as session:
            return bool(session.run(self._sql["forsaken"], params)[0][0])

    def deregister(self, worker_id: UUID, *, clean: bool = True) -> None:
        with self._translated, self._connections.session() as session:
            session.run(self._sql["deregister" if clean else "give_up"], {"worker_id": worker_id})

    def workers(self) -> list[WorkerInfo]:
        with self._told, self._connections.session() as session:
            return [_worker_info(row) for row in session.run(self._sql["workers"])]

    def maintain(self, retention: timedelta | None) -> None:
        seconds = None if retention is None else retention.total_seconds()
        with self._translated, self._connections.session() as session:
            if retention is not None:
                progress.sweep(session, self._sql)
                session.run(self._sql["sweep_watches"], {"now": self._clock()})
            session.run(self._sql["maintain"], {"now": self._clock(), "retention": seconds})

    @contextmanager
    def _session(self, connection: Any) -> Iterator[Session]:
        with self._told:
            if connection is not OWN:
                yield bind(connection)
                return
            with self._connections.session(patient=True) as session:
                yield session

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
            "liveness_limit": worker.liveness_limit.total_seconds(),
        }


def _worker_info(row: Row) -> WorkerInfo:
    fields = dict(zip(_WORKER, row, strict=True))
    queues = fields["queues"]
    arrays = {"queues": None if queues is None else tuple(queues), "entrypoints": tuple(fields["entrypoints"])}
    return WorkerInfo(**(fields | arrays))


_WORKER = (
    *("worker_id", "name", "host", "pid", "version", "queues", "entrypoints", "slots", "state"),
    *("liveness_limit", "started_at", "beat_at"),
)
