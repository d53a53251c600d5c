"""Waiting for jobs to end: how each end is told, and what cannot be waited for."""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import (
    Completion,
    CompletionWatcher,
    DatabaseRetry,
    Hold,
    Job,
    JobFailed,
    JobNotFound,
    NewJob,
    PgQueuer,
    RemoteTraceback,
)
from pgq_sync.engine import vigil
from pgq_sync.storage.memory.watches import MemoryLookout
from pgq_sync.storage.watches import PostgresLookout
from tests.engine.watching import NEVER, wait_until_kept
from tests.storage.support import ended, hand
from tests.waiting import PATIENCE


def told(watcher: CompletionWatcher, job_id: int, act: Callable[[], object]) -> Completion:
    """How a job ends by `act`, which begins only when it is watched."""
    future = watcher.watch(job_id)
    wait_until_kept(watcher, job_id)
    assert not future.done()
    act()
    return future.result(PATIENCE)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "held"])
def test_a_job_that_ends_in_a_worker_is_told(either: PgQueuer, watcher: CompletionWatcher, status: Any) -> None:
    job_id = either.enqueue("work")
    with hand(either.store, "work") as one:
        claim = one.claim_one()
        error = None if status == "succeeded" else '{"attempt": 1, "type": "Oops", "message": "no"}'
        result = '{"rows": [1, 2]}' if status == "succeeded" else None
        completion = told(watcher, job_id, lambda: one.settle(claim, status, error=error, result=result))

    assert completion == Completion(
        job_id=job_id,
        entrypoint="work",
        status=status,
        attempts=1,
        result={"rows": [1, 2]} if status == "succeeded" else None,
        error=None if status == "succeeded" else {"attempt": 1, "type": "Oops", "message": "no"},
    )


def test_a_job_that_an_operator_ends_is_told(either: PgQueuer, watcher: CompletionWatcher) -> None:
    first, second, third = either.enqueue_many(NewJob(entrypoint="work", queue=queue) for queue in ("a", "b", "c"))

    completion = told(watcher, first, lambda: either.jobs.cancel([first]))
    assert (completion.status, completion.attempts) == ("cancelled", 0)
    assert completion.error is not None
    assert "while it waited" in completion.error["message"]

    completion = told(watcher, second, lambda: either.jobs.delete([second]))
    assert (completion.status, completion.error) == ("deleted", None)
    assert told(watcher, third, lambda: either.jobs.purge()).status == "deleted"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "held"])
def test_what_has_ended_before_is_told_at_once(either: PgQueuer, watcher: CompletionWatcher, status: str) -> None:
    job_id = ended(either, status)
    assert watcher.wait_for(job_id, PATIENCE).status == status
    assert watcher.wait_for(job_id, PATIENCE).status == status


def test_a_retry_is_no_end(either: PgQueuer, watcher: CompletionWatcher) -> None:
    attempts: list[Job] = []

    @either.entrypoint("work", retry=DatabaseRetry(max_attempts=3, initial_delay=timedelta()), store_result=True)
    def work(job: Job) -> int:
        attempts.append(job)
        if job.attempt < 3:
            assert not future.done()
            raise ValueError("not yet")
        return job.attempt

    future = watcher.watch(either.enqueue("work"))
    either.drain()
    completion = future.result(PATIENCE)
    assert (completion.status, completion.attempts, completion.result) == ("succeeded", 3, 3)
    assert completion.error is None  # that of the attempts before is none of how it ended
    assert len(attempts) == 3


def test_a_success_of_which_nothing_is_kept_is_told(either: PgQueuer, watcher: CompletionWatcher) -> None:
    job_id = either.enqueue("work")
    with hand(either.store, "work") as one:
        claim = one.claim_one()
        completion = told(watcher, job_id, lambda: one.settle(claim, keep=False))

    assert completion == Completion(job_id=job_id, entrypoint=None, status="succeeded", attempts=None)
    with pytest.raises(JobNotFound):
        watcher.wait_for(job_id, PATIENCE)


def test_a_failure_that_is_deleted_before_anybody_looked_is_no_success(either: PgQueuer, watcher: CompletionWatcher) -> None:
    job_id, blocker = either.enqueue("work"), either.enqueue("work")
    with hand(either.store, "work") as one:
        claim, blocking = one.claim()
        future, busy, go_on = watcher.watch(job_id), threading.Event(), threading.Event()

        def block(_: object) -> None:
            busy.set()
            assert go_on.wait(PATIENCE)

        watcher.watch(blocker).add_done_callback(block)
        wait_until_kept(watcher, job_id, blocker)
        one.settle(blocking)
        assert busy.wait(PATIENCE)  # the watcher's thread is in a callback
        one.settle(claim, "failed")
        assert either.jobs.delete([job_id]).deleted == [job_id]
        go_on.set()

    with pytest.raises(JobNotFound):
        future.result(PATIENCE)


def test_a_failed_job_that_is_put_back_stays_as_it_ended(either: PgQueuer, watcher: CompletionWatcher) -> None:
    job_id = ended(either, "failed")
    new_id = either.jobs.requeue([job_id]).requeued[job_id]

    assert watcher.wait_for(job_id, PATIENCE).status == "failed"
    future = watcher.watch(new_id)
    wait_until_kept(watcher, new_id)
    assert not future.done()


def test_a_job_that_is_committed_while_it_is_looked_for_is_watched(either: PgQueuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "FIRST_AGAIN", 86_400.0)
    coming = either.enqueue("work") + 1
    for kind in (PostgresLookout, MemoryLookout):
        register: Any = kind.register

        def registered(lookout: Any, ids: Any, register: Any = register) -> Any:
            unfinished = register(lookout, ids)
            if either.jobs.get(coming) is None:
                assert either.enqueue("work") == coming
            return unfinished

        monkeypatch.setattr(kind, "register", registered)

    with CompletionWatcher(either, NEVER) as watcher:
        assert told(watcher, coming, lambda: either.jobs.cancel([coming])).status == "cancelled"


@pytest.mark.parametrize("job_id", [1, 999_999, 2**63 - 1])
def test_a_job_that_does_not_exist_is_told_at_once(either: PgQueuer, watcher: CompletionWatcher, job_id: int) -> None:
    started = time.monotonic()
    with pytest.raises(JobNotFound, match=f"there is no job {job_id}: it was never enqueued") as caught:
        watcher.wait_for(job_id)
    with pytest.raises(JobNotFound):
        either.wait(job_id)
    assert time.monotonic() - started < 4  # by no refresh
    assert pickle.loads(pickle.dumps(caught.value)).job_id == job_id


@pytest.mark.parametrize(
    ("job_id", "timeout", "error", "words"),
    [
        ("7", None, TypeError, "job id '7' must be an int, not str"),
        (True, None, TypeError, "job id True must be an int"),
        (0, None, ValueError, "job id 0 is out of range"),
        (2**63, None, ValueError, "is out of range"),
        (1, -0.1, ValueError, "timeout=-0.1: a timedelta or a number of seconds from zero up is accepted, or None for ever"),
        (1, timedelta(seconds=-1), ValueError, "timeout="),
        (1, math.nan, ValueError, "timeout=nan"),
        (1, "5", TypeError, "timeout='5': a timedelta or a number of seconds"),
        (1, True, TypeError, "timeout=True"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(
    either: PgQueuer, watcher: CompletionWatcher, job_id: Any, timeout: Any, error: type[Exception], words: str
) -> None:
    for call in (watcher.wait_for, either.wait, either.result):
        with pytest.raises(error, match=words):
            call(job_id, timeout)
    if timeout is None:
        with pytest.raises(error, match=words):
            watcher.watch(job_id)


@pytest.mark.parametrize("interval", [0, -1, math.nan, timedelta(), "5", None])
def test_an_interval_that_cannot_be_meant_is_refused(either: PgQueuer, interval: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="refresh_interval="):
        CompletionWatcher(either, interval)


@pytest.mark.parametrize("pgq", ["x", None, 7, PgQueuer])
def test_what_is_no_application_is_refused_at_once(pgq: Any) -> None:
    with pytest.raises(TypeError, match=r"^pgq=.*: the PgQueuer whose jobs are watched is accepted"):
        CompletionWatcher(pgq)


def test_a_watcher_of_a_proxy_or_of_an_application_without_a_database_may_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("it was used")

    for name in ("PGQ_DSN", "DATABASE_URL", "PGHOST", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    for pgq in (Proxy(), PgQueuer.from_dsn()):
        CompletionWatcher(pgq).close()


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
def test_a_wait_ends_at_its_timeout(either: PgQueuer, watcher: CompletionWatcher, timeout: Any) -> None:
    job_id = either.enqueue("work")
    for wait in (watcher.wait_for, either.wait, either.result):
        with pytest.raises(TimeoutError, match=rf"job {job_id} has not ended within 0\.05 s"):
            wait(job_id, timeout)
    assert either.jobs.cancel([job_id]).ended == [job_id]
    for endless in (math.inf, 10**400):
        assert watcher.wait_for(job_id, endless).status == "cancelled"


def test_a_result_is_what_the_function_returned(either: PgQueuer) -> None:
    either.entrypoint("double", store_result=True)(lambda job: 2 * int(job.payload))
    either.entrypoint("nothing")(lambda job: 5)
    first, second = either.enqueue("double", "21"), either.enqueue("nothing")
    either.drain()
    assert either.result(first, PATIENCE) == 42
    assert either.result(second, PATIENCE) is None


def test_a_job_that_failed_raises_with_the_traceback_of_the_worker(either: PgQueuer) -> None:
    @either.entrypoint("fetch")
    def fetch(job: Job) -> None:
        raise ValueError("no such page")

    job_id = either.enqueue("fetch")
    either.drain()
    with pytest.raises(JobFailed) as caught:
        either.result(job_id, PATIENCE)

    assert str(caught.value) == f"job {job_id} of fetch ended as failed at attempt 1: ValueError: no such page"
    assert caught.value.completion.status == "failed"
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'raise ValueError("no such page")' in str(caught.value.__cause__)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.completion) == (str(caught.value), caught.value.completion)


def test_every_end_but_success_raises(either: PgQueuer) -> None:
    @either.entrypoint("hold")
    def hold(job: Job) -> None:
        raise Hold("look at this")

    held = either.enqueue("hold")
    either.drain()
    cancelled, deleted = either.enqueue("work"), either.enqueue("work")
    either.jobs.cancel([cancelled])
    either.jobs.delete([deleted])

    with pytest.raises(JobFailed, match=f"job {held} of hold is held at attempt 1: .*Hold: look at this"):
        either.result(held, PATIENCE)
    with pytest.raises(JobFailed, match=f"job {cancelled} of work ended as cancelled at attempt 0: Cancelled: it was"):
        either.result(cancelled, PATIENCE)
    with pytest.raises(JobFailed, match=f"job {deleted} of work ended as deleted after 0 attempts"):
        either.result(deleted, PATIENCE)
