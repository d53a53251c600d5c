"""What the jobs must be like: a queue in plain dictionaries, which knows nothing of how the stores do it.

Each method is told what a store has answered, fails where that is not what the contract says, and does it likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pgq_sync.models import Claim, NewJob, Settled, Settlement
from tests.storage.machine.rows import WAITING, Row

FINISHING = ("succeeded", "failed", "cancelled")


class Jobs:
    """All jobs that there are, and what may be asked of them once they run.

    Args:
        clock: the stores' clock.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.rows: dict[int, Row] = {}
        self.enqueued: set[int] = set()
        self.forgotten: set[int] = set()  # finished, and not remembered
        self.requests: set[int] = set()  # asked to end
        self.settled: dict[tuple[int, UUID, int], str] = {}  # accepted outcomes, by job, worker and fence
        self.succeeded: set[int] = set()

    @property
    def now(self) -> datetime:
        now: datetime = self._clock.now
        return now

    def change(self, job_id: int, **fields: Any) -> Row:
        self.rows[job_id] = row = replace(self.rows[job_id], **fields)
        return row

    def having(self, *statuses: str) -> list[Row]:
        return [row for row in self.rows.values() if row.status in statuses]

    def holder(self, key: str | None) -> Row | None:
        """Who guards a dedupe key."""
        for row in self.rows.values():
            if row.guards and row.dedupe_key == key:
                return row
        return None

    def duplicates(self, jobs: Sequence[NewJob]) -> set[tuple[str, int | None]]:
        """What may be named as in the way of a batch: a key, and the job that has it or None for the batch itself."""
        keys = [job.dedupe_key for job in jobs if job.dedupe_key is not None]
        twice: set[tuple[str, int | None]] = {(key, None) for key in keys if keys.count(key) > 1}
        return twice | {(key, holder.id) for key in keys if (holder := self.holder(key))}

    def enqueue(self, jobs: Sequence[NewJob], on_conflict: str, ids: Sequence[int | None]) -> list[Row]:
        """What was enqueued or replaced. `ids` are what the store gave for the jobs, as if one came after the other."""
        assert len(ids) == len(jobs), f"{len(jobs)} jobs got {len(ids)} ids"
        touched: dict[int, Row] = {}
        for job, job_id in zip(jobs, ids, strict=True):
            holder = self.holder(job.dedupe_key)
            if holder is None:
                assert job_id is not None, f"{job} was not enqueued"
                touched[job_id] = self.add(self._fresh(job, job_id))
            elif on_conflict == "replace" and holder.status in WAITING:
                assert job_id == holder.id, f"{job} got id {job_id} instead of replacing {holder}"
                self.rows[holder.id] = self._fresh(job, holder.id)
                self.requests.discard(holder.id)
                touched[holder.id] = self.change(holder.id, created_at=holder.created_at, requeued_from=holder.requeued_from)
            else:
                expected = holder.id if on_conflict == "existing" else None
                assert job_id == expected, f"{job} got id {job_id} and not {expected}, {holder} being in the way"
        return list(touched.values())

    def add(self, row: Row) -> Row:
        assert row.id not in self.enqueued, f"the id {row.id} was given twice"
        self.enqueued.add(row.id)
        self.rows[row.id] = row
        return row

    def _fresh(self, job: NewJob, job_id: int) -> Row:
        due = job.execute_after
        wanted = due if isinstance(due, datetime) else self.now + (due or timedelta())
        return Row(
            id=job_id,
            queue=job.queue,
            entrypoint=job.entrypoint,
            priority=job.priority,
            status="queued",
            execute_after=max(wanted, self.now),
            created_at=self.now,
            payload=job.payload.encode() if isinstance(job.payload, str) else job.payload,
            dedupe_key=job.dedupe_key,
            dedupe_until=job.dedupe_until,
        )

    def claim(self, claim: Claim) -> None:
        """A worker has claimed a job."""
        row = self.rows[claim.job.id]
        row = self.change(
            row.id,
            status="running",
            attempts=row.attempts + 1,
            worker_id=claim.job.worker_id,
            fence=claim.fence,
            claimed_at=self.now,
            dedupe_until=None if row.dedupe_until == "started" else row.dedupe_until,
        )
        job = claim.job
        told = (job.queue, job.entrypoint, job.payload, job.priority, job.attempt, job.execute_after, job.created_at)
        known = (row.queue, row.entrypoint, row.payload, row.priority, row.attempts, row.execute_after, row.created_at)
        assert told == known, f"the claim says {told} of a job with {known}"
        told_too = (job.claimed_at, job.dedupe_key, claim.rescues)
        known_too = (row.claimed_at, row.dedupe_key, row.rescues)
        assert told_too == known_too, f"the claim says {told_too} of a job with {known_too}"

    def holds(self, claim: Claim, worker_id: UUID | None = None) -> bool:
        """Whether a claim is valid, for the worker that says so."""
        row = self.rows.get(claim.job.id)
        own = worker_id in (None, claim.job.worker_id)
        return own and row is not None and row.is_held_under(claim)

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], settled: Settled, again: bool) -> list[Row]:
        """What waits again. Only valid claims have an effect, whatever the store says of the others."""
        assert not settled.blocked, f"nobody has a lock, and {settled.blocked} are blocked"
        assert sorted(map(_name, [*settled.written, *settled.lost])) == sorted(map(_name, settlements))
        put_back = []
        for each in settlements:
            written = each in settled.written
            if self.holds(each.claim, worker_id):
                assert written, f"a valid claim was lost: {each}"
                row = self._settle_one(each)
                put_back += [row] if row is not None and row.status == "queued" else []
            elif self._is_finished_under(each.claim, worker_id):
                assert written, f"what was written already is said to be lost: {each}"
            else:
                # Asked again, a store may take what looks the same for its own earlier write.
                assert again or not written, f"an invalid claim was settled: {each}"
        return put_back

    def complete(self, worker_id: UUID, settlement: Settlement, written: bool) -> None:
        """A handler's completion, in its own transaction."""
        held = self.holds(settlement.claim, worker_id)
        assert written == held, f"{settlement} was written: {written}, and its claim is valid: {held}"
        if held:
            self._settle_one(settlement)

    def _is_finished_under(self, claim: Claim, worker_id: UUID) -> bool:
        row = self.rows.get(claim.job.id)
        return row is not None and not row.unfinished and (row.worker_id, row.fence) == (worker_id, claim.fence)

    def _settle_one(self, settlement: Settlement) -> Row | None:
        outcome, row = settlement.outcome, self.rows[settlement.claim.job.id]
        self._accept(settlement)
        errors = row.errors + (outcome.error is not None)
        if outcome.status in FINISHING:
            self.finish(row.id, outcome.status, keep=outcome.keep, errors=errors)
            return None
        if row.id in self.requests:
            self.finish(row.id, "cancelled", errors=errors + 1)
            return None
        return self.put_back(
            row.id,
            status="held" if outcome.status == "held" else "queued",
            attempts=row.attempts - (outcome.status == "released" or not outcome.counted),
            execute_after=self.now + outcome.delay if outcome.status == "retried" else row.execute_after,
            errors=errors,
        )

    def _accept(self, settlement: Settlement) -> None:
        job_id, claim = settlement.claim.job.id, settlement.claim
        name = (job_id, claim.job.worker_id, claim.fence)
        assert name not in self.settled, f"the fence of {name} was accepted twice: {self.settled[name]} before"
        self.settled[name] = settlement.outcome.status
        if settlement.outcome.status == "succeeded":
            assert job_id not in self.succeeded, f"job {job_id} has succeeded twice"
            self.succeeded.add(job_id)

    def put_back(self, job_id: int, **fields: Any) -> Row:
        """A claim ends, and the job is not finished."""
        return self.change(job_id, **({"status": "queued", "worker_id": None, "fence": None, "claimed_at": None} | fields))

    def finish(self, job_id: int, status: str, *, keep: bool = True, **fields: Any) -> None:
        """A job goes to history, or is forgotten at once."""
        self.change(job_id, status=status, finished_at=self.now, rescues=0, **fields)
        if not keep:
            self.forget(job_id)

    def forget(self, job_id: int) -> None:
        """A finished job is remembered no more."""
        del self.rows[job_id]
        self.forgotten.add(job_id)

    def recover(self, worker_id: UUID, claims: Sequence[Claim], lost: Sequence[Claim]) -> list[Row]:
        """What a worker has claimed without knowing it is put back."""
        expected = [claim for claim in claims if not self.holds(claim, worker_id)]
        assert list(lost) == expected, f"lost: {lost}, and not {expected}"
        known = {(claim.job.id, claim.fence) for claim in claims}
        unknown = [row for row in self.having("running") if row.worker_id == worker_id and (row.id, row.fence) not in known]
        return [self.put_back(row.id, attempts=row.attempts - 1) for row in unknown]


def _name(settlement: Settlement) -> tuple[int, int]:
    return settlement.claim.job.id, settlement.claim.fence
