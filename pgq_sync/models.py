"""The data of the queue: what is enqueued, what is claimed, how an attempt ends. Values only, no behaviour.

Those that are made anew for each job are msgspec's: a frozen dataclass takes five times as long to be made.
Longer than other files: with every value in one place, each part of the house finds its words in the same one.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NewType
from uuid import UUID

import msgspec

JobId = NewType("JobId", int)
Payload = bytes | str | None
OnConflict = Literal["raise", "skip", "existing", "replace"]
DedupeUntil = Literal["finished", "started"]
OnFailure = Literal["fail", "hold"]
LimitScope = Literal["fleet", "worker"]
OnMissed = Literal["once", "all", "skip"]
WorkerState = Literal["running", "stopping"]


class QueueExecutionMode(str, enum.Enum):
    """How long a worker works.

    `continuous` runs until it is stopped; `drain` until nothing is claimable now and nothing runs.
    """

    continuous = "continuous"
    drain = "drain"


class NewJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job to enqueue; `PgQueuer.enqueue` documents the fields."""

    entrypoint: str
    payload: Payload = None
    priority: int = 0
    execute_after: timedelta | datetime | None = None
    dedupe_key: str | None = None
    dedupe_until: DedupeUntil = "finished"
    headers: Mapping[str, Any] | None = None
    queue: str = "default"


class Job(msgspec.Struct, frozen=True, gc=False):
    """One claimed row of work, as its handler sees it."""

    id: JobId
    queue: str
    entrypoint: str
    payload: bytes | None
    headers: Mapping[str, Any] | None
    priority: int  # larger first
    attempt: int  # counted from 1
    execute_after: datetime  # not before, by the database's clock
    created_at: datetime
    claimed_at: datetime
    dedupe_key: str | None
    worker_id: UUID


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A job that a worker holds. Job, worker and fence together are what every later write must name."""

    job: Job
    fence: int  # the number of the claim statement, never used twice by one worker
    rescues: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an attempt ended."""

    status: Literal["succeeded", "failed", "cancelled", "retried", "held", "released"]
    result: str | None = None  # JSON
    error: str | None = None  # JSON: one entry of the job's errors
    delay: timedelta = timedelta()  # of a retry
    counted: bool = True  # of a retry: whether the attempt is
    keep: bool = True  # in history
    written: bool = False  # already, in the handler's own transaction


@dataclass(frozen=True, slots=True)
class Report:
    """How far an attempt says it is."""

    job: Job
    fraction: float
    note: str | None


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """A claim with the outcome to write for it."""

    claim: Claim
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a batch of settlements."""

    written: Sequence[Settlement] = ()
    blocked: Sequence[Settlement] = ()  # somebody has the row locked: to be tried again
    lost: Sequence[Settlement] = ()  # the claim is no longer this worker's; nothing was written


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought."""

    plain: Sequence[Claim] = ()  # they may wait for a slot
    careful: Sequence[Claim] = ()  # limited, or in quarantine: to be started at once
    in_doubt: bool = False  # a further claim failed, and may have been carried out all the same

    def __len__(self) -> int:
        return len(self.plain) + len(self.careful)


@dataclass(frozen=True, slots=True)
class Room:
    """How many jobs a worker can take."""

    ahead: int  # with those that would wait for a slot a moment
    now: int = 0  # that would start at once: limited jobs and those in quarantine are not claimed ahead
    quarantine: bool = False  # whether one of those in quarantine may be among them


@dataclass(frozen=True, slots=True)
class Peers:
    """A worker's place among the living workers that serve the same entrypoints and queues."""

    rank: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker learns from its sign of life."""

    peers: Peers = Peers()
    silence: float | None = None  # seconds since its last one, by the store's clock; None: the store did not know it
    overdue_in: float | None = None  # seconds until the most silent of the others counts as dead; None: there are none


@dataclass(frozen=True, slots=True)
class Rescued:
    """A worker that was found dead."""

    worker: str  # its name
    jobs: int  # that it had claimed, and that wait again


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of comparing a worker's claims with the store."""

    lost: Sequence[Claim] = ()  # no longer the worker's, or finished
    complete: bool = True  # False: somebody has a row locked that is to be put back


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker as the fleet sees it."""

    worker_id: UUID  # new at every start of a process
    name: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...] | None  # None: all of them
    entrypoints: tuple[str, ...]
    slots: int
    state: WorkerState = "running"
    liveness_limit: timedelta = timedelta(seconds=15)  # of silence, after which its jobs are taken over
    started_at: datetime | None = None
    beat_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much of an entrypoint may run at once, and how often it may start."""

    concurrency_limit: int = 0  # 0: as many as there are slots
    requests_per_second: float = math.inf
    burst: float = math.inf  # how many may start at once after a pause
    scope: LimitScope = "fleet"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSchedule:
    """A cron expression under a name, and how the jobs of its ticks are enqueued."""

    name: str
    expression: str
    timezone: str = "UTC"
    entrypoint: str
    queue: str = "default"
    priority: int = 0
    payload: bytes | None = None
    on_missed: OnMissed = "once"
    jitter: timedelta | None = None
    clean_old: bool = False  # whether it takes the place of the name's expressions that are not declared any more


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A schedule as it stands in the store: one row per name and expression."""

    name: str
    entrypoint: str  # of the ticks' jobs
    expression: str
    timezone: str
    queue: str
    priority: int
    on_missed: OnMissed
    jitter: timedelta | None  # by how much a tick's job is put off at most, at random
    next_at: datetime  # when it is due next
    last_at: datetime | None  # the latest time for which a job was enqueued
    paused_at: datetime | None  # None: it is not paused
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class DeclaredLimit:
    """What an entrypoint is limited to over the whole fleet."""

    entrypoint: str
    concurrency_limit: int = 0  # 0: no limit
    requests_per_second: float | None = None  # None: no limit
    burst: float | None = None  # how many may start at once; None: one second's worth, and at least one


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A declaration that took the place of another one."""

    before: DeclaredLimit
    after: DeclaredLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRecord:
    """A limit or a pause, and how it stands now."""

    entrypoint: str | None  # None: all of them
    queue: str | None  # None: all of them
    concurrency_limit: int  # 0: no limit
    requests_per_second: float | None  # None: no limit
    burst: float | None
    tokens: float | None  # how many may start at this moment as far as requests_per_second goes
    running: int
    paused_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running attempt is."""

    fraction: float  # from 0 to 1
    note: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """How a job has ended, or that it is held."""

    job_id: JobId
    entrypoint: str | None  # None, as `attempts`: it succeeded, and nothing of it was kept
    status: Literal["succeeded", "failed", "cancelled", "deleted", "held"]
    attempts: int | None
    result: Any = None  # what the function returned, where results are stored
    error: Mapping[str, Any] | None = None  # the latest entry of the job's errors, unless it succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job wherever it is, waiting or long finished."""

    id: JobId
    queue: str
    entrypoint: str
    priority: int
    status: Literal["queued", "running", "held", "succeeded", "failed", "cancelled", "deleted"]
    attempts: int
    execute_after: datetime
    created_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    worker_id: UUID | None
    dedupe_key: str | None
    payload: bytes | None
    headers: Mapping[str, Any] | None
    errors: Sequence[Mapping[str, Any]]
    result: Any
    requeued_from: JobId | None
    requeued_as: JobId | None  # of a failed job: the one that took its place
    progress: Progress | None = None  # of the attempt that runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueResult:
    """What `requeue` did with each of the given ids."""

    requeued: Mapping[JobId, JobId]  # old id -> the id under which the job waits now
    already: Mapping[JobId, JobId]  # failed jobs that were requeued before -> the id that they got then
    conflicts: Sequence[JobId]  # their dedupe key is taken by another unfinished job
    unknown: Sequence[JobId]  # neither held nor failed


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """What `cancel` did with each of the given ids."""

    ended: Sequence[JobId]  # they waited, and will not run
    asked: Sequence[JobId]  # they run, and were asked to end
    unknown: Sequence[JobId]  # finished, or never there


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    """What `delete` did with each of the given ids."""

    deleted: Sequence[JobId]  # they waited and went to history as deleted, or were finished and are forgotten
    refused: Sequence[JobId]  # they run: `cancel` asks them to end
    unknown: Sequence[JobId]
