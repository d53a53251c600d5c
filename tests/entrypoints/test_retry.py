"""Another attempt through the database: when, how often, and what is kept of the attempts that failed."""

from __future__ import annotations

import functools
import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
import tenacity

from pgq_sync import DatabaseRetry, DatabaseRetryEntrypointExecutor, Job, JobId, PgQueuer, Retry
from tests.entrypoints.support import record_of, run_one

NOW = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
AT_ONCE = DatabaseRetry(max_attempts=3, initial_delay=timedelta())


def job(attempt: int, age: timedelta = timedelta()) -> Job:
    """A job whose attempt of that number failed."""
    return Job(
        *(JobId(1), "default", "work", None, None, 0, attempt),
        *(NOW - age, NOW - age, NOW, None, uuid4()),
    )


def delays(policy: DatabaseRetry, attempts: int = 5) -> list[float | None]:
    """The delay after each failed attempt, in seconds."""
    found = [policy.delay(job(attempt), ValueError("broken"), 0.0) for attempt in range(1, attempts + 1)]
    return [None if each is None else each.total_seconds() for each in found]


def fails_until(attempt: int, job: Job) -> str:
    if job.attempt < attempt:
        raise ConnectionError(f"no answer to attempt {job.attempt}")
    return f"answered attempt {job.attempt}"


def always_fails(job: Job) -> None:
    raise ConnectionError(f"no answer to attempt {job.attempt}")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DatabaseRetry(), [1, 2, 4, 8, None]),
        (DatabaseRetry(max_attempts=1), [None, None, None, None, None]),
        (DatabaseRetry(initial_delay=3 * SECOND, backoff_multiplier=10), [3, 30, 300, 300, None]),
        (DatabaseRetry(max_delay=3 * SECOND, max_attempts=9), [1, 2, 3, 3, 3]),
        (DatabaseRetry(backoff_multiplier=1), [1, 1, 1, 1, None]),
        (DatabaseRetry(backoff_multiplier=1.5), [1, 1.5, 2.25, 3.375, None]),
        (DatabaseRetry(initial_delay=timedelta()), [0, 0, 0, 0, None]),
        (DatabaseRetry(stop=tenacity.stop_after_attempt(2)), [1, None, None, None, None]),
        (DatabaseRetry(stop=tenacity.stop_never, max_attempts=1), [1, 2, 4, 8, 16]),
        (DatabaseRetry(stop=tenacity.stop_before_delay(5)), [1, 2, 4, None, None]),  # the wait counts, the job is new
        (DatabaseRetry(wait=tenacity.wait_fixed(7)), [7, 7, 7, 7, None]),
        (DatabaseRetry(wait=tenacity.wait_incrementing(start=1, increment=2)), [1, 3, 5, 7, None]),
        (DatabaseRetry(retry=tenacity.retry_if_exception_type(ValueError)), [1, 2, 4, 8, None]),
        (DatabaseRetry(retry=tenacity.retry_if_exception_type(OSError)), [None, None, None, None, None]),
        (DatabaseRetry(retry=tenacity.retry_if_exception(lambda error: "brok" in str(error))), [1, 2, 4, 8, None]),
    ],
)
def test_the_delays_follow_the_policy(policy: DatabaseRetry, expected: list[float | None]) -> None:
    assert delays(policy) == expected


def test_the_delay_stays_at_its_longest_however_many_attempts_there_were() -> None:
    policy = DatabaseRetry(stop=tenacity.stop_never)
    assert policy.delay(job(100_000), ValueError(), 0.0) == timedelta(minutes=5)


def test_no_delay_stays_none_however_many_attempts_there_were() -> None:
    policy = DatabaseRetry(initial_delay=timedelta(), stop=tenacity.stop_never)
    assert {policy.delay(job(attempt), ValueError(), 0.0) for attempt in (1, 1000, 1100, 100_000)} == {timedelta()}


def test_jitter_adds_at_most_as_much_as_was_said() -> None:
    policy = DatabaseRetry(initial_delay=10 * SECOND, jitter=SECOND)
    found = {policy.delay(job(1), ValueError(), 0.0) for _ in range(100)}
    assert len(found) > 50
    assert all(each is not None and 10 * SECOND <= each <= 11 * SECOND for each in found)


@pytest.mark.parametrize(("age", "running", "again"), [(50, 0.0, True), (50, 9.0, True), (50, 10.5, False), (61, 0.0, False)])
def test_a_limit_in_time_counts_from_the_first_attempt(age: int, running: float, again: bool) -> None:
    policy = DatabaseRetry(stop=tenacity.stop_after_delay(60))
    assert (policy.delay(job(2, age * SECOND), ValueError(), running) is not None) is again


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("backoff_multiplier", 0.5),
        ("initial_delay", -SECOND),
        ("max_delay", -SECOND),
        ("jitter", -SECOND),
    ],
)
def test_a_policy_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}={value}: "):
        DatabaseRetry(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", "3"),
        ("backoff_multiplier", "2"),
        *[(field, "5") for field in ("initial_delay", "max_delay", "jitter")],
        *[(field, 5) for field in ("stop", "wait", "retry")],
        ("retry", ValueError),  # an exception where a strategy that tells exceptions apart is meant
    ],
)
def test_a_policy_of_the_wrong_kind_is_refused(field: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        DatabaseRetry(**{field: value})
    assert str(refused.value).startswith(f"{field}={value!r}")


def test_a_job_that_fails_is_tried_again_until_it_succeeds(either: PgQueuer) -> None:
    record = run_one(either, functools.partial(fails_until, 3), retry=AT_ONCE, store_result=True)

    assert (record.status, record.attempts, record.result) == ("succeeded", 3, "answered attempt 3")
    assert [error["attempt"] for error in record.errors] == [1, 2]
    assert [error["message"] for error in record.errors] == ["no answer to attempt 1", "no answer to attempt 2"]
    assert {error["type"] for error in record.errors} == {"ConnectionError"}
    assert {error["worker_id"] for error in record.errors} == {str(record.worker_id)}
    for error in record.errors:
        assert error["traceback"].startswith("Traceback (most recent call last):")
        assert "in fails_until\n    raise ConnectionError(" in error["traceback"]
        assert error["traceback"].endswith(f"ConnectionError: {error['message']}\n")


@pytest.mark.parametrize(("on_failure", "status"), [("fail", "failed"), ("hold", "held")])
def test_a_job_whose_attempts_are_used_up_ends_as_declared(either: PgQueuer, on_failure: str, status: str) -> None:
    record = run_one(either, always_fails, retry=AT_ONCE, on_failure=on_failure)

    assert (record.status, record.attempts) == (status, 3)
    assert [error["message"] for error in record.errors] == [f"no answer to attempt {number}" for number in (1, 2, 3)]
    assert (record.finished_at is None) is (status == "held")
    assert either.drain().counts == {}


def test_a_failure_not_worth_another_attempt_ends_the_job_at_once(either: PgQueuer) -> None:
    only_timeouts = DatabaseRetry(initial_delay=timedelta(), retry=tenacity.retry_if_exception_type(TimeoutError))
    record = run_one(either, always_fails, retry=only_timeouts)
    assert (record.status, record.attempts) == ("failed", 1)


def test_without_a_policy_the_first_failure_is_the_last(either: PgQueuer) -> None:
    record = run_one(either, always_fails)
    assert (record.status, record.attempts, len(record.errors)) == ("failed", 1, 1)


def test_the_next_attempt_waits_as_long_as_the_policy_says(either: PgQueuer) -> None:
    record = run_one(either, always_fails, retry=DatabaseRetry(initial_delay=HOUR, max_delay=HOUR))

    assert (record.status, record.attempts, record.claimed_at, record.worker_id) == ("queued", 1, None, None)
    assert HOUR <= record.execute_after - record.created_at < HOUR + 30 * SECOND


def test_the_executor_takes_the_policy_as_keywords_too(either: PgQueuer) -> None:
    factory = functools.partial(DatabaseRetryEntrypointExecutor, max_attempts=2, initial_delay=timedelta())
    record = run_one(either, always_fails, executor_factory=factory)
    assert (record.status, record.attempts) == ("failed", 2)


def test_an_explicit_retry_works_without_a_policy(either: PgQueuer) -> None:
    def handler(job: Job) -> int:
        if job.attempt < 3:
            raise Retry(0, f"the quota is used up at attempt {job.attempt}")
        return job.attempt

    record = run_one(either, handler, store_result=True)
    assert (record.status, record.attempts, record.result) == ("succeeded", 3, 3)
    assert [error["message"] for error in record.errors] == [f"the quota is used up at attempt {number}" for number in (1, 2)]
    assert {error["type"] for error in record.errors} == {"pgq_sync.errors.Retry"}


@pytest.mark.parametrize("delay", [HOUR, 3600])
def test_an_explicit_retry_waits_as_long_as_it_says(either: PgQueuer, delay: timedelta | float) -> None:
    def handler(job: Job) -> None:
        raise Retry(delay)

    record = run_one(either, handler, retry=AT_ONCE)
    assert record.status == "queued"
    assert HOUR <= record.execute_after - record.created_at < HOUR + 30 * SECOND


def test_a_negative_delay_means_now_and_not_before_the_others(either: PgQueuer) -> None:
    def handler(job: Job) -> bool:
        if job.attempt == 1:
            raise Retry(-HOUR)
        return job.execute_after >= job.created_at

    assert run_one(either, handler, store_result=True).result is True


def test_an_explicit_retry_passes_through_a_policy_and_counts_as_an_attempt(either: PgQueuer) -> None:
    def handler(job: Job) -> None:
        if job.attempt < 5:
            raise Retry(0)
        raise ConnectionError("this is attempt 5 of 3")

    record = run_one(either, handler, retry=AT_ONCE)
    assert (record.status, record.attempts) == ("failed", 5)
    assert [error["message"] for error in record.errors] == [*4 * ["retry"], "this is attempt 5 of 3"]


@pytest.mark.parametrize(
    ("delay", "complaint"),
    [
        ("5", r"TypeError: delay='5': a timedelta or a number of seconds is accepted"),
        (None, r"TypeError: delay=None: a timedelta or"),
        (True, r"TypeError: delay=True: a timedelta or"),
        (math.nan, r"ValueError: delay=nan: a finite number of seconds is accepted"),
        (-math.inf, r"ValueError: delay=-inf: a finite number"),
        (1e300, r"ValueError: delay=1e\+300: .* at most 999,999,999 days"),
    ],
)
def test_a_delay_that_is_none_fails_the_attempt_as_any_error_does(either: PgQueuer, delay: Any, complaint: str) -> None:
    def handler(job: Job) -> None:
        raise Retry(delay)

    record = run_one(either, handler, on_failure="hold", retry=AT_ONCE)
    assert (record.status, record.attempts) == ("held", 3)
    assert re.match(complaint, "{type}: {message}".format(**record.errors[-1]))


def test_a_retry_may_have_an_exception_for_its_reason(either: PgQueuer) -> None:
    def handler(job: Job) -> None:
        if job.attempt == 1:
            raise Retry(0, ConnectionError("503"))

    record = run_one(either, handler)
    assert (record.status, record.attempts) == ("succeeded", 2)
    assert [error["message"] for error in record.errors] == ["503"]


def test_an_explicit_retry_keeps_its_reason_and_what_caused_it(either: PgQueuer) -> None:
    def handler(job: Job) -> None:
        if job.attempt == 1:
            try:
                raise ConnectionError("503")
            except ConnectionError as error:
                raise Retry(0, "the other side is overloaded") from error

    (error,) = run_one(either, handler).errors
    assert "the other side is overloaded" in error["message"]
    assert "ConnectionError: 503" in error["traceback"]


def test_a_handler_that_catches_every_exception_does_not_swallow_a_retry(either: PgQueuer) -> None:
    def handler(job: Job) -> str:
        try:
            if job.attempt == 1:
                raise Retry(0)
        except Exception:
            return "swallowed"
        return "retried"

    assert run_one(either, handler, store_result=True).result == "retried"


def test_a_retry_beyond_what_a_date_can_be_fails_the_job_and_says_so(either: PgQueuer) -> None:
    def handler(job: Job) -> None:
        raise Retry(timedelta.max)

    record = run_one(either, handler)
    assert record.status == "failed"
    assert "its outcome cannot be stored" in record.errors[-1]["message"]


def test_attempts_of_one_job_do_not_hold_up_the_others(either: PgQueuer) -> None:
    either.entrypoint("broken", retry=AT_ONCE)(always_fails)
    either.entrypoint("fine")(lambda job: None)
    broken, fine = either.enqueue("broken"), either.enqueue("fine")

    assert either.drain(concurrency=1).counts == {"retried": 2, "failed": 1, "succeeded": 1}
    assert (record_of(either, broken).attempts, record_of(either, fine).attempts) == (3, 1)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"initial_delay": 3, "wait": tenacity.wait_fixed(1)}, "initial_delay=3 has no effect beside wait="),
        ({"jitter": 3, "wait": tenacity.wait_fixed(1)}, "jitter=3 has no effect beside wait="),
        ({"initial_delay": 10, "max_delay": 1}, "initial_delay=10 is longer than max_delay=1: give a longer max_delay"),
        (
            {"initial_delay": timedelta(hours=1)},
            "initial_delay=1:00:00 is longer than max_delay=0:05:00: give",
        ),
    ],
)
def test_values_without_effect_are_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{complaint}"):
        DatabaseRetry(**values)
