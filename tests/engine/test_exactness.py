"""Eight workers at once on jobs that take no time: what is limited is limited, by the handlers' account and the table's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import combinations

import psycopg
import pytest

from pgq_sync import Job, NewJob, PgQueuer
from tests.storage.support import query
from tests.waiting import wait_until

WORKERS = 8
CUT = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name like 'pgq-sync%'
"""
FINISHED = "select count(*) from pgq_history where status = 'succeeded'"
TIMES = "select extract(epoch from claimed_at)::float8 from pgq_history order by claimed_at"


class Account:
    """How many handlers run, and how many did at most."""

    def __init__(self) -> None:
        self.most = self.done = 0
        self._running = 0
        self._lock = threading.Lock()

    def run(self, job: Job) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        with self._lock:
            self._running -= 1
            self.done += 1


@contextmanager
def sampled(dsn: str) -> Iterator[list[int]]:
    """How many jobs the table shows as running, asked again and again meanwhile."""
    counts: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with closing(psycopg.connect(dsn, autocommit=True, application_name="sampler")) as connection:
            while not stop.is_set():
                ((count,),) = connection.execute("select count(*) from pgq_job where status = 'running'").fetchall()
                counts.append(count)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


@contextmanager
def workers(pgq: PgQueuer) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(pgq.worker(concurrency=4))
        yield


@pytest.mark.parametrize("limit", [1, 5])
def test_no_more_run_at_once_than_the_limit_allows(pgq: PgQueuer, dsn: str, limit: int) -> None:
    account, jobs = Account(), 400
    pgq.entrypoint("limited", concurrency_limit=limit)(account.run)
    pgq.enqueue_many(NewJob(entrypoint="limited", priority=number % 2) for number in range(jobs))
    with sampled(dsn) as counts, workers(pgq):
        wait_until(lambda: account.done == jobs)
    assert 0 < account.most <= limit
    assert 0 < max(counts) <= limit


def test_the_limit_holds_while_every_connection_is_cut_again_and_again(pgq: PgQueuer, dsn: str) -> None:
    account, jobs = Account(), 400
    pgq.entrypoint("limited", concurrency_limit=2)(account.run)
    pgq.enqueue_many(NewJob(entrypoint="limited") for _ in range(jobs))
    with sampled(dsn) as counts, workers(pgq):
        for share in range(1, 6):
            wait_until(lambda share=share: account.done >= share * 50)  # type: ignore[misc]
            query(dsn, CUT)
        wait_until(lambda: query(dsn, FINISHED) == [(jobs,)])
    assert 0 < account.most <= 2
    assert 0 < max(counts) <= 2
    assert account.done == jobs


def test_no_more_start_in_any_time_than_the_rate_allows(pgq: PgQueuer, dsn: str) -> None:
    account, jobs, rate, burst = Account(), 120, 50.0, 5
    pgq.entrypoint("limited", requests_per_second=rate, burst=burst)(account.run)
    pgq.enqueue_many(NewJob(entrypoint="limited") for _ in range(jobs))
    with workers(pgq):
        wait_until(lambda: query(dsn, FINISHED) == [(jobs,)])
    times = [time for (time,) in query(dsn, TIMES)]
    for (first, earlier), (last, later) in combinations(enumerate(times), 2):
        assert last - first + 1 <= burst + rate * (later - earlier) + 1e-3
