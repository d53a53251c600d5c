"""The queue in this process's memory: the same behaviour as on PostgreSQL, for tests and first steps.

One lock guards everything; public methods take it, those with an underscore expect it held. Longer than other files: it is one
store's whole side of the protocol, whose larger parts are its neighbours already.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from pgq_sync.errors import DuplicateJob
from pgq_sync.models import (
    Beat,
    Claim,
    JobId,
    OnConflict,
    Progress,
    Report,
    Rescued,
    Settled,
    Settlement,
    WorkerInfo,
)
from pgq_sync.storage.claiming import LocalLimits
from pgq_sync.storage.intake import CheckedJob
from pgq_sync.storage.memory.claimer import MemoryClaimer, claim_next
from pgq_sync.storage.memory.connections import check_connection
from pgq_sync.storage.memory.limits import MemoryLimits
from pgq_sync.storage.memory.operations import MemoryOperations
from pgq_sync.storage.memory.rows import UNCLAIMED, MemoryRow, new_row
from pgq_sync.storage.memory.schedules import MemorySchedules
from pgq_sync.storage.memory.state import MemoryState
from pgq_sync.storage.memory.watches import MemoryLookout, lookout
from pgq_sync.storage.store import CANCELLED_WAITING, OWN, WAITING, Clock, unheard
from pgq_sync.storage.transactions import MemoryTransaction
from pgq_sync.storage.waker import Waker

_MOST_ERRORS = 100  # of one job
_GIVEN_UP = timedelta(minutes=10)  # of silence, after which a worker is dead though its claimer is open


class MemoryStore:
    """The store in memory.

    Args:
        clock: the time that rows get; by default this machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._state = MemoryState(clock)
        self.schedules = MemorySchedules(self, self._state)
        self.limits = MemoryLimits(self._state)

    def for_engine(self, *, handlers: int = 1) -> MemoryStore:
        return self

    def require_schema(self) -> None:
        """There is none."""

    def close(self) -> None:
        """There is nothing to close; the jobs stay."""

    @contextmanager
    def intake(self, connection: Any = OWN) -> Iterator[MemoryStore]:
        """The store itself. On a connection nothing is done, but one that PostgreSQL's store would refuse is refused."""
        check_connection(connection)
        yield self

    def cancel_requests(self, ids: Sequence[int]) -> set[JobId]:
        with self._state.lock:
            return self._state.requests.intersection(map(JobId, ids))

    def end_cancelled(self) -> int:
        return self.operations().end_requested()

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        yield MemoryTransaction(self.intake)

    def finish(self, connection: Any, settlement: Settlement) -> bool:
        with self._state.lock:
            finished = self._settle_valid(settlement.claim.job.worker_id, settlement)
        self._state.wake()
        return finished

    def report(self, worker_id: UUID, reports: Sequence[Report]) -> set[JobId]:
        with self._state.lock:
            for each in reports:
                row = self._state.jobs.get(each.job.id)
                if row is not None and (row.worker_id, row.claimed_at) == (worker_id, each.job.claimed_at):
                    self._state.progress[row.id] = Progress(each.fraction, each.note, self._state.now())
        return set()

    def lookout(self, watcher_id: UUID, waker: Waker) -> AbstractContextManager[MemoryLookout]:
        return lookout(self._state, waker)

    def operations(self, connection: Any = OWN) -> MemoryOperations:
        check_connection(connection)
        return MemoryOperations(self._state)

    def schedules_on(self, connection: Any) -> MemorySchedules:
        check_connection(connection)
        return self.schedules

    @contextmanager
    def atomic(self) -> Iterator[None]:
        with self._state.lock:
            saved = dict(self._state.jobs), dict(self._state.keys), set(self._state.requests)
            lanes = {lane: list(heap) for lane, heap in self._state.lanes.items()}
            try:
                yield
            except BaseException:
                self._state.jobs, self._state.keys, self._state.requests = saved
                self._state.lanes = defaultdict(list, lanes)
                raise

    def add(self, jobs: Sequence[CheckedJob], *, on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
        with self._state.lock:
            if on_conflict == "raise":
                self._refuse_duplicates(jobs)
            ids = [self._add_one(job, on_conflict) for job in jobs]
        if notify:
            self._state.wake()
        return ids

    def _refuse_duplicates(self, jobs: Sequence[CheckedJob]) -> None:
        keys = [job.dedupe_key for job in jobs if job.dedupe_key is not None]
        for key, times in Counter(keys).items():
            if times > 1:
                raise DuplicateJob(key, None)
        for key in keys:
            if key in self._state.keys:
                raise DuplicateJob(key, self._state.keys[key])

    def _add_one(self, job: CheckedJob, on_conflict: OnConflict) -> JobId | None:
        now = self._state.now()
        due = job.due_at if job.due_at is not None else now + timedelta(seconds=job.delay)
        row = new_row(job, now, max(due, now))
        holder = self._state.keys.get(job.dedupe_key) if job.dedupe_key is not None else None
        if holder is None:
            row = dataclasses.replace(row, id=self._state.next_id())
        elif on_conflict == "replace" and (old := self._state.jobs[holder]).status in WAITING:
            row = dataclasses.replace(row, id=holder, created_at=old.created_at, requeued_from=old.requeued_from)
            self._state.requests.discard(holder)  # the old job was asked to end, not this one
        else:
            return holder if on_conflict == "existing" else None
        self._state.put(row)
        return row.id

    @contextmanager
    def claimer(
        self,
        worker: WorkerInfo,
        poll_interval: timedelta,
        limits: LocalLimits,
        on_cancel: Callable[[], None],
        on_schedules: Callable[[], None] = unheard,
    ) -> Iterator[MemoryClaimer]:
        claimer = MemoryClaimer(self._state, worker, poll_interval, limits, on_schedules)
        with self._state.lock:
            self._state.claimers.append(claimer)
        try:
            yield claimer
        finally:
            with self._state.lock:
                self._state.claimers.remove(claimer)

    def claim_next(self, worker: WorkerInfo) -> Claim | None:
        return claim_next(self._state, worker)

    def sheltered(self) -> AbstractContextManager[None]:
        return nullcontext()

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], *, again: bool = False) -> Settled:
        written: list[Settlement] = []
        lost: list[Settlement] = []
        with self._state.lock:
            for each in settlements:
                known = self._settle_valid(worker_id, each) or self._is_settled(worker_id, each.claim)
                (written if known else lost).append(each)
        self._state.wake()
        return Settled(written=written, lost=lost)

    def _settle_valid(self, worker_id: UUID, settlement: Settlement) -> bool:
        row = self._state.jobs.get(settlement.claim.job.id)
        if row is None or (row.status, row.worker_id, row.fence) != ("running", worker_id, settlement.claim.fence):
            return False
        self._settle_one(row, settlement)
        return True

    def _is_settled(self, worker_id: UUID, claim: Claim) -> bool:
        """Whether the job has finished under this claim before."""
        row = self._state.history.get(claim.job.id)
        return row is not None and (row.worker_id, row.fence) == (worker_id, claim.fence)

    def _settle_one(self, row: MemoryRow, settlement: Settlement) -> None:
        outcome, now = settlement.outcome, self._state.now()
        errors = row.errors if outcome.error is None else (*row.errors, json.loads(outcome.error))
        if outcome.status in ("succeeded", "failed", "cancelled"):
            finished = dataclasses.replace(row, status=outcome.status, errors=errors, result=outcome.result)
            self._state.finish(finished, keep=outcome.keep)
            return
        if row.id in self._state.requests:
            cancelled = (*errors, json.loads(CANCELLED_WAITING))
            self._state.finish(dataclasses.replace(row, status="cancelled", errors=cancelled))
            return
        self._state.put(
            dataclasses.replace(
                row,
                **(UNCLAIMED | {"status": "held" if outcome.status == "held" else "queued"}),
                attempt=row.attempt - (outcome.status == "released" or not outcome.counted),
                execute_after=now + outcome.delay if outcome.status == "retried" else row.execute_after,
                errors=errors[-_MOST_ERRORS:],
            )
        )

    def register(self, worker: WorkerInfo) -> None:
        with self._state.lock:
            now = self._state.now()
            known = self._state.workers.get(worker.worker_id)
            started_at = known.started_at if known else now
            self._state.workers[worker.worker_id] = dataclasses.replace(worker, started_at=started_at, beat_at=now)

    def beat(self, worker: WorkerInfo) -> Beat:
        with self._state.lock:
            now, known = self._state.now(), self._state.workers.get(worker.worker_id)
            silence = (now - known.beat_at).total_seconds() if known and known.beat_at else None
            self.register(worker)
            others = [each for each in self._state.workers.values() if each.worker_id != worker.worker_id]
            silences = [each.beat_at + each.liveness_limit - now for each in others if each.beat_at]
        # One process: nobody to take turns with.
        return Beat(silence=silence, overdue_in=min((left.total_seconds() for left in silences), default=None))

    def rescue(self, worker: WorkerInfo, *, thorough: bool = False) -> Sequence[Rescued]:
        with self._state.lock:
            dead = self._dead(worker, thorough)
            rescued = [Rescued(name, self._take_over(worker_id, name)) for worker_id, name in dead.items()]
            for worker_id in dead:
                self._state.workers.pop(worker_id, None)
            if any(each.jobs for each in rescued):
                self.end_cancelled()
            self._state.wake()
            return rescued

    def _dead(self, rescuer: WorkerInfo, thorough: bool) -> dict[UUID, str]:
        now, workers = self._state.now(), self._state.workers
        if rescuer.worker_id not in workers or _silent(workers[rescuer.worker_id], now):
            return {}  # nobody is taken for dead by one who was silent himself
        alive = {claimer.worker_id for claimer in self._state.claimers}
        dead = {
            each.worker_id: each.name
            for each in workers.values()
            if each.worker_id != rescuer.worker_id and _silent(each, now)
            if each.worker_id not in alive or (each.beat_at and each.beat_at + _GIVEN_UP <= now)
        }
        return dead | self._unknown(now - rescuer.liveness_limit, alive) if thorough else dead

    def _unknown(self, until: datetime, alive: Collection[UUID]) -> dict[UUID, str]:
        """Those who have claimed jobs until then, and are not registered."""
        claimed = {row.worker_id for row in self._state.jobs.values() if row.claimed_at is not None and row.claimed_at <= until}
        return {each: str(each) for each in claimed if each and each not in self._state.workers and each not in alive}

    def _take_over(self, worker_id: UUID, name: str) -> int:
        rows = [row for row in self._state.jobs.values() if row.status == "running" and row.worker_id == worker_id]
        for row in rows:
            error = {"attempt": row.attempt, "type": "WorkerDied", "worker_id": str(worker_id)}
            error["message"] = f"worker {name} gave no sign of life any more"
            self._state.put(
                dataclasses.replace(
                    row,
                    **UNCLAIMED,
                    attempt=row.attempt - 1,
                    rescues=row.rescues + 1,
                    errors=(*row.errors, error)[-_MOST_ERRORS:],
                )
            )
        return len(rows)

    def deregister(self, worker_id: UUID, *, clean: bool = True) -> None:
        with self._state.lock:
            info = self._state.workers.pop(worker_id, None)
            if info is not None and not clean:
                long_ago = datetime.min.replace(tzinfo=timezone.utc) + timedelta(days=1)
                self._state.workers[worker_id] = dataclasses.replace(info, state="stopping", beat_at=long_ago)

    def workers(self) -> list[WorkerInfo]:
        with self._state.lock:
            return list(self._state.workers.values())

    def maintain(self, retention: timedelta) -> None:
        with self._state.lock:
            limit = self._state.now() - retention
            for row in [row for row in self._state.history.values() if row.finished_at and row.finished_at < limit]:
                del self._state.history[row.id]


def _silent(worker: WorkerInfo, now: datetime) -> bool:
    return worker.beat_at is not None and worker.beat_at + worker.liveness_limit <= now
