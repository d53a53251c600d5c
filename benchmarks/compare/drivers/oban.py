"""Oban 0.7.0, in its free edition, which writes each new job and each outcome in a statement of its own.

Defaults: `oban start` (10 jobs at once in a queue, on uvloop), but without the log lines that it writes for each job.
Best: 2,000 at once (docs/defining_queues.md: there is no limit to how many jobs run at once in a queue; docs/production.md:
they need no connections of their own); a single job is enqueued on a connection of the application that is in autocommit.

Tried on 2 cores, 100,000 jobs that do nothing, in jobs a second: limit 10: 909, 100: 4,421, 500: 5,297, 2,000: 5,799;
without the pause between fetches (debounce_interval 0, docs/defining_queues.md), limit 20: 2,359, 100: 4,935, 500: 5,497 (not
taken: it gains little; nor does it for jobs of 10 ms on 50 slots: 2,408 to 2,488 in place of 2,337 to 2,389).

Priority 0 is the first here, 9 the last. `slots` are shared out among the queues, since each queue has a limit of its own.
Jobs that are deferred become due at the next look, which is once a second.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import uvloop
from oban import Oban, worker
from oban.schema import install_sql

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work
from benchmarks.compare.drivers.loops import Loop
from benchmarks.compare.drivers.tally import Tally

_WAITING = """
insert into oban_jobs (state, queue, worker, max_attempts, priority, args, scheduled_at)
select %(state)s::oban_job_state, {queue}, %(module)s || '.Entrypoint' || n %% %(entrypoints)s, 20, n %% %(priorities)s,
    jsonb_build_object('payload', %(payload)s::text), timezone('UTC', now()) + %(delay)s::interval
from generate_series(1, %(jobs)s) as n
"""
_FINISHED = """
insert into oban_jobs (state, queue, worker, max_attempts, attempt, args, attempted_by, attempted_at, completed_at)
select 'completed', 'default', %(module)s || '.Entrypoint0', 20, 1, jsonb_build_object('payload', %(payload)s::text),
    array['node.1', gen_random_uuid()::text], timezone('UTC', now()), timezone('UTC', now())
from generate_series(1, %(jobs)s)
"""


_PRIORITIES = 10  # from 0 to 9
_ABOUT = About(
    packages=("oban", "psycopg", "uvloop"),
    crash="runs again, once a look each minute finds it",
    joins="yes",
    finished="the row, for a day",
    remarks={"lanes": "priorities go from 0 to 9: the jobs are spread over these ten"},
)


@dataclass(frozen=True)
class _Driver:
    label: str
    configuration: str
    limit: int = 10
    best: bool = False
    about: About = _ABOUT
    refuses: Mapping[str, str] = field(default_factory=dict)
    unfinished: str | None = (
        "select count(*) from oban_jobs where state in ('available', 'executing') "
        "or state in ('scheduled', 'retryable') and scheduled_at <= timezone('UTC', now())"
    )

    def install(self, dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute(install_sql())

    def fill(self, dsn: str, load: Load) -> None:
        waiting = _WAITING.format(queue=f"'queue_' || n %% {load.queues}" if load.queues > 1 else "'default'")
        with psycopg.connect(dsn, autocommit=True) as connection:
            for sql, jobs, state, delay in (
                (_FINISHED, load.finished, "completed", "0"),
                (waiting, load.deferred, "scheduled", "7 days"),
                (waiting, load.waiting, "available", "0"),
            ):
                if jobs:
                    kinds = {"module": __name__, "entrypoints": load.entrypoints, "priorities": min(load.priorities, _PRIORITIES)}
                    connection.execute(sql.encode(), {"jobs": jobs, "payload": PAYLOAD, "state": state, "delay": delay, **kinds})

    @contextmanager
    def produce(self, dsn: str) -> Iterator[_Producer]:
        with (
            closing(Loop(uvloop.new_event_loop())) as loop,
            loop.within(_opened(loop.run(Oban.create_pool(dsn)))) as pool,
            loop.within(loop.run(psycopg.AsyncConnection.connect(dsn, autocommit=True))) as connection,
        ):
            yield _Producer(loop, Oban(pool=pool), connection, self.best)

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        uvloop.run(self._work(dsn, work, tally))

    async def _work(self, dsn: str, work: Work, tally: Tally) -> None:
        for number in range(work.entrypoints):
            _entrypoint(number, _handler(work.pause, tally))
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with _opened(await Oban.create_pool(dsn)) as pool, Oban(pool=pool, queues=self._queues(work)):
            await ended.wait()

    def _queues(self, work: Work) -> dict[str, int]:
        """Each has slots of its own."""
        names = ["default"] if work.queues == 1 else [f"queue_{number}" for number in range(work.queues)]
        limit = self.limit if work.slots is None else max(work.slots // work.queues, 1)
        return dict.fromkeys(names, limit)


@asynccontextmanager
async def _opened(pool: Any) -> AsyncIterator[Any]:
    try:
        yield pool
    finally:
        await pool.close()


def _entrypoint(number: int, process: Any) -> Any:
    """A worker class, by whose name its jobs are found."""
    return worker()(type(f"Entrypoint{number}", (), {"__module__": __name__, "process": process}))


def _handler(pause: float, tally: Tally) -> Any:
    async def noop(_worker: object, job: Any) -> None:
        tally.ran(job.args["payload"])

    async def waiting(_worker: object, job: Any) -> None:
        await asyncio.sleep(pause)
        tally.ran(job.args["payload"])

    return waiting if pause else noop


async def _elsewhere(_worker: object, _job: Any) -> None:
    """What a producer, which runs no job, knows of one."""


class _Producer:
    def __init__(self, loop: Loop, oban: Oban, connection: Any, best: bool) -> None:
        self._loop = loop
        self._oban = oban
        self._connection = connection
        self._alone = connection if best else None  # on which a job is enqueued outside of a transaction
        self._used = self._alone
        self._new = _entrypoint(0, _elsewhere).new

    def enqueue(self, payload: str) -> None:
        self._loop.run(self._oban.enqueue(self._new({"payload": payload}), conn=self._used))

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        self._loop.run(self._oban.enqueue_many([self._new({"payload": payload}) for payload in payloads]))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._loop.within(self._connection.transaction()):
            self._used = self._connection
            try:
                yield
            finally:
                self._used = self._alone


DRIVERS = {
    "defaults": _Driver("Oban", "as `oban start` runs it: 10 jobs at once in a queue, uvloop"),
    "best": _Driver("Oban (best)", "2,000 jobs at once in a queue, uvloop", limit=2000, best=True),
}
