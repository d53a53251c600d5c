"""Scenario latency: from just before the enqueue call to the handler's first line, in another process.

Beside it, in turns and in a database of its own, the least that PostgreSQL allows: `bare`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any

import psycopg

from benchmarks import bare
from benchmarks.children import PATIENCE, Child, Pipe, child
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import application, database
from benchmarks.stopwatch import ENTRYPOINT, serve_stopwatch, stamp

PACE = 0.02  # seconds between two enqueues, on average
_WARM_UP = 20  # jobs that are not counted: connections open, statements get prepared

Enqueue = Callable[[bytes], Any]


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    jobs = _WARM_UP + extent.latency_jobs
    with _product(server, jobs) as (enqueue, worker), _bare(server, jobs) as (insert, listener):
        for _ in range(jobs):
            for send in (enqueue, insert):
                time.sleep(random.uniform(0.5, 1.5) * PACE)
                send(stamp())
        own = _readings("worker", worker.answer(), Goal("<=", 2.5), Goal("<=", 10))
        least = _readings("bare", listener.answer())
    return [*own, *least, Reading("worker / bare, medians", own[0].value / least[0].value)]


def serve(pipe: Pipe, dsn: str, jobs: int) -> None:
    """The process with the idle worker."""
    with application(dsn) as pgq:
        waits = serve_stopwatch(pgq)
        with pgq.worker() as worker:
            worker.listening.wait()
            pipe.send("ready")
            taken = [waits.get(timeout=PATIENCE) for _ in range(jobs)]
        pipe.send(taken)


@contextmanager
def _product(server: str, jobs: int) -> Iterator[tuple[Enqueue, Child]]:
    with database(server) as dsn, application(dsn) as pgq, child(serve, dsn, jobs) as worker:
        worker.answer()
        yield lambda payload: pgq.enqueue(ENTRYPOINT, payload), worker


@contextmanager
def _bare(server: str, jobs: int) -> Iterator[tuple[Enqueue, Child]]:
    with database(server, schema=False) as dsn:
        bare.install(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection, child(bare.listen, dsn, jobs) as listener:
            listener.answer()
            yield lambda payload: bare.enqueue(connection, payload), listener


def _readings(who: str, waits: Sequence[int], middle: Goal | None = None, tail: Goal | None = None) -> list[Reading]:
    milliseconds = [wait / 1e6 for wait in waits[_WARM_UP:]]
    return [
        Reading(f"{who}: median", median(milliseconds), "ms", middle),
        Reading(f"{who}: p99", quantiles(milliseconds, n=100)[98], "ms", tail),
    ]
