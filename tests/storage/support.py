"""What the storage tests share: a hand that claims and settles, an ear on the channel, and waits for events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import psycopg

from pgq_sync import JobRecord, PgQueuer
from pgq_sync.engine.limits import LocalLimits
from pgq_sync.models import Claim, JobId, Limit, Outcome, Room, Settled, Settlement, WorkerInfo
from pgq_sync.storage.claiming import Claimer
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import Store
from tests.waiting import wait_until

POLL_INTERVAL = timedelta(seconds=5)


def worker(*entrypoints: str, queues: tuple[str, ...] | None = None, **more: Any) -> WorkerInfo:
    """A worker as it would register."""
    return WorkerInfo(
        worker_id=uuid4(),
        name="tester",
        host="localhost",
        pid=1,
        version="0",
        queues=queues,
        entrypoints=tuple(sorted(entrypoints)),
        slots=10,
        **more,
    )


@dataclass(frozen=True)
class Hand:
    """One worker's hand in the store."""

    store: Store
    worker: WorkerInfo
    claimer: Claimer
    limits: LocalLimits

    def claim(self, room: int | Room = 1_000, *, thorough: bool = True) -> list[Claim]:
        claimed = self.claimer.claim(room if isinstance(room, Room) else Room(room, room, True), thorough=thorough)
        return [*claimed.careful, *claimed.plain]

    def claim_one(self) -> Claim:
        (claim,) = self.claim(1)
        return claim

    def settle(self, claims: Claim | Iterable[Claim], status: Any = "succeeded", **outcome: Any) -> Settled:
        chosen = [claims] if isinstance(claims, Claim) else claims
        settlements = [Settlement(claim, Outcome(status=status, **outcome)) for claim in chosen]
        settled = self.store.settle(self.worker.worker_id, settlements)
        ended = self.limits.ended(each.claim.job.entrypoint for each in [*settled.written, *settled.lost])
        self.claimer.ended(ended)
        return settled


def ask_too_late(store: Store, job_id: int) -> None:
    """Asks a job that waits to end, as who took it for running does when it goes back at that moment."""
    if isinstance(store, PostgresStore):
        with store._connections.session() as session:
            asked = store._names.fill("insert into {cancel} (job_id, asked_at) values (%(id)s, now())")
            session.run(asked, {"id": job_id})
    else:
        store._state.requests.add(job_id)  # type: ignore[attr-defined]


@contextmanager
def hand(
    store: Store,
    *entrypoints: str,
    queues: tuple[str, ...] | None = None,
    limits: Mapping[str, Limit] | None = None,
    who: WorkerInfo | None = None,
) -> Iterator[Hand]:
    """A hand that serves these entrypoints, or that of the worker `who`."""
    who = who or worker(*entrypoints, queues=queues)
    local = LocalLimits(limits or {})
    with store.claimer(who, POLL_INTERVAL, local, lambda: None) as claimer:
        yield Hand(store, who, claimer, local)


def wait_until_gone(dsn: str, worker_id: UUID) -> None:
    """Waits until the server has noticed that the session of this worker's claimer is closed."""
    holders = """
        select pid from pg_locks
        where locktype = 'advisory' and (classid::bigint << 32) | objid::bigint = hashtextextended(%s::uuid::text, 0)
    """
    wait_until(lambda: not query(dsn, holders, [worker_id]))


def ended(pgq: PgQueuer, status: Any, entrypoint: str = "work", **options: Any) -> JobId:
    """A new job whose attempt ended so."""
    job_id: JobId = pgq.enqueue(entrypoint, "data", **options)
    with hand(pgq.store, entrypoint) as one:
        claims = one.claim()
        assert [claim.job.id for claim in claims] == [job_id]
        one.settle(claims, status, error='{"reason": "test"}')
    return job_id


def record(pgq: PgQueuer, job_id: int) -> JobRecord:
    """A job that must be there."""
    found = pgq.jobs.get(job_id)
    assert found is not None
    return found


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **units: float) -> None:
        self.now += timedelta(**units)


class Ear:
    """Listens on an installation's channel."""

    def __init__(self, connection: psycopg.Connection[Any], names: Names) -> None:
        self._connection = connection
        self._channel = names.channel
        self._heard: list[str] = []
        connection.add_notify_handler(lambda notification: self._heard.append(notification.payload))
        connection.execute(f'listen "{self._channel}"'.encode())

    def heard(self) -> list[str]:
        """What was notified since the last call, by everything committed before this one."""
        mark = f"mark {uuid4()}"
        # Notifications arrive in the order of their commits: whatever was sent before the mark is here before it.
        self._connection.execute("select pg_notify(%s, %s)", [self._channel, mark])
        wait_until(lambda: self._connection.execute("select 1") and mark in self._heard)
        end = self._heard.index(mark)
        messages, self._heard[: end + 1] = self._heard[:end], []
        return messages


@contextmanager
def ear(dsn: str, names: Names | None = None) -> Iterator[Ear]:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        yield Ear(connection, names or Names())


def wait_until_blocked_by(dsn: str, pid: int) -> None:
    """Waits until some connection of this database waits for a lock of backend `pid`."""
    with closing(psycopg.connect(dsn, autocommit=True)) as observer:
        waiting = "select from pg_stat_activity where datname = current_database() and %s = any(pg_blocking_pids(pid))"
        wait_until(lambda: observer.execute(waiting, [pid]).fetchall())


def waiting(dsn: str) -> int:
    """How many connections to this database wait for a lock."""
    sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return int(query(dsn, sql)[0][0])


def query(dsn: str, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    """The rows of one committed statement, on a connection apart."""
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        cursor = connection.execute(sql.encode(), params)
        return cursor.fetchall() if cursor.description else []
