"""Functions in processes of their own: what gets there, what comes back, and what is refused."""

from __future__ import annotations

import functools
import json
import os
import pickle
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import Cancelled, DatabaseRetry, Hold, Job, JobTimeout, PgQueuer, ProcessCrashed, ProcessExecutor, Retry
from tests.entrypoints import process_handlers as handlers
from tests.entrypoints.processes import ONE, TWO, drained
from tests.entrypoints.support import record_of, run_one

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the handlers are those of POSIX")


def test_the_function_runs_elsewhere_with_its_job_and_its_result_comes_back(either: PgQueuer) -> None:
    either.entrypoint("work", executor_factory=ONE, store_result=True)(handlers.describe_job)
    either.entrypoint("pid", executor_factory=ONE, store_result=True)(handlers.tell_pid)
    job_id = either.enqueue("work", "payload", headers={"a": [1]})
    pids = [either.enqueue("pid") for _ in range(3)]
    either.drain()

    record = record_of(either, job_id)
    assert record.result == [job_id, "work", "payload", 1, str(record.worker_id), {"a": [1]}]
    told = {record_of(either, each).result for each in pids}
    assert len(told) == 1  # one process, for one job after the other
    assert told != {os.getpid()}


def test_ticks_of_a_schedule_get_there_too() -> None:
    pgq = PgQueuer.in_memory()
    pgq.schedule("report", "@daily", executor_factory=ONE, store_result=True)(handlers.describe_tick)
    job_id = pgq.enqueue("report")
    pgq.drain()
    assert record_of(pgq, job_id).result == ["report", job_id]


def test_large_payloads_and_results_pass() -> None:
    pgq = PgQueuer.in_memory()
    executor = ProcessExecutor(parameters_of(pgq, handlers.double), max_workers=1)
    pgq.entrypoint("large", executor_factory=lambda parameters: executor, store_result=True)(handlers.double)
    job_id = pgq.enqueue("large", "x" * 1_000_000)
    pgq.drain()
    assert record_of(pgq, job_id).result == pickled_text("xx" * 1_000_000)


def parameters_of(pgq: PgQueuer, func: Callable[..., Any]) -> Any:
    pgq.entrypoint("parameters of", store_result=True)(func)
    return pgq.registry.get("parameters of").parameters


def pickled_text(text: str) -> str:
    """How JSON shows bytes."""
    import base64

    return base64.b64encode(text.encode()).decode()


def test_an_exception_comes_back_with_the_lines_where_it_was_raised(either: PgQueuer) -> None:
    (error,) = run_one(either, handlers.fail, executor_factory=ONE).errors
    assert (error["type"], error["message"]) == ("ValueError", "no answer to attempt 1")
    assert "in deep_inside\n    raise ValueError(f" in error["traceback"]
    assert "KeyError: 'the first cause'" in error["traceback"]


def test_what_cannot_be_sent_back_fails_the_attempt_and_says_so() -> None:
    pgq = PgQueuer.in_memory()
    functions = (handlers.raise_unsendable, handlers.return_unsendable, handlers.return_unreadable)
    for func in functions:
        pgq.entrypoint(func.__name__, executor_factory=ONE, store_result=True)(func)
    ids = [pgq.enqueue(func.__name__) for func in functions]
    pgq.drain()
    raised, returned, unreadable = (record_of(pgq, job_id).errors[0] for job_id in ids)

    assert raised["type"] == "pgq_sync.errors.RemoteError"
    assert raised["message"] == "tests.entrypoints.process_handlers.Unsendable: 503: overloaded"
    assert "in raise_unsendable\n" in raised["traceback"]
    assert returned["type"] == "TypeError"
    assert returned["message"].startswith("what the job returned, of type function, cannot be sent back from its process: ")
    assert unreadable["type"] == "pgq_sync.errors.RemoteError"
    assert unreadable["message"] == "what the job returned cannot be read here: ImportError: no such class here"


def test_what_nobody_keeps_is_not_sent() -> None:
    assert run_one(PgQueuer.in_memory(), handlers.return_unsendable, executor_factory=ONE).status == "succeeded"


def test_what_a_function_raises_steers_its_job_from_there_too(either: PgQueuer) -> None:
    either.entrypoint("steer", executor_factory=ONE, retry=DatabaseRetry(max_attempts=1), store_result=True)(handlers.steer)
    ids = [either.enqueue("steer", json.dumps(kind)) for kind in ("retry", "hold", "cancel", "exit", "interrupt")]
    either.drain()
    records = [record_of(either, job_id) for job_id in ids]
    statuses = [record.status for record in records]
    assert statuses == ["queued", "held", "cancelled", "failed", "failed"] or statuses[0] == "succeeded"
    retry, hold, cancel, left, interrupted = (record.errors[0] for record in records)
    assert retry["message"] == "the quota: the other side"
    assert hold["message"] == "look at it: the other side"
    assert (retry["type"], hold["type"]) == ("ConnectionError", "ConnectionError")
    assert "in steer\n" in retry["traceback"]
    assert (cancel["type"], left["type"], interrupted["type"]) == ("ConnectionError", "SystemExit", "KeyboardInterrupt")


class Quota(Retry):
    """A control exception of an application's own."""

    def __init__(self, *, seconds: int) -> None:
        super().__init__(seconds, f"{seconds} s too early")


@pytest.mark.parametrize(
    "control",
    [
        Retry(timedelta(hours=1), "later"),
        Retry(),
        Hold("look"),
        Hold(),
        Cancelled("no"),
        JobTimeout(),
        JobTimeout("x"),
        Quota(seconds=7),
    ],
)
def test_what_steers_a_job_can_be_pickled(control: Any) -> None:
    copy = pickle.loads(pickle.dumps(control))
    assert type(copy) is type(control)
    assert (str(copy), copy.args, vars(copy)) == (str(control), control.args, vars(control))


def test_an_error_that_tells_a_crash_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(ProcessCrashed(-11)))
    assert (str(copy), copy.exit_code) == ("the process in which the job ran was ended by SIGSEGV", -11)


@pytest.mark.parametrize(
    ("registered", "result"),
    [
        (handlers.Holder.static, "static"),
        (handlers.wrapped.func, "the function was called"),
        (handlers.decorated, "outer, inner"),
        (handlers.decorated.__wrapped__, "inner"),  # type: ignore[attr-defined]
    ],
)
def test_exactly_the_registered_function_is_called(registered: Callable[..., Any], result: str) -> None:
    assert run_one(PgQueuer.in_memory(), registered, executor_factory=ONE, store_result=True).result == result


def test_a_function_that_would_not_be_found_fails_the_attempt_and_says_so() -> None:
    (error,) = run_one(PgQueuer.in_memory(), handlers.plain, executor_factory=ONE).errors
    assert error["type"] == "TypeError"
    assert error["message"].startswith("tests.entrypoints.process_handlers.replaced is not the function that was registered")


def local() -> Callable[..., Any]:
    def inside(job: Job) -> None: ...

    return inside


@pytest.mark.parametrize(
    ("func", "complaint"),
    [
        (lambda job: None, "is a lambda: .* Define it by def, at the top level of a module"),
        (local(), "is defined inside of another function"),
        (handlers.Holder().method, "is a method"),
        (handlers.Holder(), "is a Holder"),
        (functools.partial(handlers.fail), "is a partial"),
        (handlers.wants_context, "'work' wants a context as 'context'"),
    ],
)
def test_a_function_that_could_not_run_elsewhere_is_refused_where_it_is_declared(func: Any, complaint: str) -> None:
    pgq = PgQueuer.in_memory()
    with pytest.raises(TypeError, match=complaint):
        pgq.entrypoint("work", executor_factory=ProcessExecutor)(func)
    assert pgq.registry.names() == ()


def test_a_transactional_entrypoint_is_refused() -> None:
    with pytest.raises(TypeError, match="'work' is transactional: "):
        PgQueuer.in_memory().entrypoint("work", executor_factory=ProcessExecutor, transactional=True)(handlers.fail)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": 1.5}, TypeError),
        ({"max_workers": True}, TypeError),
        ({"pool": 5}, TypeError),
        ({"pool": ProcessExecutor}, TypeError),
        ({"max_workers": 2, "pool": print}, TypeError),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{next(iter(options))}="):
        PgQueuer.in_memory().entrypoint("work", executor_factory=functools.partial(ProcessExecutor, **options))(handlers.fail)


@pytest.mark.parametrize(
    ("func", "end"),
    [
        (handlers.segfault, "was ended by SIGSEGV"),
        (handlers.leave, "ended with exit code 7"),
        (handlers.kill_itself, "was ended by SIGKILL (as the system does when memory is short)"),
    ],
)
def test_a_crash_costs_its_own_attempt_and_nothing_else(either: PgQueuer, func: Callable[..., Any], end: str) -> None:
    either.entrypoint("crash", executor_factory=ONE)(func)
    either.entrypoint("nap", executor_factory=TWO)(handlers.nap)
    crashes = [either.enqueue("crash") for _ in range(2)]
    naps = [either.enqueue("nap", "0.2") for _ in range(4)]
    assert drained(either, concurrency=6) == {"failed": 2, "succeeded": 4}
    for job_id in crashes:
        (error,) = record_of(either, job_id).errors
        assert error["type"] == "pgq_sync.errors.ProcessCrashed"
        assert error["message"] == f"the process in which the job ran {end}"
    assert {record_of(either, job_id).attempts for job_id in naps} == {1}


def test_a_crash_is_a_failure_that_may_be_tried_again(either: PgQueuer) -> None:
    policy = DatabaseRetry(initial_delay=0)
    record = run_one(either, handlers.crash_first, executor_factory=ONE, retry=policy, store_result=True)
    assert (record.status, record.result, len(record.errors)) == ("succeeded", 2, 1)
