"""Limited entrypoints in a worker: nothing of them is left over, and the worker sleeps while it has to wait for them."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pgq_sync import Job, NewJob, PgQueuer
from pgq_sync.engine.completer import Completer
from pgq_sync.models import DeclaredLimit
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


def test_a_worker_whose_outcomes_wait_does_not_look_for_limited_jobs_all_the_time(
    either: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, overloaded = threading.Event(), threading.Event()
    monkeypatch.setattr(Completer, "overloaded", property(lambda self: overloaded.is_set()))
    either.entrypoint("limited", requests_per_second=5, burst=1)(lambda job: done.set())
    either.enqueue_many(NewJob(entrypoint="limited") for _ in range(10))
    with either.worker(poll_interval=NO_POLL) as worker:
        assert done.wait(PATIENCE)
        rounds = 0
        room = worker._listener._room

        def counted() -> object:
            nonlocal rounds
            rounds += 1
            return room()

        monkeypatch.setattr(worker._listener, "_room", counted)
        overloaded.set()
        worker._listener.wake()
        threading.Event().wait(1.0)
        assert 0 < rounds < 100
        overloaded.clear()
        worker._listener.wake()


def test_a_job_that_was_enqueued_without_a_notification_is_found_by_a_poll(either: PgQueuer) -> None:
    ran = threading.Event()
    either.entrypoint("quiet")(lambda job: ran.set())
    with either.worker(poll_interval=timedelta(milliseconds=200)) as worker:
        assert worker.listening.wait(PATIENCE)
        either.enqueue("quiet", notify=False)
        assert ran.wait(PATIENCE / 3)


@pytest.mark.parametrize("lifted", [False, True], ids=["widened", "lifted"])
def test_a_worker_obeys_a_wider_limit_that_a_later_one_declares(either: PgQueuer, lifted: bool) -> None:
    running, finish = threading.Semaphore(0), threading.Event()

    @either.entrypoint("limited", concurrency_limit=1)
    def limited(job: Job) -> None:
        running.release()
        assert finish.wait(PATIENCE)

    either.enqueue_many(NewJob(entrypoint="limited") for _ in range(3))
    with either.worker(poll_interval=NO_POLL):
        assert running.acquire(timeout=PATIENCE)
        either.store.limits.declare([] if lifted else [DeclaredLimit("limited", 3)], ["limited"] if lifted else [])
        assert running.acquire(timeout=PATIENCE)
        assert running.acquire(timeout=PATIENCE)
        finish.set()
