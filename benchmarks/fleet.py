"""Scenario fleet_looks: how many looks and claims 16 idle workers send for single jobs that arrive one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.children import PATIENCE, Pipe, child
from benchmarks.counting import recorded_statements
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import application, database, wait_until_empty
from benchmarks.stopwatch import ENTRYPOINT, serve_stopwatch, stamp
from pgq_sync import Settings

PROCESSES = 4
WORKERS = 4  # in each process
RATE = 500  # jobs per second
_PRODUCERS = 4  # threads: a commit that is slow for once does not delay the others
_LOOKS = ("lanes", "peek", "claim")

Enqueue = Callable[[bytes], Any]


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    with database(server) as dsn, application(dsn) as pgq, ExitStack() as stack:
        workers = [stack.enter_context(child(serve, dsn)) for _ in range(PROCESSES)]
        for worker in workers:
            worker.answer()
        # Each worker learns with its beat how many they are.
        time.sleep(Settings().beat_interval.total_seconds() * 1.2)
        for worker in workers:
            worker.tell("count")
            worker.answer()
        seconds = _enqueue_all(lambda payload: pgq.enqueue(ENTRYPOINT, payload), RATE * extent.fleet_seconds)
        wait_until_empty(dsn, PATIENCE)
        for worker in workers:
            worker.tell("stop")
        answers = [worker.answer() for worker in workers]
    return _readings(answers, seconds)


def serve(pipe: Pipe, dsn: str) -> None:
    """A process with some of the workers; it reports what they sent since it was told to count, and how long jobs waited."""
    with application(dsn) as pgq, recorded_statements() as sent:
        waits = serve_stopwatch(pgq)
        with ExitStack() as stack:
            for worker in [stack.enter_context(pgq.worker()) for _ in range(WORKERS)]:
                worker.listening.wait()
            pipe.send("ready")
            pipe.recv()
            sent.clear()
            pipe.send("counting")
            pipe.recv()
            counts = Counter(sent)
        pipe.send((counts, [waits.get() for _ in range(waits.qsize())]))


def _readings(answers: Sequence[tuple[Counter[str], list[int]]], seconds: float) -> Sequence[Reading]:
    counts: Counter[str] = Counter()
    waits: list[int] = []
    for sent, waited in answers:
        counts += sent
        waits += waited
    jobs = len(waits)
    return [
        Reading("enqueued", jobs / seconds, "jobs/s"),
        Reading("looks for lanes per job", (counts["lanes"] + counts["peek"]) / jobs),
        Reading("claims per job", counts["claim"] / jobs),
        Reading("both per job", sum(counts[name] for name in _LOOKS) / jobs, "", Goal("<=", 2)),
        Reading("latency: median", median(waits) / 1e6, "ms"),
    ]


def _enqueue_all(enqueue: Enqueue, jobs: int) -> float:
    """Enqueues at the rate, and tells how many seconds it took."""
    started = time.monotonic()
    with ThreadPoolExecutor(_PRODUCERS) as pool:
        shares = [pool.submit(_enqueue_share, enqueue, jobs, first, started) for first in range(_PRODUCERS)]
        for share in shares:
            share.result()
    return time.monotonic() - started


def _enqueue_share(enqueue: Enqueue, jobs: int, first: int, started: float) -> None:
    """Every n-th job, each at its own time: whoever is late catches up."""
    for number in range(first, jobs, _PRODUCERS):
        time.sleep(max(0.0, started + number / RATE - time.monotonic()))
        enqueue(stamp())
