"""Procrastinate 3.10.0, which fetches each job and writes each outcome in a statement of its own.

Defaults: its quick start (one job at once). Best: 10 at once (docs/howto/concurrency.md), a pool with a connection for each
and one more (docs/discussions.md, "Mind the size of your PostgreSQL pool"), uvloop, and a pool of the application's own, which
docs/howto/basics/connector.md permits: in autocommit, and without the question before each use whether the connection lives.

Tried on 2 cores, 100,000 jobs that do nothing, those run in the first 10 s, in jobs a second: defaults: 266; best's kind of
pool, 1 at once: 397, 10 at once on 5 connections: 600, on 11: 684, 100 at once on 10: 345; 30 at once on its own pool of 31: 467.
On a busier machine, each with one connection more: 5 at once: 182, 10: 203, 20: 157; on a quieter one: defaults 395 and 487,
best's kind of pool, 1 at once: 695 and 709, 5: 970, 10: 1,000, 20: 912;
with the server's synchronous_commit off, 10: 929.
Finished jobs are kept, as by default: a worker may also delete them (docs/howto/production/delete_finished_jobs.md).

`slots` beyond the best's 10 share its 11 connections. Within a transaction, jobs are deferred on the application's
connection (docs/howto/production/external_connection.md); in batches by batch_defer (docs/howto/basics/batch_defer.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import uvloop
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work
from benchmarks.compare.drivers.tally import Tally

_NOTIFY = "procrastinate_jobs_notify_queue_job_inserted_v1"  # would tell nobody of each job that is filled in
_WAITING = """
insert into procrastinate_jobs (queue_name, task_name, priority, args, scheduled_at)
select {queue}, 'entrypoint_' || n %% %(entrypoints)s, n %% %(priorities)s, jsonb_build_object('payload', %(payload)s::text),
    now() + %(delay)s::interval
from generate_series(1, %(jobs)s) as n
"""
_FINISHED = """
with job as (
    insert into procrastinate_jobs (queue_name, task_name, args, status, attempts)
    select 'default', 'entrypoint_0', jsonb_build_object('payload', %(payload)s::text), 'succeeded', 1
    from generate_series(1, %(jobs)s)
    returning id
)
insert into procrastinate_events (job_id, type)
select id, type::procrastinate_job_event_type
from job, unnest(array['deferred', 'started', 'succeeded']) with ordinality as told(type, turn)
order by turn, id
"""


_ABOUT = About(
    packages=("procrastinate", "psycopg", "uvloop"),
    crash="stays marked as running, until the application retries stalled jobs",
    joins="yes",
    finished="the row, and a line for each event, until deleted",
)


@dataclass(frozen=True)
class _Driver:
    label: str
    configuration: str
    concurrency: int = 1
    best: bool = False
    about: About = _ABOUT
    refuses: Mapping[str, str] = field(default_factory=dict)
    unfinished: str | None = (
        "select count(*) from procrastinate_jobs "
        "where status in ('todo', 'doing') and (scheduled_at is null or scheduled_at <= now())"
    )

    def install(self, dsn: str) -> None:
        with App(connector=SyncPsycopgConnector(conninfo=dsn)).open() as app:
            app.schema_manager.apply_schema()

    def fill(self, dsn: str, load: Load) -> None:
        waiting = _WAITING.format(queue=f"'queue_' || n %% {load.queues}" if load.queues > 1 else "'default'")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"alter table procrastinate_jobs disable trigger {_NOTIFY}".encode())
            for sql, jobs, delay in (
                (_FINISHED, load.finished, None),
                (waiting, load.deferred, "7 days"),
                (waiting, load.waiting, None),
            ):
                if jobs:
                    kinds = {"entrypoints": load.entrypoints, "priorities": load.priorities}
                    connection.execute(sql.encode(), {"jobs": jobs, "payload": PAYLOAD, "delay": delay, **kinds})
            connection.execute(f"alter table procrastinate_jobs enable trigger {_NOTIFY}".encode())

    @contextmanager
    def produce(self, dsn: str) -> Iterator[_Producer]:
        app = App(connector=SyncPsycopgConnector(conninfo=dsn))
        task = app.task(name="entrypoint_0")(_elsewhere)
        with ExitStack() as opened:
            pool = opened.enter_context(ConnectionPool(dsn, kwargs={"autocommit": True}, open=True)) if self.best else None
            opened.enter_context(app.open(pool))
            yield _Producer(task, opened.enter_context(psycopg.connect(dsn, autocommit=True)))

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        start = uvloop.run if self.best else asyncio.run
        start(self._work(dsn, work, tally))

    async def _work(self, dsn: str, work: Work, tally: Tally) -> None:
        slots = self.concurrency if work.slots is None else work.slots
        app = App(connector=PsycopgConnector(conninfo=dsn))
        for number in range(work.entrypoints):
            app.task(name=f"entrypoint_{number}")(_handler(work.pause, tally))
        async with AsyncExitStack() as opened:
            pool = await opened.enter_async_context(_pool(dsn, self.concurrency + 1)) if self.best else None
            await opened.enter_async_context(app.open_async(pool))
            await app.run_worker_async(concurrency=slots)


def _pool(dsn: str, connections: int) -> AsyncConnectionPool:
    """Its connections are in autocommit, and not asked before each use whether they live."""
    return AsyncConnectionPool(dsn, min_size=connections, max_size=connections, configure=_autocommit, open=False)


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)


def _handler(pause: float, tally: Tally) -> Any:
    async def noop(payload: str) -> None:
        tally.ran(payload)

    async def waiting(payload: str) -> None:
        await asyncio.sleep(pause)
        tally.ran(payload)

    return waiting if pause else noop


async def _elsewhere(payload: str) -> None:
    """What a producer, which runs no job, knows of one."""


class _Producer:
    def __init__(self, task: Any, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._own = task.configure()
        self._joined = task.configure(connection=connection)
        self._deferrer = self._own

    def enqueue(self, payload: str) -> None:
        self._deferrer.defer(payload=payload)

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        self._own.batch_defer(*[{"payload": payload} for payload in payloads])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            self._deferrer = self._joined
            try:
                yield
            finally:
                self._deferrer = self._own


DRIVERS = {
    "defaults": _Driver("Procrastinate", "quick start: 1 job at once"),
    "best": _Driver(
        "Procrastinate (best)", "10 jobs at once on a pool of 11 connections in autocommit, uvloop", concurrency=10, best=True
    ),
}
