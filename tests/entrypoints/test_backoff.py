"""Further tries in the same process: how many, after which waits, and what becomes of the attempt in the end."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import tenacity

from pgq_sync import (
    Cancelled,
    Context,
    DatabaseRetry,
    Hold,
    Job,
    JobTimeout,
    MaxRetriesExceeded,
    PgQueuer,
    Retry,
    RetryWithBackoffEntrypointExecutor,
)
from tests.entrypoints.support import record_of, run_one
from tests.waiting import PATIENCE, wait_until

HOUR = timedelta(hours=1)
PATIENT = functools.partial(RetryWithBackoffEntrypointExecutor, initial_delay=HOUR, max_delay=HOUR, max_time=9 * HOUR)


def backoff(**options: Any) -> Callable[..., RetryWithBackoffEntrypointExecutor]:
    return functools.partial(RetryWithBackoffEntrypointExecutor, **options)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were begun, in seconds; none of them takes any time."""
    begun: list[float] = []
    monkeypatch.setattr(Context, "sleep", lambda context, seconds: begun.append(seconds))
    return begun


class Failing:
    """A handler that fails so many times, and counts its calls."""

    def __init__(
        self, times: float, error: Callable[[int], BaseException] = lambda call: ConnectionError(f"call {call}")
    ) -> None:
        self.calls = 0
        self._times = times
        self._error = error

    def __call__(self, job: Job) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error(self.calls)
        return f"done at call {self.calls}"


def test_a_function_that_fails_is_called_again_within_one_attempt(either: PgQueuer, waits: list[float]) -> None:
    func = Failing(3)
    record = run_one(either, func, executor_factory=RetryWithBackoffEntrypointExecutor, store_result=True)

    assert (record.status, record.attempts, record.result, record.errors) == ("succeeded", 1, "done at call 4", [])
    assert waits == [0.1, 0.2, 0.4]


def test_after_the_last_try_the_attempt_fails_and_tells_the_last_error(either: PgQueuer, waits: list[float]) -> None:
    func = Failing(9)
    record = run_one(either, func, executor_factory=RetryWithBackoffEntrypointExecutor)

    assert (record.status, record.attempts, func.calls, len(waits)) == ("failed", 1, 5, 4)
    (error,) = record.errors
    assert error["type"] == "pgq_sync.errors.MaxRetriesExceeded"
    assert error["message"].startswith("given up after 5 tries in ")
    assert error["message"].endswith(" s; the last one failed by ConnectionError: call 5")
    assert "ConnectionError: call 5\n\nThe above exception was the direct cause of" in error["traceback"]


def test_no_wait_begins_that_would_end_after_the_longest_time(either: PgQueuer, waits: list[float]) -> None:
    func = Failing(9)
    record = run_one(either, func, executor_factory=backoff(initial_delay=10, max_delay=100, max_time=timedelta(seconds=15)))

    assert (record.status, func.calls, waits) == ("failed", 2, [10])  # the second wait would be one of 20 seconds
    (error,) = record.errors
    assert error["type"] == "pgq_sync.errors.MaxTimeExceeded"
    assert error["message"].startswith("no time is left after 2 tries in ")
    assert "ConnectionError: call 2" in error["traceback"]


def test_waits_stay_below_their_longest_and_jitter_adds_at_random(either: PgQueuer, waits: list[float]) -> None:
    run_one(
        either, Failing(99), executor_factory=backoff(max_attempts=60, initial_delay=1, max_delay=4, jitter=0.5, max_time=999)
    )
    assert len(waits) == 59
    assert 1 <= waits[0] <= 1.5
    assert all(4 <= each <= 4.5 for each in waits[2:])
    assert len(set(waits)) > 50


@pytest.mark.parametrize(
    ("retry_on", "calls"),
    [
        (OSError, 3),  # which a ConnectionError is
        (ValueError, 1),
        ((ValueError, ConnectionError), 3),
        (lambda error: "call 1" in str(error), 2),
    ],
)
def test_only_what_is_worth_it_is_tried_again(either: PgQueuer, waits: list[float], retry_on: Any, calls: int) -> None:
    func = Failing(9)
    record = run_one(either, func, executor_factory=backoff(retry_on=retry_on, max_attempts=3))
    assert func.calls == calls
    assert record.errors[0]["type"] == ("pgq_sync.errors.MaxRetriesExceeded" if calls == 3 else "ConnectionError")


@pytest.mark.parametrize(
    "options", [{}, {"retrying": tenacity.Retrying(retry=tenacity.retry_if_exception_type(BaseException))}], ids=["own", "given"]
)
@pytest.mark.parametrize(
    ("control", "status"),
    [
        (Retry(HOUR), "queued"),
        (Hold("look"), "held"),
        (Cancelled(), "cancelled"),
        (JobTimeout("x"), "failed"),
        (SystemExit(), "failed"),
    ],
)
def test_what_steers_the_job_is_no_failure(
    either: PgQueuer, waits: list[float], control: BaseException, status: str, options: Any
) -> None:
    func = Failing(9, lambda call: control)
    record = run_one(either, func, executor_factory=backoff(**options))
    assert (record.status, record.attempts, func.calls, waits) == (status, 1, 1, [])


def test_further_attempts_through_the_database_come_after_those_in_process(either: PgQueuer, waits: list[float]) -> None:
    func = Failing(9)
    policy = DatabaseRetry(max_attempts=2, initial_delay=0)
    record = run_one(either, func, executor_factory=backoff(max_attempts=3), retry=policy)
    assert (record.status, record.attempts, func.calls) == ("failed", 2, 6)
    assert [error["message"][-6:] for error in record.errors] == ["call 3", "call 6"]


def test_the_strategies_of_a_ready_retrying_decide(either: PgQueuer, waits: list[float]) -> None:
    given = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_incrementing(7, 2),
        retry=tenacity.retry_if_exception_type(ConnectionError),
    )
    func = Failing(9)
    record = run_one(either, func, executor_factory=backoff(retrying=given))
    assert (func.calls, waits) == (3, [7, 9])
    assert record.errors[0]["type"] == "pgq_sync.errors.MaxRetriesExceeded"


@pytest.mark.parametrize(
    ("stop", "name"),
    [
        (tenacity.stop_after_delay(0), "MaxTimeExceeded"),
        (tenacity.stop_before_delay(5) | tenacity.stop_after_attempt(9), "MaxTimeExceeded"),
        (tenacity.stop_after_delay(0) | tenacity.stop_after_attempt(1), "MaxRetriesExceeded"),
        (lambda state: True, "MaxRetriesExceeded"),
    ],
)
def test_which_error_follows_from_what_said_stop(either: PgQueuer, waits: list[float], stop: Any, name: str) -> None:
    given = tenacity.Retrying(stop=stop, wait=tenacity.wait_fixed(5))
    (error,) = run_one(either, Failing(9), executor_factory=backoff(retrying=given)).errors
    assert error["type"] == f"pgq_sync.errors.{name}"


def test_a_ready_retrying_that_says_what_to_do_in_the_end_does_that(either: PgQueuer, waits: list[float]) -> None:
    class Own(tenacity.RetryError):
        pass

    once = tenacity.stop_after_attempt(1)
    givens = [
        tenacity.Retrying(stop=once, reraise=True),
        tenacity.Retrying(stop=once, retry_error_cls=Own),
        tenacity.Retrying(stop=once, retry_error_callback=lambda state: "good enough"),
        tenacity.Retrying(stop=once, retry=tenacity.retry_if_result(lambda value: "done" in value)),
    ]
    for number, given in enumerate(givens):
        options: Any = {"executor_factory": backoff(retrying=given), "store_result": True}
        either.entrypoint(f"work {number}", **options)(Failing(9 if number < 3 else 0))
    ids = [either.enqueue(name) for name in either.registry.names()]
    either.drain()
    reraised, own, callback, result = (record_of(either, job_id) for job_id in ids)
    assert reraised.errors[0]["type"] == "ConnectionError"
    assert own.errors[0]["type"].endswith(".Own")
    assert (callback.status, callback.result) == ("succeeded", "good enough")
    assert result.errors[0]["message"].endswith("the last one returned 'done at call 1'")


def test_jobs_that_are_tried_at_the_same_time_do_not_share_their_count(either: PgQueuer) -> None:
    both = threading.Barrier(2, timeout=PATIENCE)
    calls = itertools.count(1)

    @either.entrypoint("work", executor_factory=backoff(max_attempts=3, initial_delay=0))
    def work(job: Job) -> None:
        both.wait()
        next(calls)
        raise ConnectionError

    for _ in range(2):
        either.enqueue("work")
    assert either.drain(concurrency=2).counts == {"failed": 2}
    assert next(calls) == 7


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_attempts": 0}, ValueError),
        ({"max_attempts": 2.5}, TypeError),
        ({"initial_delay": -1}, ValueError),
        ({"initial_delay": 11}, ValueError),  # longer than the longest
        ({"max_delay": "10"}, TypeError),
        ({"max_time": float("inf")}, ValueError),
        ({"jitter": timedelta(-1)}, ValueError),
        ({"retry_on": KeyboardInterrupt}, TypeError),
        ({"retry_on": (ValueError, 5)}, TypeError),
        ({"retry_on": Retry}, TypeError),
        ({"retrying": tenacity.AsyncRetrying()}, TypeError),
        ({"retrying": tenacity.Retrying}, TypeError),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_declared(options: Any, error: type[Exception]) -> None:
    pgq = PgQueuer.in_memory()
    with pytest.raises(error, match=f"^{next(iter(options))}="):
        pgq.entrypoint("work", executor_factory=backoff(**options))(lambda job: None)
    assert pgq.registry.names() == ()


class Refused(Failing):
    """Fails for ever, and tells when it has failed for the first time."""

    def __init__(self) -> None:
        super().__init__(9)
        self.failed = threading.Event()

    def __call__(self, job: Job) -> str:
        self.failed.set()
        return super().__call__(job)


def test_a_wait_ends_at_once_when_the_job_is_cancelled(either: PgQueuer) -> None:
    func = Refused()
    either.entrypoint("work", executor_factory=PATIENT)(func)
    job_id = either.enqueue("work")
    with either.worker():
        assert func.failed.wait(PATIENCE)
        either.jobs.cancel([job_id])
        wait_until(lambda: record_of(either, job_id).status == "cancelled")
    assert func.calls == 1


def test_a_wait_ends_when_the_attempts_time_is_over(either: PgQueuer) -> None:
    func = Refused()
    record = run_one(either, func, executor_factory=PATIENT, timeout=0.05)
    assert (record.status, func.calls) == ("failed", 1)
    (error,) = record.errors
    assert error["type"] == "pgq_sync.errors.JobTimeout"
    assert error["message"] == "the attempt took longer than its timeout of 0.05 s"


def test_a_wait_ends_at_once_when_the_worker_stops_and_the_attempt_does_not_count(either: PgQueuer) -> None:
    func = Refused()
    either.entrypoint("work", executor_factory=PATIENT)(func)
    job_id = either.enqueue("work")
    worker = either.worker(shutdown_timeout=HOUR)
    worker.start()
    assert func.failed.wait(PATIENCE)
    report = worker.stop()

    assert (dict(report.counts), report.requeued, report.stuck) == ({"retried": 1}, 0, 0)
    record = record_of(either, job_id)
    assert (record.status, record.attempts, func.calls) == ("queued", 0, 1)
    assert record.errors[0]["type"] == "Interrupted"
    assert record.execute_after < record.created_at + HOUR / 2


def test_the_errors_are_pgq_syncs_own() -> None:
    from pgq_sync import MaxTimeExceeded, PgqError

    assert issubclass(MaxRetriesExceeded, PgqError)
    assert issubclass(MaxTimeExceeded, PgqError)
