"""What a store can do, in the language of a queue: nothing here knows of tables, connections or SQL.

PostgresStore and MemoryStore implement these protocols, and one behavioural suite holds both to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from pgq_sync.models import (
    Beat,
    CancelResult,
    Claim,
    DeclaredLimit,
    DeleteResult,
    JobId,
    JobRecord,
    LimitChange,
    LimitRecord,
    OnConflict,
    Report,
    RequeueResult,
    Rescued,
    Settled,
    Settlement,
    WorkerInfo,
)
from pgq_sync.storage.claiming import Claimer, LocalLimits
from pgq_sync.storage.intake import CheckedJob
from pgq_sync.storage.scheduling import Schedules
from pgq_sync.storage.waker import Waker
from pgq_sync.storage.watching import Lookout

Clock = Callable[[], datetime | None]
"""The time that a store's rows get; None means the database's own clock."""


OWN: Any = object()
"""In place of a caller's connection: one of the store's own. Not None, which a caller may pass by mistake."""

WAITING = ("queued", "held")
CANCELLED_WAITING = '{"type": "Cancelled", "message": "it was cancelled while it waited"}'
"""The entry in the errors of a job that is cancelled and does not run."""


def database_clock() -> None:
    """The clock that leaves the time to the database."""
    return


def unheard() -> None:
    """Whoever is not told."""


class Intake(Protocol):
    """Where jobs are put in: one connection, in the transaction that it is in."""

    def add(self, jobs: Sequence[CheckedJob], *, on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
        """Enqueues all of `jobs` or none; one id per job, in their order.

        Raises:
            DuplicateJob: with on_conflict "raise", a dedupe key is taken.
        """

    def atomic(self) -> AbstractContextManager[None]:
        """Makes several calls of `add` all or nothing."""


class Jobs(Protocol):
    """The jobs themselves."""

    def intake(self, connection: Any = OWN) -> AbstractContextManager[Intake]:
        """Where to enqueue: on the caller's `connection`, or on one of the store's own."""

    def claimer(
        self,
        worker: WorkerInfo,
        poll_interval: timedelta,
        limits: LocalLimits,
        on_cancel: Callable[[], None],
        on_schedules: Callable[[], None] = unheard,
    ) -> AbstractContextManager[Claimer]:
        """The claimer for a worker's listener thread, closed on leaving.

        Args:
            worker: for whom.
            poll_interval: how often it looks at least.
            limits: what the worker itself knows of the limits.
            on_cancel: called, in the listener thread, when somebody has asked jobs to end.
            on_schedules: called, in whichever thread, when somebody has changed schedules.
        """

    def claim_next(self, worker: WorkerInfo) -> Claim | None:
        """Claims the due job that comes first: for whoever does one after the other in a thread of his own, limits aside."""

    def sheltered(self) -> AbstractContextManager[None]:
        """Surrounds an attempt that runs where its job was claimed: lest what fails in it spoils the caller's transaction."""

    def transaction(self) -> AbstractContextManager[HandlerTransaction]:
        """The transaction of one attempt: leaving it commits, and rolls back what raises. Unused, it costs nothing."""

    def finish(self, connection: Any, settlement: Settlement) -> bool:
        """Writes on the caller's `connection`, in the transaction that it is in, that a job has succeeded.

        Returns:
            Whether the worker still holds the claim under its fence; if not, nothing was written.
        """

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], *, again: bool = False) -> Settled:
        """Writes how attempts ended, each only where the worker still holds the claim under its fence.

        Args:
            worker_id: who held the claims.
            settlements: of several claims of one job only the latest may be among them: that the caller sees to.
            again: they may be written already, by an earlier call whose answer was lost.
        """

    def cancel_requests(self, ids: Sequence[int]) -> set[JobId]:
        """Which of these claimed jobs were asked to end."""

    def end_cancelled(self) -> int:
        """Ends as cancelled the jobs that wait although they were asked to end: put back just before the request, say.

        Forgets what finished jobs were asked, too. What somebody else has locked is left for the next time.

        Returns:
            How many jobs it ended.
        """

    def report(self, worker_id: UUID, reports: Sequence[Report]) -> set[JobId]:
        """Notes how far attempts are, each only while the worker holds the claim.

        Returns:
            The jobs of which that is to be tried again: somebody else has locked it.
        """

    def lookout(self, watcher_id: UUID, waker: Waker) -> AbstractContextManager[Lookout]:
        """A watcher's side of the store, for its thread, closed on leaving; `waker` ends its waits."""

    def operations(self, connection: Any = OWN) -> Operations:
        """What an operator may ask: on the caller's `connection`, or on one of the store's own."""


class HandlerTransaction(Protocol):
    """The transaction in which a handler works. Its own thread uses it; only `cancel` is for others."""

    @property
    def since(self) -> float | None:
        """When it began, by the monotonic clock; None while it has not been used."""

    def open(self) -> Any:
        """The connection; the first call begins the transaction.

        Raises:
            RuntimeError: this store has no connections.
        """

    def intake(self) -> AbstractContextManager[Intake]:
        """Where to enqueue in the transaction."""

    def finish(self, settlement: Settlement) -> bool:
        """Writes the job's completion in the transaction, as `Jobs.finish` does."""

    def cancel(self) -> None:
        """Cuts off the statement that runs on the connection, from any thread; never raises."""

    def discard(self) -> None:
        """Has the connection closed at the end, and not used again."""


class Operations(Protocol):
    """What an operator asks of the jobs."""

    def requeue(self, ids: Iterable[int], *, reset_attempts: bool = True) -> RequeueResult:
        """Puts held jobs back, and failed ones that are still in history under new ids."""

    def cancel(self, ids: Iterable[int]) -> CancelResult:
        """Ends jobs that wait, and asks running ones to end."""

    def delete(self, ids: Iterable[int]) -> DeleteResult:
        """Moves jobs that wait to history as deleted, and removes finished ones from it."""

    def purge(self, status: str, *, entrypoint: str | None, older_than: timedelta) -> int:
        """Deletes all jobs of a status but running, enqueued or finished so long ago; tells how many."""

    def count_purgeable(self, status: str, *, entrypoint: str | None, older_than: timedelta) -> int:
        """How many jobs `purge` would delete now."""

    def get(self, job_id: int) -> JobRecord | None:
        """One job, unfinished or in history."""

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        """Jobs, the latest first."""

    def held(self, *, entrypoint: str | None = None, limit: int = 25) -> list[JobRecord]:
        """Jobs that wait for a person, the latest first."""

    def count(self) -> Mapping[tuple[str, str], int]:
        """How many jobs there are by (entrypoint, status), history included."""

    def latencies(self) -> tuple[float, float, float] | None:
        """Median, 95th and 99th percentile from due to claimed, in seconds, over the finished jobs; None without any."""

    def now(self) -> datetime:
        """What the store's clock says."""


class Fleet(Protocol):
    """The workers."""

    def register(self, worker: WorkerInfo) -> None:
        """Makes a worker known."""

    def beat(self, worker: WorkerInfo) -> Beat:
        """A worker's sign of life; tells its place among those that serve the same, and who is silent."""

    def rescue(self, worker: WorkerInfo, *, thorough: bool = False) -> Sequence[Rescued]:
        """Puts back the claimed jobs of workers that are dead: silent for their limit, and with no session left.

        Args:
            worker: who asks; it must have beaten within its own limit.
            thorough: also what was claimed by workers that nobody knows.
        """

    def deregister(self, worker_id: UUID, *, clean: bool = True) -> None:
        """Forgets a worker that has stopped.

        Args:
            worker_id: which one.
            clean: False: it may have left claimed jobs behind, and is to be taken for dead at once.
        """

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""

    def maintain(self, retention: timedelta) -> None:
        """Looks after history: forgets what is older than `retention`, and what nobody needs any more beside the jobs."""


class Limits(Protocol):
    """What the fleet may run at once and in a second, and what it may not run at all. None stands for any name."""

    def pause(self, *, entrypoint: str | None, queue: str | None) -> bool:
        """Has no worker claim these jobs until `resume`; tells whether that is new."""

    def resume(self, *, entrypoint: str | None, queue: str | None) -> bool:
        """Takes back a `pause` of the same names; tells whether there was one."""

    def records(self) -> list[LimitRecord]:
        """Every limit and pause."""

    def declare(self, limits: Sequence[DeclaredLimit], unlimited: Sequence[str]) -> list[LimitChange]:
        """Notes what a starting worker's entrypoints are limited to; the latest declaration holds.

        Args:
            limits: one per limited entrypoint.
            unlimited: the worker's other entrypoints; earlier limits of theirs are lifted. Pauses stay.

        Returns:
            The earlier declarations that said something else.
        """


class Store(Jobs, Fleet, Protocol):
    """All of it."""

    @property
    def schedules(self) -> Schedules:
        """The schedules."""

    def schedules_on(self, connection: Any) -> Schedules:
        """The same on the caller's connection, in the transaction that it is in."""

    @property
    def limits(self) -> Limits:
        """The limits and pauses."""

    def for_engine(self, *, handlers: int = 1) -> Store:
        """The same store as a worker uses it: never on a connection that the caller works on.

        Args:
            handlers: how many handlers may be in a transaction at once.
        """

    def require_schema(self) -> None:
        """Makes sure that a worker can start.

        Raises:
            SchemaError: the database has not the schema that this version of pgq-sync works with.
            StoreUnavailable: the database cannot be reached, or not where the listener is to connect.
        """

    def close(self) -> None:
        """Closes what the store opened; later use opens again."""
