"""How fast jobs that wait are worked off: without work, with a pause each, and by two processes."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks import draining, raw
from benchmarks.compare.bench import Bench
from benchmarks.compare.gauges import Meter, server_process, tree
from benchmarks.compare.results import Outcome
from benchmarks.compare.stand import Broken, Rate, Running, Stand

SLOTS, PAUSE = 50, 0.010  # seconds
_TWO = 2
_START = 60.0  # seconds until both processes run jobs


def drain(bench: Bench) -> Outcome:
    """Jobs without work, one process. For pgq-sync also what one connection reaches with claim and finish alone."""
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.drain_jobs)
        figures = {"jobs/s": measured(bench, stand).per_second}
    if bench.is_own:
        figures["raw jobs/s"] = draining.rate(bench.server, raw.work, bench.sizes.drain_jobs)
    return Outcome(figures)


def measured(bench: Bench, stand: Stand, *, all_there_are: bool = True, **work: Any) -> Rate:
    """How fast the jobs of a drain are run, on a stand where they lie."""
    with stand.worker(**work) as worker:
        return stand.rate(worker, bench.sizes.drain_jobs, bench.sizes.drain_seconds, all_there_are=all_there_are)


def waiting(bench: Bench) -> Outcome:
    """Jobs that wait 10 ms on 50 slots: the share of what is possible."""
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.waiting_jobs)
        with stand.worker(slots=SLOTS, pause=PAUSE) as worker:
            rate = stand.rate(worker, bench.sizes.waiting_jobs, bench.sizes.drain_seconds).per_second
    return Outcome({"jobs/s": rate, "share": rate * PAUSE / SLOTS})


def processes(bench: Bench) -> Outcome:
    """Two worker processes, from when both of them run jobs; and who keeps the processors busy meanwhile."""
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.process_jobs)
        with stand.worker(processes=_TWO) as worker:
            _both(worker, bench.sizes.process_jobs)
            server = None if bench.contestant.redis else server_process(bench.server)
            meter, before, started = Meter(worker.pids, server), worker.tallied.count(), time.monotonic()
            worker.until(lambda: worker.tallied.count() >= bench.sizes.process_jobs, bench.sizes.drain_seconds)
            rate = (worker.tallied.count() - before) / (time.monotonic() - started)
            use = meter.use()
    cores = {"cores busy": min(use.cores / (os.cpu_count() or 1), 1.0), "workers": use.worker}
    return Outcome({"jobs/s": rate, **cores, **({} if server is None else {"server": use.server})})


def _both(worker: Running, jobs: int) -> None:
    """Waits until both run jobs."""

    def working() -> bool:
        return all(worker.tallied.processes() & tree([pid]) for pid in worker.pids)

    worker.until(lambda: working() or worker.tallied.count() >= jobs, _START)
    if not working() or worker.tallied.count() >= jobs:
        raise Broken(f"only one of two workers has run jobs:\n{worker.said()}")
