"""How fast jobs that wait are worked off: without work, with a pause each, and by two processes."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks import draining, raw
from benchmarks.compare.bench import Bench
from benchmarks.compare.gauges import Meter, Use, server_process, tree
from benchmarks.compare.results import Outcome
from benchmarks.compare.stand import Broken, Rate, Running, Stand

SLOTS, PAUSE = 50, 0.010  # seconds
_TWO = 2
_START = 60.0  # seconds until both processes run jobs


def drain(bench: Bench) -> Outcome:
    """Jobs without work, one process. For pgq-sync also what one connection reaches with claim and finish alone."""
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.drain_jobs)
        rate = measured(bench, stand)
    figures = {"jobs/s": rate.per_second}
    if bench.is_own:
        figures["raw jobs/s"] = draining.rate(bench.server, raw.work, bench.sizes.drain_jobs)
    return Outcome(figures, rate.notes(bench.sizes.drain_jobs))


def measured(bench: Bench, stand: Stand, *, there: int | None = None, **work: Any) -> Rate:
    """How fast the jobs of a drain are run, on a stand where they lie, and perhaps more."""
    with stand.worker(**work) as worker:
        return stand.rate(worker, bench.sizes.drain_jobs, bench.sizes.drain_seconds, there=there)


def waiting(bench: Bench) -> Outcome:
    """Jobs that wait 10 ms on 50 slots: the share of what is possible."""
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.waiting_jobs)
        with stand.worker(slots=SLOTS, pause=PAUSE) as worker:
            rate = stand.rate(worker, bench.sizes.waiting_jobs, bench.sizes.drain_seconds).per_second
    return Outcome({"jobs/s": rate, "share": rate * PAUSE / SLOTS})


def processes(bench: Bench) -> Outcome:
    """One worker process and then two, each from when all of them run jobs; and who keeps the processors busy meanwhile."""
    one, _ = _together(bench, 1)
    two, use = _together(bench, _TWO)
    cores = {"cores busy": min(use.cores / (os.cpu_count() or 1), 1.0), "workers": use.worker}
    server = {} if bench.contestant.redis else {"server": use.server}
    notes = ("the processors' time of Redis is not measured",) if bench.contestant.redis else ()
    return Outcome({"one jobs/s": one, "jobs/s": two, "two / one": two / one, **cores, **server}, notes)


def _together(bench: Bench, processes: int) -> tuple[float, Use]:
    """How many jobs a second so many processes run, and what of the processors that takes."""
    jobs = bench.sizes.process_jobs
    with bench.stand() as stand:
        stand.fill(waiting=jobs)
        with stand.worker(processes=processes) as worker:
            _all_work(worker, jobs)
            server = None if bench.contestant.redis else server_process(bench.server)
            meter, before, started = Meter(worker.pids, server), worker.tallied.count(), time.monotonic()
            worker.until(lambda: worker.tallied.count() >= jobs, bench.sizes.drain_seconds)
            rate = (min(worker.tallied.count(), jobs) - before) / (time.monotonic() - started)
            return rate, meter.use()


def _all_work(worker: Running, jobs: int) -> None:
    """Waits until each process runs jobs."""

    def working() -> bool:
        return all(worker.tallied.processes() & tree([pid]) for pid in worker.pids)

    worker.until(lambda: working() or worker.tallied.count() >= jobs, _START)
    if not working():
        raise Broken(f"not each of the workers has run jobs:\n{worker.said()}")
    if worker.tallied.count() >= jobs:
        raise Broken(f"all {jobs:,} jobs had run before each of the workers had run one")
