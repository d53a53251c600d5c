"""The two stores, each with what only a test may do: start anew, look at its rows, and be sure that news has arrived.

The clock moves for the rows and for the claimers alike, so that nothing here depends on how fast the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import psycopg

from pgq_sync import Settings
from pgq_sync.models import WorkerInfo
from pgq_sync.storage.claiming import Claimer, LocalLimits
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.memory.rows import MemoryRow
from pgq_sync.storage.memory.store import MemoryStore
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import Store
from tests.storage.machine.rows import UNFINISHED, Row
from tests.storage.support import MovableClock

# Long past: by the server's own clock, which its triggers go by, every job is due and so every insert is announced.
START = datetime(2021, 5, 17, 12, tzinfo=timezone.utc)
POLL_INTERVAL = timedelta(seconds=5)


class MachineClock(MovableClock):
    """A clock that can stand in for the module `time` too."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.now = START

    def monotonic(self) -> float:
        return 1_000 + (self.now - START).total_seconds()


@dataclass(frozen=True)
class Seat:
    """An open claimer."""

    claimer: Claimer
    hear: Callable[[], object]  # returns when all that was announced before has arrived
    leave: Callable[[], object]  # closes it; returns when the store sees that it is closed


class World(Protocol):
    """A store under test."""

    clock: MachineClock
    all_known: bool  # whether a claim finds what is due without having heard of it

    @property
    def store(self) -> Store: ...

    def reset(self) -> None: ...

    def rows(self) -> dict[int, Row]: ...

    def keys(self) -> dict[str, int]:
        """The dedupe keys that are taken, and by which jobs."""

    def sit(self, worker: WorkerInfo, limits: LocalLimits) -> Seat: ...

    def connection(self) -> AbstractContextManager[Any]:
        """A connection for a handler."""

    def close(self) -> None: ...


class MemoryWorld:
    """The store in memory."""

    all_known = True

    def __init__(self, clock: MachineClock) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        self.clock.reset()
        self.store = MemoryStore(self.clock)
        self._state = self.store._state

    def rows(self) -> dict[int, Row]:
        return {row.id: _memory_row(row) for rows in (self._state.jobs, self._state.history) for row in rows.values()}

    def keys(self) -> dict[str, int]:
        return dict(self._state.keys)

    def sit(self, worker: WorkerInfo, limits: LocalLimits) -> Seat:
        stack = ExitStack()
        claimer = stack.enter_context(self.store.claimer(worker, POLL_INTERVAL, limits, lambda: None))
        return Seat(claimer, lambda: None, stack.close)

    def connection(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def close(self) -> None:
        """There is nothing to close."""


class PostgresWorld:
    """The store on PostgreSQL. Connections are kept from one example to the next, but for the claimers' own."""

    all_known = False

    def __init__(self, dsn: str, clock: MachineClock) -> None:
        self.clock = clock
        self._connections = _Pool(Settings(), dsn)
        self._observer = psycopg.connect(dsn, autocommit=True)
        self._handler = psycopg.connect(dsn, autocommit=True)
        self.reset()

    def reset(self) -> None:
        self.clock.reset()
        # It remembers for which day history is ready, and the clock goes back.
        self.store = PostgresStore(self._connections, Names(), self.clock)
        self._observer.execute(_RESET)

    def rows(self) -> dict[int, Row]:
        return {row[0]: _postgres_row(row) for row in self._observer.execute(_ROWS)}

    def keys(self) -> dict[str, int]:
        return dict(self._observer.execute(_KEYS).fetchall())

    def sit(self, worker: WorkerInfo, limits: LocalLimits) -> Seat:
        stack = ExitStack()
        # Whoever was known by this id has left, and its session with it.
        stack.callback(lambda: self._observer.execute(_LEFT, {"worker_id": str(worker.worker_id)}))
        claimer = stack.enter_context(self.store.claimer(worker, POLL_INTERVAL, limits, lambda: None))
        connection = self._connections.latest
        # A notification is sent to a session before the answer to what it asks after the commit.
        return Seat(claimer, lambda: connection.execute("select 1"), stack.close)

    @contextmanager
    def connection(self) -> Iterator[Any]:
        with self._handler.transaction():
            yield self._handler

    def close(self) -> None:
        self._handler.close()
        self._observer.close()
        self.store.close()


class _Pool(OwnPool):
    """Remembers the claimer's connection."""

    latest: psycopg.Connection[Any]

    def direct(self, *, listening: bool = False) -> psycopg.Connection[Any]:
        self.latest = super().direct(listening=listening)
        return self.latest


# To truncate history with all its partitions would take longer than most examples.
_RESET = """
    truncate pgq_job restart identity;
    delete from pgq_history; delete from pgq_worker; delete from pgq_limit; delete from pgq_cancel;
"""
_ROWS = """
    select id, queue, entrypoint, priority, status, execute_after, created_at, payload, dedupe_key, dedupe_until, attempt,
           rescues, coalesce(jsonb_array_length(errors), 0), claimed_at, null::timestamptz, worker_id, fence,
           requeued_from, null::bigint
    from pgq_job
    union all
    select id, queue, entrypoint, priority, status, execute_after, created_at, payload, dedupe_key, dedupe_until, attempts,
           0, coalesce(jsonb_array_length(errors), 0), claimed_at, finished_at, worker_id, fence,
           requeued_from, requeued_as
    from pgq_history
"""
_FIELDS = (
    *("id", "queue", "entrypoint", "priority", "status", "execute_after", "created_at", "payload", "dedupe_key"),
    *("dedupe_until", "attempts", "rescues", "errors", "claimed_at", "finished_at", "worker_id", "fence"),
    *("requeued_from", "requeued_as"),
)
_KEYS = "select dedupe_key, id from pgq_job where dedupe_key is not null and dedupe_until is not null"
_LEFT = """
    select pg_advisory_unlock(hashtextextended(worker_id, 0))
    from (select worker_id, pg_advisory_lock(hashtextextended(worker_id, 0))
          from (select %(worker_id)s::text as worker_id) as given offset 0) as waited
"""


def _postgres_row(row: Iterable[Any]) -> Row:
    return Row(**dict(zip(_FIELDS, row, strict=True)))


def _memory_row(row: MemoryRow) -> Row:
    known = {name: getattr(row, name) for name in _FIELDS if name not in ("attempts", "rescues", "errors")}
    rescues = row.rescues if row.status in UNFINISHED else 0
    return Row(**known, attempts=row.attempt, rescues=rescues, errors=len(row.errors))
