"""Scenario limits: how many no-op jobs per second a limited entrypoint runs, and what it costs the others beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.children import Pipe, child
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import application, checkpoint, database, entrypoint_names, load
from pgq_sync import Job

PROCESSES = 4
WAITING = 1_000  # limited jobs beside the others
_PLAIN, _LIMITED = entrypoint_names(2)
_SELDOM = 1e-6  # requests per second: the first job spends the only token of the measurement
_ENOUGH = Goal(">=", 200)


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    alone, beside = _plain(server, extent.entrypoint_jobs, 0), _plain(server, extent.entrypoint_jobs, WAITING)
    return [
        Reading("1 at once, 1 worker", _rate(server, extent.limit_jobs, 1, 1), "jobs/s", _ENOUGH),
        Reading(f"1 at once, {PROCESSES} workers", _rate(server, extent.limit_jobs, 1, PROCESSES), "jobs/s", _ENOUGH),
        Reading("5 at once, 1 worker", _rate(server, extent.limit_jobs, 5, 1), "jobs/s"),
        Reading(f"5 at once, {PROCESSES} workers", _rate(server, extent.limit_jobs, 5, PROCESSES), "jobs/s"),
        Reading("unlimited ones, alone", alone, "jobs/s"),
        Reading("unlimited ones, beside a reached limit", beside, "jobs/s"),
        Reading("beside / alone", beside / alone, "", Goal(">=", 0.9)),
    ]


def drain(pipe: Pipe, dsn: str, limit: int) -> None:
    """A process that drains what is limited to so many at once; it reports how many jobs it ran."""
    with application(dsn) as pgq:
        pgq.entrypoint(_PLAIN, concurrency_limit=limit)(_nothing)
        pipe.send("ready")
        pipe.recv()
        pipe.send(pgq.drain().counts["succeeded"])


def work(pipe: Pipe, dsn: str, jobs: int) -> None:
    """The process that runs so many jobs; it reports how many seconds that took."""
    with application(dsn) as pgq:
        pgq.entrypoint(_PLAIN)(_nothing)
        pgq.entrypoint(_LIMITED, requests_per_second=_SELDOM)(_nothing)
        started = time.perf_counter()
        pgq.run(max_jobs=jobs)
        pipe.send(time.perf_counter() - started)


def _rate(server: str, jobs: int, limit: int, processes: int) -> float:
    with database(server) as dsn, ExitStack() as stack:
        load(dsn, jobs)
        checkpoint(dsn)
        workers = [stack.enter_context(child(drain, dsn, limit)) for _ in range(processes)]
        for worker in workers:
            worker.answer()
        started = time.perf_counter()
        for worker in workers:
            worker.tell("go")
        done = sum(worker.answer() for worker in workers)
        seconds = time.perf_counter() - started
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were run")
    return float(jobs / seconds)


def _plain(server: str, jobs: int, limited: int) -> float:
    with database(server) as dsn:
        load(dsn, jobs)
        load(dsn, 2 * limited, entrypoints=2)
        checkpoint(dsn)
        with child(work, dsn, jobs) as process:
            return float(jobs / process.answer())


def _nothing(job: Job) -> None:
    return
