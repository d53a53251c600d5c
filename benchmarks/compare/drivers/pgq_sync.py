"""pgq-sync itself, as an application would use it: at its defaults."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any

import psycopg

from benchmarks.compare.drivers.base import PAYLOAD, About, Load, Work
from benchmarks.compare.drivers.tally import Tally
from pgq_sync import Job, NewJob, PgQueuer, Settings
from pgq_sync.storage.names import Names

_ABOUT = About(
    packages=("pgq-sync", "psycopg"),
    crash="runs again",
    joins="yes",
    finished="a row with payload, until its retention ends",
    stored="on disk",
    remarks={
        "drain": "its worker does not wait for the disk when it commits a claim, since a claim that a crash of the server loses "
        "leaves the job queued; it waits for that of an outcome",
    },
)


class PgqSync:
    """At the default settings."""

    label = "pgq-sync"
    configuration = "default settings"
    about = _ABOUT
    refuses: Mapping[str, str] = MappingProxyType({})
    unfinished = Names().fill("select count(*) from {job} where execute_after <= now()")

    def install(self, dsn: str) -> None:
        with _application(dsn) as pgq:
            pgq.schema.install()

    def fill(self, dsn: str, load: Load) -> None:
        waiting = (
            "insert into {job} (queue, entrypoint, priority, execute_after, payload) "
            f"select case when {load.queues} > 1 then 'queue_' || n %% {load.queues} else 'default' end, "
            f"'entrypoint_' || n %% {load.entrypoints}, n %% {load.priorities}, "
            "statement_timestamp() + %(delay)s::interval, convert_to(%(payload)s, 'UTF8') from generate_series(1, %(jobs)s) as n"
        )
        finished = (
            "insert into {history} (id, finished_at, execute_after, created_at, claimed_at, fence, attempts, priority, "
            "worker_id, status, queue, entrypoint, payload) select n, now(), now(), now(), now(), 1, 1, 0, "
            "gen_random_uuid(), 'succeeded', 'default', 'entrypoint_0', convert_to(%(payload)s, 'UTF8') "
            "from generate_series(1, %(jobs)s) as n"
        )
        with psycopg.connect(dsn, autocommit=True) as connection:
            for sql, jobs, delay in (
                (finished, load.finished, ""),
                (waiting, load.deferred, "7 days"),
                (waiting, load.waiting, "0"),
            ):
                if jobs:
                    connection.execute(Names().fill(sql).encode(), {"jobs": jobs, "payload": PAYLOAD, "delay": delay})

    @contextmanager
    def produce(self, dsn: str) -> Iterator[_Producer]:
        with _application(dsn) as pgq, psycopg.connect(dsn, autocommit=True) as connection:
            yield _Producer(pgq, connection)

    def work(self, dsn: str, work: Work, tally: Tally) -> None:
        with _application(dsn) as pgq:
            for number in range(work.entrypoints):
                pgq.entrypoint(f"entrypoint_{number}")(_handler(work.pause, tally))
            ended = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: ended.set())
            with pgq.worker(concurrency=work.slots):
                ended.wait()


class _Producer:
    def __init__(self, pgq: PgQueuer, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._producer = pgq.on(connection)

    def enqueue(self, payload: str) -> None:
        self._producer.enqueue("entrypoint_0", payload)

    def enqueue_many(self, payloads: Sequence[str]) -> None:
        self._producer.enqueue_many(NewJob(entrypoint="entrypoint_0", payload=payload) for payload in payloads)

    def transaction(self) -> AbstractContextManager[object]:
        return self._connection.transaction()


def _handler(pause: float, tally: Tally) -> Any:
    def noop(job: Job) -> None:
        tally.ran(job.payload)

    def waiting(job: Job) -> None:
        time.sleep(pause)
        tally.ran(job.payload)

    return waiting if pause else noop


def _application(dsn: str) -> PgQueuer:
    return PgQueuer.from_dsn(dsn, settings=Settings())


DRIVERS = {"defaults": PgqSync()}
