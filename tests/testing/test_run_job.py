"""run_job: one attempt, here and now; make_job: a job to call a handler with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from pgq_sync import (
    AbstractEntrypointExecutor,
    Cancelled,
    ConfigError,
    Context,
    DatabaseRetry,
    Hold,
    Job,
    JobTimeout,
    PgQueuer,
    Retry,
    Schedule,
    testing,
)
from tests.storage.links import linked
from tests.storage.support import query
from tests.waiting import PATIENCE

NUMBER: Any = 5
START = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)


def test_it_returns_what_the_handler_did_and_stores_nothing(either: PgQueuer) -> None:
    either.resources["rate"] = 3

    @either.entrypoint("work", queue="mail")
    def work(job: Job, context: Context) -> tuple[Any, ...]:
        assert threading.current_thread() is threading.main_thread()
        return job, context.resources["rate"], context.cancelled.is_set(), context.deadline

    with testing.clock(either, START):
        job, rate, cancelled, deadline = testing.run_job(
            either, "work", "päylöad", headers={"a": (1, 2)}, attempt=3, priority=5, dedupe_key="key"
        )
    assert (rate, cancelled, deadline) == (3, False, None)
    assert (job.entrypoint, job.queue, job.payload, job.headers) == ("work", "mail", "päylöad".encode(), {"a": [1, 2]})
    assert (job.attempt, job.priority, job.dedupe_key, job.id) == (3, 5, "key", 0)
    assert job.created_at == job.execute_after == job.claimed_at == START
    assert either.jobs.count() == {}


def test_resources_may_be_given(either: PgQueuer) -> None:
    either.entrypoint("work")(lambda job, context: context.resources)
    given = {"client": object()}
    assert testing.run_job(either, "work", resources=given) is given
    assert testing.run_job(either, "work") is either.resources


@pytest.mark.parametrize("ending", [Retry(5), Hold("look"), Cancelled(), JobTimeout(), ValueError("no"), SystemExit(3)])
@pytest.mark.parametrize("transactional", [True, False])
def test_it_raises_what_the_handler_did(pgq: PgQueuer, ending: BaseException, transactional: bool) -> None:
    @pgq.entrypoint("work", transactional=transactional)
    def work(job: Job) -> None:
        raise ending

    with pytest.raises(type(ending)) as raised:
        testing.run_job(pgq, "work")
    assert raised.value is ending


def test_it_is_run_by_its_executor(either: PgQueuer) -> None:
    class Twice(AbstractEntrypointExecutor):
        def execute(self, job: Job, context: Context) -> Any:
            return [self.parameters.func(job), self.parameters.func(job)]

    either.entrypoint("twice", executor_factory=Twice)(lambda job: job.payload)
    assert testing.run_job(either, "twice", "x") == [b"x", b"x"]

    either.entrypoint("again", retry=DatabaseRetry(max_attempts=3, initial_delay=timedelta(minutes=1)))(lambda job: 1 / 0)
    for attempt, minutes in ((1, 1), (2, 2)):
        with pytest.raises(Retry) as retry:
            testing.run_job(either, "again", attempt=attempt)
        assert retry.value.delay == timedelta(minutes=minutes)
        assert isinstance(retry.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        testing.run_job(either, "again", attempt=3)


def test_a_scheduled_function_gets_its_schedule(either: PgQueuer) -> None:
    either.schedule("report", "@daily")(lambda schedule: schedule)
    assert isinstance(testing.run_job(either, "report"), Schedule)


def test_its_timeout_holds(either: PgQueuer) -> None:
    @either.entrypoint("work", timeout=0.05)
    def work(job: Job) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pass

    with pytest.raises(JobTimeout, match=r"the attempt took longer than its timeout of 0\.05 s"):
        testing.run_job(either, "work")


def test_what_it_enqueues_is_enqueued(either: PgQueuer) -> None:
    either.entrypoint("work")(lambda job, context: context.enqueue("child", job.payload))
    testing.run_job(either, "work", "x")
    assert testing.assert_enqueued(either, "child").payload == b"x"


def test_a_result_that_could_not_be_stored_is_an_error_here_too(either: PgQueuer) -> None:
    either.entrypoint("work", store_result=True)(lambda job: object())
    with pytest.raises(TypeError, match="no JSON to be stored"):
        testing.run_job(either, "work")


@pytest.mark.parametrize("joined", [False, True])
def test_a_transaction_takes_effect_where_the_handler_returns(pgq: PgQueuer, dsn: str, joined: bool) -> None:
    query(dsn, "create table effect (payload bytea)")

    @pgq.entrypoint("work", transactional=True)
    def work(job: Job, context: Context) -> None:
        context.connection.execute("insert into effect values (%s)", [job.payload])
        context.enqueue("child", job.payload)
        if job.payload == b"bad":
            raise ValueError

    with linked("psycopg", dsn, autocommit=False) as link:
        where: dict[str, Any] = {"connection": link.given} if joined else {}
        testing.run_job(pgq, "work", "good", **where)
        with pytest.raises(ValueError):
            testing.run_job(pgq, "work", "bad", **where)
        assert link.run("select payload from effect") == [(b"good",)]
        assert testing.assert_enqueued(pgq, "child", count=1, **where)[0].payload == b"good"
        link.rollback()
        assert query(dsn, "select payload from effect") == ([] if joined else [(b"good",)])


def test_an_object_with_a_name_stands_for_its_entrypoint(either: PgQueuer) -> None:
    either.entrypoint("work")(lambda job: job.entrypoint)
    assert testing.run_job(either, SimpleNamespace(name="work")) == "work"


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (lambda pgq: testing.run_job(pgq, "fetsh"), ConfigError, "entrypoint 'fetsh' is not registered; did you mean 'fetch'"),
        (lambda pgq: testing.run_job(pgq, "xyz"), ConfigError, "entrypoint 'xyz' is not registered; known: fetch, report"),
        (lambda pgq: testing.run_job(pgq, 5), TypeError, "entrypoint=5 must be a name, or an object that has one"),
        (lambda pgq: testing.run_job(pgq, "fetch", NUMBER), TypeError, "payload=5 must be bytes, str or None, not int"),
        (lambda pgq: testing.run_job(pgq, "fetch", attempt=0), ValueError, "attempt=0: a whole number from 1 up"),
        (lambda pgq: testing.run_job(pgq, "fetch", headers=NUMBER), TypeError, "headers=5 must be a mapping"),
        (lambda pgq: testing.make_job(""), ValueError, "entrypoint='' has 0 characters"),
    ],
)
def test_what_cannot_be_run_is_refused(call: Callable[[PgQueuer], Any], error: type[Exception], complaint: str) -> None:
    pgq = PgQueuer.in_memory()
    for name in ("fetch", "report"):
        pgq.entrypoint(name)(lambda job: None)
    with pytest.raises(error, match=complaint):
        call(pgq)


def test_without_an_entrypoint_nothing_is_known() -> None:
    with pytest.raises(ConfigError, match="not registered; known: none"):
        testing.run_job(PgQueuer.in_memory(), "work")


def test_a_handler_can_be_called_with_a_made_job() -> None:
    before = datetime.now(timezone.utc)
    job = testing.make_job("fetch", "x", attempt=2, queue="mail")
    assert (job.entrypoint, job.payload, job.attempt, job.queue, job.headers) == ("fetch", b"x", 2, "mail", None)
    assert before <= job.created_at <= datetime.now(timezone.utc)
