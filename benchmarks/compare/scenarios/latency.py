"""How long a job waits on a worker that has nothing else to do, at several rates, from a producer that does not wait for jobs.

Counted from the enqueue call: what a producer falls behind its rate, up to a twentieth, is in no figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.compare.bench import Bench
from benchmarks.compare.results import Outcome
from benchmarks.compare.sizes import Pace
from benchmarks.compare.stand import Asking, Broken, Running

_KEPT = 0.95  # of the rate; a producer slower than that measures something else
_UNSTEADY = 0.1  # of the jobs, the first ones: connections open, statements get prepared
_BEGINNING = 10.0  # seconds after the last one was enqueued, in which all shall have begun
_PERCENTILES = (50, 95, 99)


def measure(bench: Bench) -> Outcome:
    figures: dict[str, float] = {}
    notes: list[str] = []
    with bench.stand() as stand, stand.producer() as producer, stand.worker() as worker:
        warm(producer, worker, bench.sizes.warm_jobs)
        for pace in bench.sizes.paces:
            try:
                figures |= at(pace, producer, worker, prefix=f"{pace.rate:,}/s ")
            except Broken as broken:
                notes.append(f"{broken}; higher rates were not tried")
                break  # what has not begun yet would be counted to the next rate
    if not figures:
        raise Broken("; ".join(notes))
    return Outcome(figures, tuple(notes))


def warm(producer: Asking, worker: Running, jobs: int) -> None:
    """Has the worker run its first jobs."""
    before = worker.tallied.count()
    producer.ask("single", jobs=jobs, per_transaction=1)
    worker.begun(before + jobs)


def at(pace: Pace, producer: Asking, worker: Running, *, prefix: str = "") -> Mapping[str, float]:
    """The percentiles at one rate, in milliseconds.

    Raises:
        Broken: the rate was not kept, or not all jobs have begun.
    """
    jobs, before = int(pace.rate * pace.seconds), worker.tallied.count()
    seconds = producer.ask("pace", rate=pace.rate, jobs=jobs, connections=pace.connections)
    if not worker.until(lambda: worker.tallied.count() >= before + jobs, _BEGINNING):
        begun = worker.tallied.count() - before
        raise Broken(f"at {pace.rate:,}/s {begun:,} of {jobs:,} jobs had begun {_BEGINNING:g} s after the last was enqueued")
    if (reached := jobs / seconds) < _KEPT * pace.rate:
        raise Broken(f"at {pace.rate:,}/s the producer reached {reached:,.0f}/s")
    waits = [wait * 1000 for _, wait in worker.tallied.waits()[-jobs:]][int(jobs * _UNSTEADY) :]
    return {f"{prefix}p{percent}": percentile(waits, percent) for percent in _PERCENTILES}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
