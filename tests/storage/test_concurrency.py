"""Many processes on one queue: every job runs exactly once, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from pgq_sync import NewJob, PgQueuer, Settings
from tests.storage.support import hand, query
from tests.waiting import PATIENCE

PROCESSES = 8
ENTRYPOINTS = ("a", "b", "c", "d")

_start: Any = None  # in a child: the barrier at which all of them begin together


def _prepare(barrier: Any) -> None:
    global _start
    _start = barrier


def _work(dsn: str, batch: int) -> list[int]:
    """Claims and finishes until nothing is left; the ids of what this process has run."""
    done: list[int] = []
    with PgQueuer.from_dsn(dsn, settings=Settings()) as pgq, hand(pgq.store, *ENTRYPOINTS) as one:
        _start.wait(PATIENCE)
        # Looks everywhere only when it seems that nothing is left, as a worker does.
        while claims := one.claim(batch, thorough=False) or one.claim(batch):
            settled = one.settle(claims)
            assert not settled.lost
            while settled.blocked:
                # Another claim was about to take the row when ours came first; its lock ends with its statement.
                settled = one.settle(each.claim for each in settled.blocked)
                assert not settled.lost
            done += [claim.job.id for claim in claims]
    return done


@contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_prepare, initargs=(barrier,)) as pool:
        yield pool


@pytest.mark.parametrize("batch", [500, 7])
def test_many_processes_run_every_job_exactly_once(pgq: PgQueuer, dsn: str, batch: int) -> None:
    count = 100 * batch
    ids = pgq.enqueue_many(
        NewJob(entrypoint=ENTRYPOINTS[number % 4], priority=number % 3, dedupe_key=str(number) if number % 10 == 0 else None)
        for number in range(count)
    )

    with _processes() as pool:
        done = [job_id for share in pool.map(_work, [dsn] * PROCESSES, [batch] * PROCESSES) for job_id in share]

    assert sorted(done) == sorted(ids)
    assert query(dsn, "select count(*) from pgq_job") == [(0,)]
    assert query(dsn, "select count(*), count(distinct id), max(attempts) from pgq_history where status = 'succeeded'") == [
        (count, count, 1)
    ]
