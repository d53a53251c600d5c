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
    Claim,
    DeclaredSchedule,
    JobId,
    JobRecord,
    OnConflict,
    Peers,
    RequeueResult,
    Settled,
    Settlement,
    WorkerInfo,
)
from pgq_sync.storage.intake import CheckedJob

Clock = Callable[[], datetime | None]
"""The time that a store's rows get; None means the database's own clock."""


OWN: Any = object()
"""In place of a caller's connection: one of the store's own. Not None, which a caller may pass by mistake."""

NextTick = Callable[[DeclaredSchedule, datetime], datetime]


def database_clock() -> None:
    """The clock that leaves the time to the database."""
    return


class Intake(Protocol):
    """Where jobs are put in: one connection, in the transaction that it is in."""

    def add(self, jobs: Sequence[CheckedJob], *, on_conflict: OnConflict, notify: bool) -> list[JobId | None]:
        """Enqueues all of `jobs` or none; one id per job, in their order.

        Raises:
            DuplicateJob: with on_conflict "raise", a dedupe key is taken.
        """

    def atomic(self) -> AbstractContextManager[None]:
        """Makes several calls of `add` all or nothing."""


class Claimer(Protocol):
    """The listener thread's side of the store; only `wake` and `cancel` may be called from other threads."""

    peers: Peers
    """Set after each beat: who else would look for the same jobs."""

    def claim(self, room: int, *, thorough: bool = False) -> Sequence[Claim]:
        """Claims due jobs, as many as there is room for; larger priorities first, and within one the earliest due.

        Args:
            room: the most jobs to claim.
            thorough: look everywhere, however recently that was done.
        """

    def wait(self, *, for_room: bool = False) -> None:
        """Blocks until there may be something to claim, or `wake` was called since the last `arm`.

        Args:
            for_room: there is no room to claim for: only `wake` ends the wait (or what the store must attend to).
        """

    def arm(self) -> None:
        """Forgets earlier calls of `wake`. To be called before looking, never after: a wake-up would be lost."""

    def wake(self) -> None:
        """Ends the wait. Cheap, and safe from any thread."""

    def cancel(self) -> None:
        """Cuts off a claim that waits for the store, from any thread."""


class Jobs(Protocol):
    """The jobs themselves."""

    def intake(self, connection: Any = OWN) -> AbstractContextManager[Intake]:
        """Where to enqueue: on the caller's `connection`, or on one of the store's own."""

    def claimer(self, worker: WorkerInfo, poll_interval: timedelta) -> AbstractContextManager[Claimer]:
        """The claimer for a worker's listener thread, closed on leaving; it looks every `poll_interval` at least."""

    def transaction(self) -> AbstractContextManager[HandlerTransaction]:
        """The transaction of one attempt: leaving it commits, and rolls back what raises. Unused, it costs nothing."""

    def finish(self, connection: Any, settlement: Settlement) -> bool:
        """Writes on the caller's `connection`, in the transaction that it is in, that a job has succeeded.

        Returns:
            Whether the worker still holds the claim under its fence; if not, nothing was written.
        """

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement]) -> Settled:
        """Writes how attempts ended, each only where the worker still holds the claim under its fence.

        Of several claims of one job only the latest may be among them: that the caller sees to.
        """

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

    def get(self, job_id: int) -> JobRecord | None:
        """One job, unfinished or in history."""

    def find(
        self, *, status: str | None = None, entrypoint: str | None = None, queue: str | None = None, limit: int = 25
    ) -> list[JobRecord]:
        """Jobs, the latest first."""

    def count(self) -> Mapping[tuple[str, str], int]:
        """How many jobs there are by (entrypoint, status), history included."""

    def latencies(self) -> tuple[float, float, float] | None:
        """Median, 95th and 99th percentile from due to claimed, in seconds, over the finished jobs; None without any."""


class Fleet(Protocol):
    """The workers."""

    def register(self, worker: WorkerInfo) -> None:
        """Makes a worker known."""

    def beat(self, worker: WorkerInfo, liveness_limit: timedelta) -> Peers:
        """A worker's sign of life; tells its place among those that serve the same."""

    def deregister(self, worker_id: UUID) -> None:
        """Forgets a worker that has stopped."""

    def workers(self) -> list[WorkerInfo]:
        """The registered workers."""

    def maintain(self, retention: timedelta) -> None:
        """Looks after history: forgets what is older than `retention`."""


class Schedules(Protocol):
    """The schedules. `next_tick` tells of a schedule and a time the first time after it that the schedule names."""

    def declare(self, schedules: Sequence[DeclaredSchedule], next_tick: NextTick) -> None:
        """Notes schedules; those that are there keep when they are due next."""

    def tick(self, names: Sequence[str], next_tick: NextTick) -> float | None:
        """Enqueues a job for each of the named schedules that is due, and moves it on.

        Returns:
            In how many seconds the next one is due; None if none is.
        """


class Store(Jobs, Fleet, Protocol):
    """All of it."""

    @property
    def schedules(self) -> Schedules:
        """The schedules."""

    def for_engine(self, *, handlers: int = 1) -> Store:
        """The same store as a worker uses it: never on a connection that the caller works on.

        Args:
            handlers: how many handlers may be in a transaction at once.
        """

    def require_schema(self) -> None:
        """Raises SchemaError unless the database has the schema that this version of pgq-sync works with."""

    def close(self) -> None:
        """Closes what the store opened; later use opens again."""
