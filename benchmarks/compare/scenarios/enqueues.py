"""How fast jobs are enqueued: in transactions, and in batches."""

from __future__ import annotations

from functools import partial

from benchmarks.compare.bench import Bench
from benchmarks.compare.results import Outcome
from benchmarks.compare.scenarios import own
from benchmarks.compare.stand import Asking

BATCH = 1_000
_TASTE = {1: 50, own.HUNDRED: 500, BATCH: 3_000}  # jobs, from which follows how many fit into the time


def single(bench: Bench) -> Outcome:
    """One by one in a transaction each, and a hundred in one. For pgq-sync also beside a bare insert."""
    sizes = bench.sizes
    with bench.stand() as stand:
        with stand.producer() as producer:
            rate = partial(
                _rate, producer, "single", unit="per_transaction", jobs=sizes.enqueue_jobs, seconds=sizes.enqueue_seconds
            )
            outcome = bench.parts("enqueue", {f"{count} in each": partial(rate, count=count) for count in (1, own.HUNDRED)})
        beside = own.beside_insert(stand.dsn, sizes.turns, sizes.turn_jobs) if bench.is_own else {}
    return Outcome({**outcome.figures, **beside}, outcome.notes)


def batches(bench: Bench) -> Outcome:
    """A thousand at once, by whatever the library has for that."""
    with bench.stand() as stand, stand.producer() as producer:
        sizes = bench.sizes
        rate = _rate(producer, "batches", count=BATCH, unit="batch", jobs=sizes.batch_jobs, seconds=sizes.batch_seconds)
    return Outcome({"jobs/s": rate})


def _rate(producer: Asking, do: str, *, count: int, unit: str, jobs: int, seconds: float) -> float:
    """Jobs per second, over as many as fit into the seconds, but no more than `jobs`."""
    taste = _TASTE[count]
    fit = taste / producer.ask(do, jobs=taste, **{unit: count}) * seconds
    jobs = max(int(min(fit, jobs)) // count * count, count)
    return jobs / producer.ask(do, jobs=jobs, **{unit: count})
