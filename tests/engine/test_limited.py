"""Limited entrypoints in a worker: nothing of them is left over, and the worker sleeps while it has to wait for them."""

from __future__ import annotations

import threading
from datetime import timedelta

from pgq_sync import Job, NewJob, PgQueuer
from tests.waiting import PATIENCE, wait_until

NO_POLL = timedelta(hours=1)


def test_a_drain_runs_what_waits_for_a_workers_own_rate(either: PgQueuer) -> None:
    claimed = []

    @either.entrypoint("limited", requests_per_second=50, burst=1, limit_scope="worker")
    def limited(job: Job) -> None:
        claimed.append(job.claimed_at)

    either.enqueue_many(NewJob(entrypoint="limited") for _ in range(10))
    assert either.drain(poll_interval=NO_POLL).counts == {"succeeded": 10}
    assert max(claimed) - min(claimed) < timedelta(seconds=5)


def test_a_busy_worker_goes_on_while_a_limited_job_is_deferred_for_a_month(either: PgQueuer) -> None:
    running, finish = threading.Event(), threading.Event()

    @either.entrypoint("busy")
    def busy(job: Job) -> None:
        running.set()
        assert finish.wait(PATIENCE)

    either.entrypoint("limited", concurrency_limit=1)(lambda job: None)
    either.enqueue("limited", execute_after=timedelta(days=30))
    either.enqueue("busy")
    with either.worker(concurrency=1, poll_interval=NO_POLL) as worker:
        assert worker.listening.wait(PATIENCE)
        assert running.wait(PATIENCE)
        either.enqueue("busy")
        finish.set()
        wait_until(lambda: either.jobs.count().get(("busy", "succeeded")) == 2)
