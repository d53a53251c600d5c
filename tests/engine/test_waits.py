"""`context.sleep`: a handler that waits keeps nobody waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import Context, DatabaseRetry, Job, NewJob, PgQueuer
from tests.entrypoints.support import record_of, run_one
from tests.waiting import PATIENCE, wait_until

HOUR = timedelta(hours=1)


class Sleeper:
    """A handler that sleeps, and tells when it is about to."""

    def __init__(self, before: Callable[[Context], object] = lambda context: None) -> None:
        self.begun = threading.Event()
        self._before = before

    def __call__(self, job: Job, context: Context) -> None:
        self.begun.set()
        self._before(context)
        context.sleep(HOUR)


@pytest.mark.parametrize("duration", [0, 0.01, timedelta(milliseconds=10)])
def test_a_handler_goes_on_when_the_time_is_over(either: PgQueuer, duration: Any) -> None:
    def handler(job: Job, context: Context) -> str:
        context.sleep(duration)
        return "went on"

    assert run_one(either, handler, store_result=True).result == "went on"


@pytest.mark.parametrize(
    ("duration", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (None, TypeError)]
)
def test_what_is_no_duration_is_refused(either: PgQueuer, duration: Any, error: type[Exception]) -> None:
    def handler(job: Job, context: Context) -> None:
        with pytest.raises(error, match=f"^duration={duration!r}"):
            context.sleep(duration)

    assert run_one(either, handler).status == "succeeded"


def test_a_cancel_request_ends_it(either: PgQueuer) -> None:
    sleeper = Sleeper()
    either.entrypoint("sleeps")(sleeper)
    job_id = either.enqueue("sleeps")
    with either.worker():
        assert sleeper.begun.wait(PATIENCE)
        either.jobs.cancel([job_id])
        wait_until(lambda: record_of(either, job_id).status == "cancelled")


def test_the_end_of_the_attempts_time_ends_it(either: PgQueuer) -> None:
    record = run_one(either, Sleeper(), timeout=0.05, on_failure="hold")
    assert (record.status, record.errors[0]["type"]) == ("held", "pgq_sync.errors.JobTimeout")
    assert record.errors[0]["message"] == "the attempt took longer than its timeout of 0.05 s"


@pytest.mark.parametrize("timeout", [None, 3600])
@pytest.mark.parametrize("before", [lambda context: None, lambda context: wait_until(lambda: context.stopping)])
def test_a_worker_that_stops_puts_the_job_back_at_once(
    either: PgQueuer, before: Callable[[Context], object], timeout: float | None
) -> None:
    sleeper = Sleeper(before)
    either.entrypoint("sleeps", timeout=timeout, retry=DatabaseRetry(initial_delay=HOUR, max_delay=HOUR))(sleeper)
    job_id = either.enqueue("sleeps")
    worker = either.worker(shutdown_timeout=HOUR)
    worker.start()
    assert sleeper.begun.wait(PATIENCE)
    report = worker.stop()

    assert (dict(report.counts), report.requeued) == ({"retried": 1}, 0)
    record = record_of(either, job_id)
    assert (record.status, record.attempts) == ("queued", 0)
    assert [error["type"] for error in record.errors] == ["Interrupted"]


def test_a_job_that_was_asked_to_cancel_is_not_put_back(either: PgQueuer) -> None:
    sleeper = Sleeper(lambda context: wait_until(lambda: context.stopping and context.cancel_requested))
    either.entrypoint("sleeps")(sleeper)
    job_id = either.enqueue("sleeps")
    worker = either.worker(shutdown_timeout=HOUR)
    worker.start()
    assert sleeper.begun.wait(PATIENCE)
    either.jobs.cancel([job_id])
    worker.stop()
    assert record_of(either, job_id).status == "cancelled"


def test_a_running_job_that_does_not_sleep_may_finish(either: PgQueuer) -> None:
    begun = threading.Event()

    @either.entrypoint("works")
    def works(job: Job, context: Context) -> None:
        begun.set()
        wait_until(lambda: context.stopping)
        context.check()  # nothing is wrong yet

    job_id = either.enqueue("works")
    worker = either.worker(shutdown_timeout=HOUR)
    worker.start()
    assert begun.wait(PATIENCE)
    worker.stop()
    assert record_of(either, job_id).status == "succeeded"


def test_a_job_that_never_waits_makes_no_event(either: PgQueuer) -> None:
    contexts: list[Context] = []
    run_one(either, lambda job, context: contexts.append(context))
    assert contexts[0]._cancelled is None


def test_deadlines_that_strike_at_any_moment_of_a_wait_fail_that_job_and_nothing_else(either: PgQueuer) -> None:
    either.entrypoint("naps", timeout=0.004)(lambda job, context: [context.sleep(0.0004) for _ in range(100)])
    either.entrypoint("fine")(lambda job: None)
    either.enqueue_many(NewJob(entrypoint="naps") for _ in range(400))
    either.enqueue_many(NewJob(entrypoint="fine") for _ in range(400))
    assert either.drain().counts == {"failed": 400, "succeeded": 400}
    kinds = {error["type"] for record in either.jobs.find(status="failed", limit=400) for error in record.errors}
    assert kinds == {"pgq_sync.errors.JobTimeout"}
