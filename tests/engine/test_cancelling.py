"""Jobs that a person wants cancelled while a worker has them, and jobs that have cost too many workers their life."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from pgq_sync import Context, DatabaseRetry, Hold, Job, JobId, NewJob, PgQueuer, Retry, StoreUnavailable, Worker
from pgq_sync.storage.memory.store import MemoryStore
from tests.entrypoints.support import record_of
from tests.waiting import PATIENCE, wait_until

LATER = DatabaseRetry(initial_delay=timedelta(minutes=5))


class Requests:
    """What a person asks for, as the store would tell it."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.asked = 0
        self.away = False

    def cancel_requests(self, ids: Iterable[int]) -> set[JobId]:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("gone")
        return {JobId(job_id) for job_id in ids if job_id in self.ids}

    def end_cancelled(self) -> int:
        return 0


@contextmanager
def working(pgq: PgQueuer, concurrency: int = 10) -> Iterator[tuple[Worker, Requests]]:
    worker, requests = pgq.worker(concurrency=concurrency), Requests()
    worker._canceller._store = requests
    with worker:
        yield worker, requests


def test_a_running_job_is_told(either: PgQueuer) -> None:
    running = threading.Event()

    @either.entrypoint("polite")
    def polite(job: Job, context: Context) -> None:
        running.set()
        assert context.cancelled.wait(PATIENCE)
        assert context.cancel_requested
        context.check()

    job_id = either.enqueue("polite")
    with working(either) as (worker, requests):
        assert running.wait(PATIENCE)
        requests.ids.add(job_id)
        worker._canceller.look()
        wait_until(lambda: record_of(either, job_id).status == "cancelled")


def test_without_being_told_of_requests_a_worker_asks_by_itself_while_it_has_jobs(either: PgQueuer) -> None:
    running = threading.Event()

    @either.entrypoint("polite")
    def polite(job: Job, context: Context) -> None:
        running.set()
        assert context.cancelled.wait(PATIENCE)
        context.check()

    with working(either) as (worker, requests):
        assert worker.listening.wait(PATIENCE)
        job_id = either.enqueue("polite")
        assert running.wait(PATIENCE)
        requests.away = True
        wait_until(lambda: requests.asked > 1)
        requests.ids.add(job_id)
        requests.away = False
        wait_until(lambda: record_of(either, job_id).status == "cancelled")
        wait_until(lambda: worker._completer.idle)
        asked = requests.asked
        worker._canceller._ask()
        assert requests.asked == asked  # it has no job to ask about


def test_a_job_that_waits_for_a_slot_ends_without_having_run(either: PgQueuer) -> None:
    running, finish = threading.Event(), threading.Event()
    ran: list[int] = []

    @either.entrypoint("mixed")
    def mixed(job: Job) -> None:
        ran.append(job.id)
        if job.payload == b"long":
            running.set()
            assert finish.wait(PATIENCE)

    either.enqueue_many(NewJob(entrypoint="mixed") for _ in range(200))  # they teach the worker to claim ahead
    either.enqueue("mixed", b"long")
    rest = either.enqueue_many(NewJob(entrypoint="mixed") for _ in range(20))
    with working(either, concurrency=1) as (worker, requests):
        assert running.wait(PATIENCE)
        wait_until(lambda: ("mixed", "queued") not in either.jobs.count())
        requests.ids |= set(rest[5:10])
        worker._canceller.look()
        wait_until(lambda: either.jobs.count().get(("mixed", "cancelled")) == 5)
        assert "before it started" in record_of(either, rest[5]).errors[0]["message"]
        finish.set()
        wait_until(lambda: either.jobs.count().get(("mixed", "succeeded")) == 216)
        assert worker._slots.room().ahead > 1
    assert set(rest[5:10]).isdisjoint(ran)
    assert ran[-15:] == rest[:5] + rest[10:]


@pytest.mark.parametrize("ending", [Retry(timedelta(hours=1), "the other side is busy"), Hold("ask me"), ValueError("broken")])
def test_a_job_that_was_asked_to_cancel_is_neither_tried_again_nor_held(either: PgQueuer, ending: BaseException) -> None:
    running = threading.Event()

    @either.entrypoint("busy", on_failure="hold", retry=LATER)
    def busy(job: Job, context: Context) -> None:
        running.set()
        assert context.cancelled.wait(PATIENCE)
        raise ending

    job_id = either.enqueue("busy")
    with working(either) as (worker, requests):
        assert running.wait(PATIENCE)
        requests.ids.add(job_id)
        worker._canceller.look()
        wait_until(lambda: record_of(either, job_id).status == "cancelled")
    assert record_of(either, job_id).errors[0]["message"] == f"the job was asked to cancel: {ending}"


@pytest.mark.parametrize(
    "ending", [Retry(0, "at once"), Hold("ask me"), ValueError("broken")], ids=lambda ending: type(ending).__name__
)
def test_a_job_that_goes_back_before_it_was_told_of_the_request_ends_there(either: PgQueuer, ending: BaseException) -> None:
    running, asked = threading.Event(), threading.Event()

    @either.entrypoint("hasty", on_failure="hold", retry=DatabaseRetry(initial_delay=timedelta()))
    def hasty(job: Job) -> None:
        running.set()
        assert asked.wait(PATIENCE)
        raise ending

    job_id = either.enqueue("hasty")
    with working(either):  # whose canceller hears of no request
        assert running.wait(PATIENCE)
        assert either.jobs.cancel([job_id]).asked == [job_id]
        asked.set()
        wait_until(lambda: record_of(either, job_id).status == "cancelled")
    record = record_of(either, job_id)
    assert record.attempts == 1
    assert [error["message"] for error in record.errors] == [str(ending), "it was cancelled while it waited"]


def test_a_job_that_was_asked_to_cancel_and_still_runs_at_the_stop_is_not_put_back(either: PgQueuer) -> None:
    running, finish = threading.Event(), threading.Event()

    @either.entrypoint("stubborn")
    def stubborn(job: Job, context: Context) -> None:
        assert context.cancelled.wait(PATIENCE)
        running.set()
        finish.wait(PATIENCE)

    job_id = either.enqueue("stubborn")
    with working(either) as (worker, requests):
        requests.ids.add(job_id)
        assert running.wait(PATIENCE)
        report = worker.stop(timeout=0)
        finish.set()
    assert record_of(either, job_id).status == "cancelled"
    # Its thread goes on, and keeps the interpreter from exiting; but the job does not run again.
    assert (report.requeued, report.stuck) == (0, 1)


@pytest.mark.parametrize("on_failure", ["fail", "hold"])
def test_a_job_whose_workers_died_too_often_is_not_run_again(either: PgQueuer, dsn: str, on_failure: str) -> None:
    ran: list[int] = []
    either.entrypoint("killer", on_failure=on_failure)(lambda job: ran.append(job.id))  # type: ignore[arg-type]
    once_more, too_often = either.enqueue("killer"), either.enqueue("killer")
    for job_id, rescues in ((once_more, 3), (too_often, 4)):
        if isinstance(either.store, MemoryStore):
            state = either.store._state
            state.put(dataclasses.replace(state.jobs[job_id], rescues=rescues))
        else:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("update pgq_job set rescues = %s where id = %s", [rescues, job_id])
    either.drain()

    assert ran == [once_more]
    record = record_of(either, too_often)
    assert record.status == ("held" if on_failure == "hold" else "failed")
    assert record.errors[0]["message"] == "its worker died 4 times while it ran: it is not run again"


def test_how_often_a_job_is_run_again_is_a_setting(either: PgQueuer) -> None:
    assert either.settings.max_rescues == 3
    assert either.settings.replace(max_rescues=0).max_rescues == 0
