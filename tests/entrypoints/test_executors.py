"""Executors that users write, and what every executor may count on."""

from __future__ import annotations

import functools
import threading
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import (
    AbstractEntrypointExecutor,
    Context,
    DatabaseRetry,
    DatabaseRetryEntrypointExecutor,
    EntrypointExecutorParameters,
    Job,
    PgQueuer,
    ProcessExecutor,
    RetryWithBackoffEntrypointExecutor,
)
from tests.entrypoints.support import record_of, run_one
from tests.waiting import PATIENCE


class Noting(AbstractEntrypointExecutor):
    """Calls the function, and notes what happens."""

    def __init__(self, parameters: EntrypointExecutorParameters, notes: list[str], complaint: str = "") -> None:
        super().__init__(parameters)
        self._notes = notes
        self._complaint = complaint

    def execute(self, job: Job, context: Context) -> Any:
        self._notes.append(f"runs {job.entrypoint}")
        return self.parameters.call(job, context)

    def close(self) -> None:
        self._notes.append("closes")
        if self._complaint:
            raise RuntimeError(self._complaint)


def test_an_executor_is_closed_after_the_last_job_of_each_worker(either: PgQueuer) -> None:
    notes: list[str] = []
    either.entrypoint("work", executor_factory=functools.partial(Noting, notes=notes))(lambda job: None)
    for _ in range(2):
        either.enqueue("work")
        either.drain()
    assert notes == 2 * ["runs work", "closes"]


def test_those_around_another_one_close_it_too() -> None:
    notes: list[str] = []
    pgq = PgQueuer.in_memory()

    def nested(parameters: EntrypointExecutorParameters) -> AbstractEntrypointExecutor:
        return RetryWithBackoffEntrypointExecutor(parameters, inner=Noting(parameters, notes))

    run_one(pgq, lambda job: None, executor_factory=nested, retry=DatabaseRetry())
    assert notes == ["runs work", "closes"]


def test_one_that_cannot_be_closed_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []
    pgq = PgQueuer.in_memory()
    for name in ("first", "second"):
        factory = functools.partial(Noting, notes=notes, complaint=f"{name} is stuck")
        pgq.entrypoint(name, executor_factory=factory)(lambda job: None)
    pgq.drain()
    assert notes == ["closes", "closes"]
    assert "the executor of entrypoint 'second' could not be closed" in caplog.messages


def test_what_raises_when_it_is_to_wake_a_job_keeps_no_worker_from_stopping(
    either: PgQueuer, caplog: pytest.LogCaptureFixture
) -> None:
    waits, woken = threading.Event(), threading.Event()

    def no_longer_there() -> None:
        raise LookupError("the cluster is gone")

    @either.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        with context.waking(no_longer_there), context.waking(woken.set):
            waits.set()
            assert woken.wait(PATIENCE)

    job_id = either.enqueue("work")
    with either.worker():
        assert waits.wait(PATIENCE)
    assert record_of(either, job_id).status == "succeeded"
    (record,) = (record for record in caplog.records if record.exc_info)
    assert (record.message, str(record.exc_info[1])) == ("a job that waits could not be woken", "the cluster is gone")  # type: ignore[index]


def test_a_policy_is_given_as_one_or_in_its_fields() -> None:
    pgq = PgQueuer.in_memory()
    factory = functools.partial(DatabaseRetryEntrypointExecutor, policy=DatabaseRetry(), max_attempts=3)
    with pytest.raises(TypeError, match="there is a policy already: max_attempts cannot be given as well"):
        pgq.entrypoint("work", executor_factory=factory)(lambda job: None)


@pytest.mark.parametrize("duration", [0.5, timedelta(seconds=0.5)])
def test_delays_of_a_policy_are_seconds_or_a_timedelta(either: PgQueuer, duration: Any) -> None:
    def fails(job: Job) -> None:
        raise ConnectionError

    policy = DatabaseRetry(max_attempts=2, initial_delay=duration, max_delay=duration, jitter=0)
    record = run_one(either, fails, retry=policy)
    assert record.status == "queued"
    assert timedelta(seconds=0.5) <= record.execute_after - record.created_at < timedelta(seconds=30)


def test_an_executor_that_is_made_too_early_points_at_partial() -> None:
    with pytest.raises(TypeError, match=r"executor_factory=functools\.partial\(ProcessExecutor, max_workers=1\)$"):
        ProcessExecutor(max_workers=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("kind", "option", "close"),
    [
        (ProcessExecutor, "max_worker", "max_workers"),
        (RetryWithBackoffEntrypointExecutor, "attempts", "max_attempts"),
    ],
)
def test_an_unknown_option_of_an_executor_is_told_with_a_close_one(kind: Any, option: str, close: str) -> None:
    with pytest.raises(TypeError) as refused:
        PgQueuer.in_memory().entrypoint("work", executor_factory=functools.partial(kind, **{option: 3}))(print)
    assert str(refused.value) == f"there is no option {option!r}; did you mean {close!r}?"
