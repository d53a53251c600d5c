"""Scenario claim_flat: what a claim of 100 jobs costs with few jobs waiting, with many, and with many deferred ones too.

Measured with the planner's statistics and without, as right after a bulk load. Claims on the small and on the large
queue take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import analyze, application, checkpoint, database, load, without_autovacuum
from pgq_sync import Job, Settings
from pgq_sync.engine.limits import LocalLimits
from pgq_sync.models import Room
from pgq_sync.storage.claiming import Claimer

CLAIMS = 30
ROOM = 100  # jobs in each claim
_FLAT = Goal("<=", 1.5)

Prepare = Callable[[str], None]


class Queue:
    """A database's queue with one claimer, whose statement was prepared while the queue was small."""

    def __init__(self, dsn: str, claimer: Claimer) -> None:
        self.dsn = dsn
        self.waiting = 0
        self._claimer = claimer

    def fill(self, jobs: int) -> None:
        load(self.dsn, jobs)
        self.waiting += jobs

    def claim(self, *, thorough: bool = False) -> float:
        """Claims once, and tells how many milliseconds that took."""
        started = time.perf_counter()
        claimed = self._claimer.claim(Room(ROOM), thorough=thorough)
        taken = (time.perf_counter() - started) * 1000
        if len(claimed) != ROOM:
            raise RuntimeError(f"a claim brought {len(claimed)} jobs in place of {ROOM}")
        self.waiting -= ROOM
        return taken


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    with _queue(server) as small, _queue(server) as large:
        large.fill(extent.claim_few)
        while large.waiting:
            large.claim()
        large.fill(extent.claim_many)
        readings = [*_compare(small, large, extent, "queued", "many / few")]
        load(large.dsn, extent.claim_many, priority=10, delay_days=7)
        return [*readings, *_compare(small, large, extent, "deferred too", "with deferred / few")]


def _compare(small: Queue, large: Queue, extent: Extent, what: str, ratio: str) -> Iterator[Reading]:
    for state, prepare in _STATES.items():
        prepare(large.dsn)
        few, many = _medians(small, large, extent.claim_few, prepare)
        yield Reading(f"{extent.claim_many:,} {what}, {state}", many, "ms")
        yield Reading(f"beside it {extent.claim_few:,} queued, {state}", few, "ms")
        yield Reading(f"{ratio}, {state}", many / few, "", _FLAT)


def _medians(small: Queue, large: Queue, few: int, prepare: Prepare) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = [], []
    # The first claim is not counted: it looks around for lanes, and plans anew where statistics have changed.
    large.claim(thorough=True)
    for _ in range(CLAIMS):
        if small.waiting < ROOM:
            small.fill(few)
            prepare(small.dsn)
            small.claim(thorough=True)
        times[0].append(small.claim())
        times[1].append(large.claim())
    return median(times[0]), median(times[1])


@contextmanager
def _queue(server: str) -> Iterator[Queue]:
    with database(server) as dsn:
        without_autovacuum(dsn)
        with claimer(dsn) as claiming:
            yield Queue(dsn, claiming)


@contextmanager
def claimer(dsn: str) -> Iterator[Claimer]:
    """As a worker's that serves the jobs of `load`."""
    with application(dsn) as pgq:
        pgq.entrypoint("entrypoint_0")(_never_called)
        with pgq.store.claimer(pgq.worker().info, Settings().poll_interval, LocalLimits({}), lambda: None) as claiming:
            yield claiming


def _analyzed(dsn: str) -> None:
    analyze(dsn)
    checkpoint(dsn)


def _never_called(job: Job) -> None:
    raise AssertionError(job)


_STATES: Mapping[str, Prepare] = {"not analyzed": checkpoint, "analyzed": _analyzed}
