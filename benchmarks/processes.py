"""Scenario processes: what jobs that keep a processor busy gain by processes of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from benchmarks.children import PATIENCE
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import application, database, wait_until_empty
from pgq_sync import EntrypointExecutor, Job, NewJob, ProcessExecutor
from pgq_sync.entrypoints.options import ExecutorFactory

PROCESSES = 2
_ROUNDS = 2_000_000  # of a loop: some 20 ms


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    # Here, and not in a process apart like the other workers: those are daemons, which multiprocessing lets start nothing.
    thread = _rate(server, extent.busy_jobs, EntrypointExecutor)
    processes = _rate(server, extent.busy_jobs, partial(ProcessExecutor, max_workers=PROCESSES))
    return [
        Reading("in threads", thread, "jobs/s"),
        Reading(f"in {PROCESSES} processes", processes, "jobs/s"),
        Reading("processes / threads", processes / thread, "", Goal(">=", 1.7)),
    ]


def busy(job: Job) -> int:
    """Keeps a processor busy, each time for as long."""
    return sum(range(_ROUNDS if job.payload is None else 0))


def _rate(server: str, jobs: int, executor: ExecutorFactory) -> float:
    with database(server) as dsn, application(dsn) as pgq:
        pgq.entrypoint("busy", executor_factory=executor)(busy)
        with pgq.worker(concurrency=PROCESSES):
            pgq.enqueue_many([NewJob(entrypoint="busy", payload="start")] * PROCESSES)
            wait_until_empty(dsn, PATIENCE)
            started = time.perf_counter()
            pgq.enqueue_many([NewJob(entrypoint="busy")] * jobs)
            wait_until_empty(dsn, PATIENCE)
            return jobs / (time.perf_counter() - started)
