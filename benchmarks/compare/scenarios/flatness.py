"""Whether jobs are run as fast when much lies in the tables, when vacuum is held back, and when they are of many kinds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import psycopg

from benchmarks.compare.bench import Bench
from benchmarks.compare.results import Outcome
from benchmarks.compare.scenarios import own
from benchmarks.compare.scenarios.costs import at_rest
from benchmarks.compare.scenarios.drains import measured
from benchmarks.compare.scenarios.latency import at, percentile, warm
from benchmarks.compare.stand import Stand

_TASTE = 0.02  # of a load, from which follows how much fits into the time
_FASTER = 0.9  # of what that promises: indexes grow


def loaded(bench: Bench) -> Outcome:
    """A drain, with very many jobs waiting, deferred, and finished but kept."""
    load, share = _fitting(bench)
    with bench.stand() as stand:
        stand.fill(**load)
        rate = measured(bench, stand, there=_there(bench, stand)).per_second
    held = ", ".join(f"{jobs:,} {what}" for what, jobs in load.items())
    return Outcome({"jobs/s": rate}, () if share == 1 else (f"with {held}: more cannot be loaded in the time",))


def _fitting(bench: Bench) -> tuple[dict[str, int], float]:
    """The load, or what share of it can be put there in the time."""
    sizes = bench.sizes
    full = {"waiting": sizes.many_waiting, "deferred": sizes.many_deferred, "finished": sizes.many_finished}
    with bench.stand() as stand:
        start = _seconds(stand, waiting=1)
        taste = _seconds(stand, **{what: int(jobs * _TASTE) for what, jobs in full.items()}) - start
    share = 1.0 if taste <= 0 else min(sizes.load_seconds * _TASTE / taste * _FASTER, 1.0)
    load = {what: int(jobs * share) for what, jobs in full.items()}
    return load | {"waiting": max(load["waiting"], sizes.drain_jobs)}, share


def _there(bench: Bench, stand: Stand) -> int:
    """How many jobs are waiting: those of a drain at least."""
    return max(stand.unfinished(), bench.sizes.drain_jobs)


def _seconds(stand: Stand, **load: int) -> float:
    started = time.monotonic()
    stand.load(**load)
    return time.monotonic() - started


def horizon(bench: Bench) -> Outcome:
    """A drain, while a transaction from before many other jobs is open. For pgq-sync also claims, and single jobs after it."""
    bench.on_postgres()
    sizes = bench.sizes
    with bench.stand() as stand, _open_transaction(stand.dsn):
        stand.fill(waiting=sizes.horizon_jobs)
        with stand.worker() as worker:
            done = stand.rate(worker, sizes.horizon_jobs, sizes.horizon_seconds).jobs
        stand.fill(waiting=sizes.drain_jobs)
        figures = {"jobs/s": measured(bench, stand, there=_there(bench, stand)).per_second}
        if bench.is_own:
            figures |= _own_behind(bench, stand)
    notes = () if done >= sizes.horizon_jobs else (f"after {done:,} jobs, all that were run in {sizes.horizon_seconds:g} s",)
    return Outcome(figures, notes)


def _own_behind(bench: Bench, stand: Stand) -> dict[str, float]:
    """Single jobs on the empty queue, and then what claims take."""
    with stand.producer() as producer, stand.worker() as worker:
        warm(producer, worker, bench.sizes.warm_jobs)
        latencies = at(bench.sizes.horizon_pace, producer, worker, prefix="then empty, ")
    stand.fill(waiting=bench.sizes.drain_jobs)
    times = own.claim_times(stand.dsn, bench.sizes.claims)
    return {**latencies, "claim p50 ms": percentile(times, 50), "claim p99 ms": percentile(times, 99)}


@contextmanager
def _open_transaction(dsn: str) -> Iterator[None]:
    """One that has read, so that no row that is deleted from now on can be forgotten."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("begin isolation level repeatable read")
        connection.execute("select count(*) from pg_class")
        yield
        connection.execute("rollback")


def lanes(bench: Bench) -> Outcome:
    """Drains of jobs that are spread over many queues, over many priorities, and over many entrypoints."""
    many, entrypoints = bench.sizes.lanes, bench.sizes.entrypoints
    outcome = bench.parts(
        "lanes",
        {
            "queues": lambda: _spread(bench, {"queues": many}, {"queues": many}),
            "priorities": lambda: _spread(bench, {"priorities": many}, {}),
            "entrypoints": lambda: _spread(bench, {"entrypoints": entrypoints}, {"entrypoints": entrypoints}),
        },
    )
    return Outcome({**outcome.figures, **(_own_lanes(bench) if bench.is_own else {})}, outcome.notes)


def _spread(bench: Bench, load: Mapping[str, int], work: Mapping[str, Any]) -> float:
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.drain_jobs, **load)
        return measured(bench, stand, **work).per_second


def _own_lanes(bench: Bench) -> dict[str, float]:
    """What a claim takes with one lane and with many; what an idle worker takes where many lanes hold deferred jobs only."""
    one, many = _claims(bench, 1), _claims(bench, bench.sizes.lanes)
    with bench.stand() as stand:
        stand.fill(waiting=1, deferred=bench.sizes.lanes, queues=bench.sizes.lanes)
        with stand.worker(queues=bench.sizes.lanes) as worker:
            worker.begun()
            time.sleep(bench.sizes.settle_seconds)
            server = at_rest(bench, worker).get("server %")
    share = {} if server is None else {"idle, deferred: server %": server}
    return {"claim ms, one lane": one, "claim ms, many lanes": many, "claim many / one": many / one, **share}


def _claims(bench: Bench, queues: int) -> float:
    with bench.stand() as stand:
        stand.fill(waiting=bench.sizes.drain_jobs, queues=queues)
        return median(own.claim_times(stand.dsn, bench.sizes.claims))
