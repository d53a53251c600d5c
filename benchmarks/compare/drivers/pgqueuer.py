"""PgQueuer 1.6.0, on either of its connection drivers.

Defaults: its quick start (batch_size 10). Best: batch_size 500 on uvloop, which `pgq run` takes where it is installed,
and `pgq autovac` (docs/guides/performance-tuning.md, docs/comparisons/benchmarks.md).

Tried on 2 cores, 100,000 jobs that do nothing, in jobs a second:
asyncpg: batch 10: 4,905, with uvloop 5,318; with uvloop, batch 100: 15,739, 250: 16,813, 500: 18,514, 1,000: 17,122,
2,000: 17,319; batch 500 on asyncio's loop: 15,885, on a pool: 17,578, with the log unlogged: 17,236 (not taken: it
would lose rows in a crash, as nobody else's do); several managers in one process, as its own tools/benchmark.py has them, each
on its own connection: 2 of batch 500: 17,946, 3: 17,926, where one has 17,887; 5 of batch 100: 17,628, of batch 10: 6,814;
with the server's synchronous_commit off: 18,480, where it is on 17,887;
with `pgq autovac`: 15,548 to 17,363, without: 13,425 to 18,514.
psycopg: batch 10: 4,133; with uvloop, batch 100: 11,882, 500: 14,001, 2,000: 13,355, 5,000: 11,323; 500 on asyncio's: 12,136;
2 managers of batch 500: 16,937, where one has 14,244, which asyncpg's single one still exceeds.

It has no queues: a worker takes the jobs of its entrypoints, so that a queue is here a part of the entrypoint's name.
`slots` are max_concurrent_tasks, which is at least twice the batch size (docs/guides/performance-tuning.md). Jobs of 10 ms
in 50 slots, on asyncpg: batch 25: 2,409, 10: 1,490, 5: 699; with concurrency_limit=50 in its place, batch 25: 1,979, 50:
1,722, 500: 474. Its psycopg driver holds the connection for up to a second while it waits for a notification: with batch 25:
25, 5: 10; with concurrency_limit=50, batch 25: 25, 500: 30; without any limit, so that more than 50 run at once, batch 50:
100, 500: 1,299.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer, run
from pgqueuer.db import AsyncpgDriver, SyncPsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries, SyncQueries
from psycopg.conninfo import conninfo_to_dict

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work
from benchmarks.compare.drivers.loops import Loop
from benchmarks.compare.drivers.tally import Tally

_LEAST = 2  # jobs at once: max_concurrent_tasks is at least twice the batch size
_QUEUED = """
with job as (
    insert into pgqueuer (priority, entrypoint, payload, execute_after, headers, status)
    select n %% %(priorities)s, {entrypoint}, convert_to(%(payload)s, 'UTF8'), now() + %(delay)s::interval, 'null', 'queued'
    from generate_series(1, %(jobs)s) as n
    returning id, priority, entrypoint
)
insert into pgqueuer_log (job_id, status, priority, entrypoint, aggregated)
select id, 'queued', priority, entrypoint, false from job
"""
_FINISHED = """
with job as materialized (select nextval('pgqueuer_id_seq') as id from generate_series(1, %(jobs)s))
insert into pgqueuer_log (job_id, status, priority, entrypoint, aggregated)
select id, status::pgqueuer_status, 0, 'entrypoint_0', true
from job, unnest(array['queued', 'picked', 'successful']) with ordinality as told(status, turn)
order by turn, id
"""


_ABOUT = About(
    packages=("pgqueuer", "asyncpg", "psycopg", "uvloop"),
    crash="runs again after 30 s without heartbeat",
    joins="yes",
    finished="log lines without payload",
    remarks={
        "lanes": "it has no queues: a queue is here a part of the entrypoint's name",
        "waiting": "max_concurrent_tasks 50, batch_size up to 25; psycopg's driver keeps its connection until a notice",
    },
)


@dataclass(frozen=True)
class _Driver:
    """One of its two connection drivers, with settings."""

    label: str
    configuration: str
    application: Callable[[str], AbstractAsyncContextManager[PgQueuer]]
    produce: Callable[[str], AbstractContextManager[Any]]
    batch: int = 10
    best: bool = False
    about: About = _ABOUT
    refuses: Mapping[str, str] = field(default_factory=dict)
    unfinished: str | None = "select count(*) from pgqueuer where execute_after <= now()"

    def install(self, dsn: str) -> None:
        asyncio.run(_install(dsn, autovacuum=self.best))

    def fill(self, dsn: str, load: Load) -> None:
        queued = _QUEUED.format(entrypoint=_entrypoint_sql(load))
        with psycopg.connect(dsn, autocommit=True) as connection:
            for sql, jobs, delay in (
                (_FINISHED, load.finished, ""),
                (queued, load.deferred, "7 days"),
                (queued, load.waiting, "0"),
            ):
                if jobs:
                    values = {"jobs": jobs, "payload": PAYLOAD, "delay": delay, "priorities": load.priorities}
                    connection.execute(sql.encode(), values)

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        batch, slots = self.batch, work.slots
        if slots is not None:
            slots = max(slots, _LEAST)
            batch = min(batch, slots // 2)

        @asynccontextmanager
        async def factory() -> AsyncIterator[PgQueuer]:
            async with self.application(dsn) as pgq:
                for name in _entrypoints(work):
                    pgq.entrypoint(name)(_handler(work.pause, tally))
                yield pgq

        start = uvloop.run if self.best else asyncio.run
        start(run(factory, batch_size=batch, max_concurrent_tasks=slots))


async def _install(dsn: str, *, autovacuum: bool) -> None:
    connection = await _connected(dsn)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    if autovacuum:
        await queries.optimize_autovacuum()
    await connection.close()


def _entrypoints(work: Work) -> list[str]:
    """A worker takes the jobs of its entrypoints: a queue is a part of their names."""
    names = [f"entrypoint_{number}" for number in range(work.entrypoints)]
    return names if work.queues == 1 else [f"queue_{number}.{name}" for number in range(work.queues) for name in names]


def _entrypoint_sql(load: Load) -> str:
    queue = f"'queue_' || n %% {load.queues} || '.' || " if load.queues > 1 else ""
    return f"{queue}'entrypoint_' || n %% {load.entrypoints}"


def _handler(pause: float, tally: Tally) -> Any:
    async def noop(job: Job) -> None:
        tally.ran(job.payload)

    async def waiting(job: Job) -> None:
        await asyncio.sleep(pause)
        tally.ran(job.payload)

    return waiting if pause else noop


@asynccontextmanager
async def _by_asyncpg(dsn: str) -> AsyncIterator[PgQueuer]:
    connection = await _connected(dsn)
    try:
        yield PgQueuer.from_asyncpg_connection(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def _by_psycopg(dsn: str) -> AsyncIterator[PgQueuer]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield PgQueuer.from_psycopg_connection(connection)


async def _connected(dsn: str) -> Any:
    given = conninfo_to_dict(dsn)
    return await asyncpg.connect(**{{"dbname": "database"}.get(name, name): value for name, value in given.items()})


class _AsyncProducer:
    def __init__(self, loop: Loop, connection: Any) -> None:
        self._loop = loop
        self._connection = connection
        self._queries = Queries(AsyncpgDriver(connection))

    def enqueue(self, payload: str) -> None:
        self._loop.run(self._queries.enqueue("entrypoint_0", payload.encode()))

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        self._loop.run(self._queries.enqueue(*_batch(payloads)))

    def transaction(self) -> AbstractContextManager[object]:
        return self._loop.within(self._connection.transaction())


class _SyncProducer:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._queries = SyncQueries(SyncPsycopgDriver(connection))

    def enqueue(self, payload: str) -> None:
        self._queries.enqueue("entrypoint_0", payload.encode())

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        self._queries.enqueue(*_batch(payloads))

    def transaction(self) -> AbstractContextManager[object]:
        return self._connection.transaction()


def _batch(payloads: Sequence[str]) -> tuple[list[str], list[bytes], list[int]]:
    return ["entrypoint_0"] * len(payloads), [payload.encode() for payload in payloads], [0] * len(payloads)


def _produce_by_asyncpg(new_loop: Callable[[], AbstractEventLoop]) -> Callable[[str], AbstractContextManager[_AsyncProducer]]:
    @contextmanager
    def produce(dsn: str) -> Iterator[_AsyncProducer]:
        with closing(Loop(new_loop())) as loop:
            connection = loop.run(_connected(dsn))
            yield _AsyncProducer(loop, connection)
            loop.run(connection.close())

    return produce


@contextmanager
def _produce_by_psycopg(dsn: str) -> Iterator[_SyncProducer]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield _SyncProducer(connection)


_DEFAULT, _BEST = "quick start: batch_size 10", "batch_size 500, uvloop, `pgq autovac`"
_by_loop, _by_uvloop = _produce_by_asyncpg(asyncio.new_event_loop), _produce_by_asyncpg(uvloop.new_event_loop)
DRIVERS = {
    "asyncpg": _Driver("PgQueuer (asyncpg)", _DEFAULT, _by_asyncpg, _by_loop),
    "asyncpg_best": _Driver("PgQueuer (asyncpg, best)", _BEST, _by_asyncpg, _by_uvloop, batch=500, best=True),
    "psycopg": _Driver("PgQueuer (psycopg)", _DEFAULT, _by_psycopg, _produce_by_psycopg),
    "psycopg_best": _Driver("PgQueuer (psycopg, best)", _BEST, _by_psycopg, _produce_by_psycopg, batch=500, best=True),
}
