"""Scenario pruning: history of many days is forgotten while a worker drains; and it is tried while somebody reads in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from benchmarks.children import child
from benchmarks.draining import work
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import checkpoint, database, load
from pgq_sync.storage.names import Names

DAYS = 9  # of partitions, all of them past retention
_BEGUN = 0.3  # of the jobs, after which it is pruned

_MADE = Names().fill("select made from {maintain}(statement_timestamp() - interval '20 days')")
_FINISHED = Names().fill(
    "insert into {history} (id, finished_at, execute_after, created_at, claimed_at, fence, attempts, priority, worker_id, "
    "status, queue, entrypoint, payload) select n, day, day, day, day, 1, 1, 0, gen_random_uuid(), 'succeeded', 'default', "
    "'entrypoint_0', convert_to(repeat('x', 100), 'UTF8') from generate_series(1, %(jobs)s) as n, "
    "lateral (select statement_timestamp() + (n %% %(days)s - 21) * interval '1 day' as day) as at"
)
_PRUNED = Names().fill("select dropped from {maintain}(null, interval '7 days')")
_LEFT = Names().fill("select count(*) from {job}")


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    jobs, rows = extent.drain_jobs, extent.pruned_rows
    with _kept(server, rows, jobs) as dsn:
        alone, _, _ = _drained(dsn, jobs, prune=False)
    with _kept(server, rows, jobs) as dsn:
        pruned, seconds, days = _drained(dsn, jobs, prune=True)
    if days != DAYS:
        raise RuntimeError(f"{days} of {DAYS} partitions were dropped")
    with _kept(server, rows, jobs) as dsn, _reader(dsn):
        hindered, tried, days = _drained(dsn, jobs, prune=True)
    if days:
        raise RuntimeError("partitions were dropped from under a reader")
    return [
        Reading("drain", alone, "jobs/s"),
        Reading(f"{rows:,} rows of {DAYS} days pruned meanwhile", pruned, "jobs/s"),
        Reading("pruned / alone", pruned / alone, "", Goal(">=", 0.8)),
        Reading("pruning takes", seconds * 1000, "ms"),
        Reading("tried in vain beside a reader", hindered, "jobs/s"),
        Reading("in vain / alone", hindered / alone, "", Goal(">=", 0.5)),
        Reading("trying takes", tried * 1000, "ms"),
    ]


def _drained(dsn: str, jobs: int, *, prune: bool) -> tuple[float, float, int]:
    """Jobs per second of a drain; how long the pruning took that came in its midst, and how many partitions it dropped."""
    seconds, days = 0.0, 0
    with psycopg.connect(dsn, autocommit=True) as connection, child(work, dsn, 1) as process:
        if prune:
            while connection.execute(_LEFT.encode()).fetchall()[0][0] > jobs * (1 - _BEGUN):
                time.sleep(0.005)
            started = time.perf_counter()
            days = connection.execute(_PRUNED.encode()).fetchall()[0][0]
            seconds = time.perf_counter() - started
        done, taken = process.answer()
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were run")
    return jobs / taken, seconds, days


@contextmanager
def _kept(server: str, rows: int, jobs: int) -> Iterator[str]:
    """A database with so much history past retention, and so many jobs."""
    with database(server) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(_MADE.encode())
            connection.execute(_FINISHED.encode(), {"jobs": rows, "days": DAYS})
        load(dsn, jobs)
        checkpoint(dsn)
        yield dsn


@contextmanager
def _reader(dsn: str) -> Iterator[None]:
    """A transaction that has read in history, and is open."""
    with psycopg.connect(dsn) as connection:
        connection.execute(Names().fill("select count(*) from {history} where id = 1").encode())
        yield
