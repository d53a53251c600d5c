"""A worker from its start to its stop, on both stores."""

from __future__ import annotations

import queue
import signal
import threading
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import Context, Job, NewJob, PgQueuer, QueueExecutionMode
from pgq_sync.testing.databases import database
from tests.waiting import PATIENCE, wait_until

# So long that nothing in these tests can be the work of a poll.
NO_POLL = timedelta(hours=1)


def collector(pgq: PgQueuer, name: str = "collect") -> queue.SimpleQueue[Job]:
    """Registers an entrypoint that puts its jobs where the test can wait for them."""
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    pgq.entrypoint(name)(jobs.put)
    return jobs


def test_a_job_enqueued_while_the_worker_is_idle_starts_without_a_poll(either: PgQueuer) -> None:
    jobs = collector(either)
    with either.worker(poll_interval=NO_POLL) as worker:
        assert worker.listening.wait(PATIENCE)
        for number in range(300):
            job_id = either.enqueue("collect", str(number))
            assert jobs.get(timeout=PATIENCE).id == job_id


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_names_of_a_database_that_does_not_speak_utf_8_are_heard(server: str, encoding: str) -> None:
    with database(server, "template0", f"encoding {encoding} locale 'C'") as dsn, PgQueuer.from_dsn(dsn) as pgq:
        pgq.schema.install()
        jobs = collector(pgq, "größe")
        with pgq.worker(poll_interval=NO_POLL) as worker:
            assert worker.listening.wait(PATIENCE)
            job_id = pgq.enqueue("größe")
            assert jobs.get(timeout=PATIENCE).id == job_id


def test_no_wake_up_is_lost_when_many_threads_enqueue_at_once(either: PgQueuer) -> None:
    jobs = collector(either)

    def produce() -> None:
        for _ in range(200):
            either.enqueue("collect")

    with either.worker(poll_interval=NO_POLL) as worker:
        assert worker.listening.wait(PATIENCE)
        producers = [threading.Thread(target=produce) for _ in range(5)]
        for producer in producers:
            producer.start()
        ids = {jobs.get(timeout=PATIENCE).id for _ in range(1000)}
        for producer in producers:
            producer.join(PATIENCE)
    assert len(ids) == 1000


def test_a_deferred_job_starts_when_it_is_due_without_a_poll(either: PgQueuer) -> None:
    jobs = collector(either)
    with either.worker(poll_interval=NO_POLL) as worker:
        assert worker.listening.wait(PATIENCE)
        either.enqueue("collect", execute_after=timedelta(seconds=0.5))
        job = jobs.get(timeout=PATIENCE)
    assert timedelta() <= job.claimed_at - job.execute_after < timedelta(seconds=2)


def test_a_job_deferred_before_the_worker_started_starts_when_it_is_due(either: PgQueuer) -> None:
    jobs = collector(either)
    either.enqueue("collect", execute_after=timedelta(seconds=0.5))
    with either.worker(poll_interval=NO_POLL):
        job = jobs.get(timeout=PATIENCE)
    assert timedelta() <= job.claimed_at - job.execute_after < timedelta(seconds=2)


def test_a_drain_leaves_deferred_jobs_and_runs_children(either: PgQueuer) -> None:
    jobs = collector(either, "child")

    @either.entrypoint("parent")
    def parent(job: Job, context: Context) -> None:
        context.enqueue("child", job.payload)

    either.enqueue("parent", b"one")
    either.enqueue("parent", b"later", execute_after=timedelta(hours=1))
    report = either.drain()

    assert report.counts == {"succeeded": 2}
    assert jobs.get_nowait().payload == b"one"
    assert [record.payload for record in either.jobs.find(status="queued")] == [b"later"]


def test_larger_priorities_run_first_and_equal_ones_in_order(either: PgQueuer) -> None:
    jobs = collector(either)
    for number, priority in enumerate([0, 5, -3, 5, 0]):
        either.enqueue("collect", str(number), priority=priority)
    either.drain(concurrency=1)

    order = [jobs.get_nowait().payload for _ in range(5)]
    assert order == [b"1", b"3", b"0", b"4", b"2"]


def test_max_jobs_ends_a_worker_after_so_many(either: PgQueuer) -> None:
    collector(either)
    either.enqueue_many(NewJob(entrypoint="collect") for _ in range(50))
    report = either.run(max_jobs=7)

    assert report.counts == {"succeeded": 7}
    assert either.jobs.count()["collect", "queued"] == 43


def test_a_worker_serves_only_its_queues_and_entrypoints(either: PgQueuer) -> None:
    mail, other = collector(either, "mail"), collector(either, "other")
    either.enqueue("mail", b"served", queue="fast")
    either.enqueue("mail", b"wrong queue")
    either.enqueue("other", b"wrong entrypoint", queue="fast")
    report = either.drain(queues=["fast"], entrypoints=["mail"])

    assert report.counts == {"succeeded": 1}
    assert mail.get_nowait().payload == b"served"
    assert other.empty()


@pytest.mark.parametrize("stopped", ["by request", "by leaving the block"])
def test_stopping_waits_for_running_jobs_and_gives_back_the_others_unstarted(either: PgQueuer, stopped: str) -> None:
    running, finish = threading.Semaphore(0), threading.Event()

    @either.entrypoint("wait")
    def wait(job: Job) -> None:
        running.release()
        assert finish.wait(PATIENCE)

    either.enqueue_many(NewJob(entrypoint="wait") for _ in range(20))
    worker = either.worker(concurrency=2, name="stopping")
    # Nothing was measured yet, so two are claimed for the slots; the others are claimed ahead only by hand here.
    worker.start()
    for _ in range(2):
        assert running.acquire(timeout=PATIENCE)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    wait_until(lambda: [info.state for info in either.store.workers() if info.name == "stopping"] == ["stopping"])
    finish.set()
    stopper.join(PATIENCE)

    assert worker.stop().counts["succeeded"] == 2
    assert either.jobs.count() == {("wait", "succeeded"): 2, ("wait", "queued"): 18}
    assert {record.attempts for record in either.jobs.find(status="queued")} == {0}
    assert either.store.workers() == []


def long_among_short(pgq: PgQueuer) -> tuple[threading.Event, threading.Event]:
    """200 short jobs, one that runs until it may finish, and 50 short ones; the events of its start and its finish.

    The short ones teach a worker to claim far ahead; then the long one keeps its only slot.
    """
    running, finish = threading.Event(), threading.Event()

    @pgq.entrypoint("mixed")
    def mixed(job: Job) -> None:
        if job.payload == b"long":
            running.set()
            assert finish.wait(PATIENCE)

    pgq.enqueue_many(NewJob(entrypoint="mixed") for _ in range(200))
    pgq.enqueue("mixed", b"long")
    pgq.enqueue_many(NewJob(entrypoint="mixed") for _ in range(50))
    return running, finish


def test_jobs_claimed_ahead_are_given_back_with_no_attempt_spent(either: PgQueuer) -> None:
    running, finish = long_among_short(either)
    worker = either.worker(concurrency=1)
    worker.start()
    assert running.wait(PATIENCE)
    wait_until(lambda: ("mixed", "queued") not in either.jobs.count())
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    wait_until(lambda: either.jobs.count().get(("mixed", "queued")) == 50)
    finish.set()
    stopper.join(PATIENCE)

    assert worker.stop().counts == {"succeeded": 201, "released": 50}
    assert {record.attempts for record in either.jobs.find(status="queued", limit=100)} == {0}


def test_jobs_claimed_ahead_of_long_ones_go_to_another_worker_before_the_stop(either: PgQueuer) -> None:
    running, finish = long_among_short(either)
    with either.worker(concurrency=1, beat_interval=timedelta(milliseconds=200)):
        assert running.wait(PATIENCE)
        wait_until(lambda: either.jobs.count().get(("mixed", "succeeded")) == 200)
        with either.worker(concurrency=1):
            wait_until(lambda: either.jobs.count().get(("mixed", "succeeded")) == 250)
        finish.set()


def test_a_job_that_outlives_the_stop_is_asked_to_end_then_put_back(either: PgQueuer) -> None:
    running, asked, finish = threading.Event(), threading.Event(), threading.Event()

    @either.entrypoint("stubborn")
    def stubborn(job: Job, context: Context) -> None:
        running.set()
        assert context.cancelled.wait(PATIENCE)
        asked.set()
        finish.wait(PATIENCE)

    job_id = either.enqueue("stubborn")
    worker = either.worker()
    worker.start()
    assert running.wait(PATIENCE)
    report = worker.stop(timeout=0)
    finish.set()

    assert asked.is_set()
    assert report.requeued == 1
    record = either.jobs.get(job_id)
    assert record is not None
    assert (record.status, record.attempts, record.errors[0]["type"]) == ("queued", 0, "Interrupted")


def test_a_job_that_checks_goes_back_into_the_queue_when_its_worker_has_no_more_time(either: PgQueuer) -> None:
    running = threading.Event()

    @either.entrypoint("patient")
    def patient(job: Job, context: Context) -> None:
        running.set()
        assert context.cancelled.wait(PATIENCE)
        context.check()

    job_id = either.enqueue("patient")
    with either.worker() as worker:
        assert running.wait(PATIENCE)
        report = worker.stop(timeout=0)
    # Nobody wants it cancelled: `check` raises Cancelled only since the worker stops.
    assert (report.requeued, report.counts) == (1, {"retried": 1})
    record = either.jobs.get(job_id)
    assert record is not None
    assert (record.status, record.errors[0]["type"]) == ("queued", "Interrupted")


def test_a_job_that_ends_when_asked_is_not_put_back(either: PgQueuer) -> None:
    running = threading.Event()

    @either.entrypoint("polite")
    def polite(job: Job, context: Context) -> None:
        running.set()
        assert context.cancelled.wait(PATIENCE)

    job_id = either.enqueue("polite")
    worker = either.worker()
    worker.start()
    assert running.wait(PATIENCE)
    report = worker.stop(timeout=0)

    assert (report.requeued, report.counts) == (0, {"succeeded": 1})
    assert either.jobs.get(job_id).status == "succeeded"  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_run_and_a_second_one_does_not_wait_for_jobs(either: PgQueuer, number: signal.Signals) -> None:
    finish = threading.Event()

    @either.entrypoint("endless")
    def endless(job: Job, context: Context) -> None:
        signal.raise_signal(number)
        wait_until(lambda: [info.state for info in either.store.workers()] == ["stopping"])
        signal.raise_signal(number)
        finish.wait(PATIENCE)

    either.enqueue("endless")
    before = signal.getsignal(number)
    report = either.run(shutdown_timeout=timedelta(hours=1))
    finish.set()

    assert report.requeued == 1
    assert signal.getsignal(number) is before


def test_a_stopped_worker_leaves_no_thread_behind(either: PgQueuer) -> None:
    collector(either)
    with either.worker() as worker:
        assert worker.listening.wait(PATIENCE)
        names = {thread.name for thread in threading.enumerate() if thread.name.startswith("pgq-")}
        assert {"pgq-listener", "pgq-completer", "pgq-keeper"} <= names
    left = {"pgq-listener", "pgq-completer", "pgq-keeper", "pgq-scheduler"} | {name for name in names if "slot" in name}
    wait_until(lambda: left.isdisjoint(thread.name for thread in threading.enumerate()))


def broken(*arguments: Any, **options: Any) -> None:
    raise ZeroDivisionError("a bug in the engine")


def test_a_crashed_thread_ends_the_worker_in_good_order(either: PgQueuer) -> None:
    collector(either)
    worker = either.worker(beat_interval=timedelta(milliseconds=10))
    worker._keeper._on_peers = broken
    with pytest.raises(ZeroDivisionError):
        worker.run()


def test_a_worker_that_nobody_runs_stops_too_when_a_thread_crashes(either: PgQueuer) -> None:
    collector(either)
    with pytest.raises(ZeroDivisionError), either.worker() as worker:
        assert worker.listening.wait(PATIENCE)
        worker._listener._room = broken  # type: ignore[assignment]  # a bug in the engine
        either.enqueue("collect")
        # It does not go on beating as if it worked; others are told that it may have left claimed jobs behind.
        wait_until(lambda: [info.state for info in either.store.workers()] == ["stopping"])


def test_jobs_of_the_report_are_counted_by_outcome(either: PgQueuer) -> None:
    @either.entrypoint("odd")
    def odd(job: Job) -> None:
        if job.id % 2:
            raise ValueError("odd")

    either.enqueue_many(NewJob(entrypoint="odd") for _ in range(10))
    assert either.drain().counts == {"succeeded": 5, "failed": 5}


def test_draining_nothing_ends_at_once(either: PgQueuer) -> None:
    collector(either)
    assert either.run(mode=QueueExecutionMode.drain).counts == {}


@pytest.mark.parametrize("timeout", ["5", -1, float("nan")])
def test_a_timeout_that_is_none_stops_nothing(either: PgQueuer, timeout: Any) -> None:
    ran = threading.Event()
    either.entrypoint("work")(lambda job: ran.set())
    with either.worker() as worker:
        with pytest.raises((TypeError, ValueError), match=r"^timeout="):
            worker.stop(timeout)
        either.enqueue("work")
        assert ran.wait(PATIENCE)
