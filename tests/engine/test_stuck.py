"""Threads that hang beyond their job's timeout: replaced, reported, settled; too many of them end the worker."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pgq_sync import DatabaseRetry, Job, NewJob, PgQueuer, Worker, WorkReport
from pgq_sync.engine import watchdog
from tests.cli.console import Console
from tests.entrypoints.support import record_of
from tests.waiting import PATIENCE, wait_until

JOB_TIMEOUT = "pgq_sync.errors.JobTimeout"
LATER = DatabaseRetry(initial_delay=timedelta(minutes=5))


class Hanging:
    """A handler that hangs where no exception gets to it, until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.let_go = threading.Lock()
        self.let_go.acquire()

    def __call__(self, job: Job) -> None:
        self.started.release()
        with self.let_go:
            pass


@pytest.fixture
def hang() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.let_go.release()


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog.Watchdog.__init__, "__defaults__", (0.1,))


def run_in_thread(worker: Worker) -> tuple[threading.Thread, list[WorkReport]]:
    reports: list[WorkReport] = []
    thread = threading.Thread(target=lambda: reports.append(worker.run()))
    thread.start()
    return thread, reports


def test_a_stuck_thread_is_replaced_and_its_outcome_is_written_when_it_ends(
    either: PgQueuer, hang: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    at_once: list[int] = []
    running = threading.Lock()

    @either.entrypoint("quick")
    def quick(job: Job) -> None:
        with running:
            at_once.append(len(worker._slots.running()))

    either.entrypoint("hangs", timeout=0.05)(hang)
    stuck = either.enqueue("hangs", priority=1)
    with either.worker(concurrency=1) as worker:
        assert hang.started.acquire(timeout=PATIENCE)
        either.enqueue_many(NewJob(entrypoint="quick") for _ in range(50))
        wait_until(lambda: either.jobs.count().get(("quick", "succeeded")) == 50)
        # It keeps its claim meanwhile, and one other job runs at a time.
        assert record_of(either, stuck).status == "running"
        assert set(at_once) == {2}
        assert worker._slots.stuck == 1

        hang.let_go.release()
        wait_until(lambda: record_of(either, stuck).status == "failed")
        wait_until(lambda: worker._slots.stuck == 0)
        either.enqueue("quick")
        wait_until(lambda: either.jobs.count().get(("quick", "succeeded")) == 51)
        assert at_once[-1] == 1
        hang.let_go.acquire()
    assert record_of(either, stuck).errors[0]["type"] == JOB_TIMEOUT
    assert (worker.stop().stuck, worker.stop().counts) == (0, {"succeeded": 51, "failed": 1})
    (line,) = [record.getMessage() for record in caplog.records if "is stuck" in record.getMessage()]
    assert f"job {stuck} of hangs is stuck" in line
    assert "with a timeout of 0.05 s, and hangs in __call__" in line
    assert f"{__file__}:" in line


def test_a_stuck_thread_takes_no_part_in_how_far_ahead_the_others_claim(either: PgQueuer, hang: Hanging) -> None:
    def quick_jobs(number: int) -> None:
        either.enqueue_many(NewJob(entrypoint="quick") for _ in range(200))
        wait_until(lambda: either.jobs.count().get(("quick", "succeeded")) == number)

    either.entrypoint("quick")(lambda job: None)
    either.entrypoint("slow")(lambda job: time.sleep(0.2))  # a job that is not short
    either.entrypoint("hangs", timeout=0.05)(hang)
    with either.worker(concurrency=1) as worker:
        quick_jobs(200)
        either.enqueue("hangs")
        wait_until(lambda: worker._slots.stuck == 1)
        assert worker._slots.room().ahead > 100
        either.enqueue("slow")
        wait_until(lambda: either.jobs.count().get(("slow", "succeeded")) == 1)
        assert worker._slots.room().ahead < 20
        quick_jobs(400)
        hang.let_go.release()
        wait_until(lambda: worker._slots.stuck == 0)
        quick_jobs(600)
        assert worker._slots.room().ahead > 100
        hang.let_go.acquire()


def test_more_stuck_threads_than_can_be_replaced_end_the_worker(
    either: PgQueuer, hang: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    either.entrypoint("hangs", timeout=0.05)(hang)
    either.entrypoint("hangs and is tried again", timeout=0.05, retry=LATER)(hang)
    either.entrypoint("hangs and is held", timeout=0.05, on_failure="hold")(hang)
    either.entrypoint("waits")(lambda job: None)
    ids = [either.enqueue(name) for name in either.registry.names()[:3]]
    worker = either.worker(concurrency=1, max_stuck=2, shutdown_timeout=timedelta(hours=1))
    thread, reports = run_in_thread(worker)
    thread.join(PATIENCE)

    assert not thread.is_alive()
    (report,) = reports
    assert (report.stuck, report.exhausted, report.requeued) == (3, True, 0)
    assert any(message.endswith(f" s: {report}") for message in caplog.messages)
    assert "3 threads are stuck, more than max_stuck: this worker needs a new process" in caplog.messages
    assert [record_of(either, job_id).status for job_id in ids] == ["failed", "queued", "held"]
    assert {record_of(either, job_id).errors[0]["type"] for job_id in ids} == {JOB_TIMEOUT}
    either.enqueue("waits")
    assert either.drain(entrypoints=["waits"]).counts == {"succeeded": 1}


def test_a_slot_that_could_not_be_replaced_comes_back_when_its_thread_ends(either: PgQueuer, hang: Hanging) -> None:
    either.entrypoint("hangs", timeout=0.05)(hang)
    either.entrypoint("waits")(lambda job: None)
    either.enqueue("hangs")
    with either.worker(concurrency=1, max_stuck=0) as worker:
        wait_until(lambda: worker._slots.stuck == 1)
        either.enqueue("waits")
        hang.let_go.release()
        # Nobody waits in `run`, to start another process.
        wait_until(lambda: either.jobs.count().get(("waits", "succeeded")) == 1)
        assert hang.let_go.acquire(timeout=PATIENCE)
    assert worker.stop().counts == {"failed": 1, "succeeded": 1}


def test_a_worker_that_is_stopped_does_not_wait_for_a_stuck_thread(either: PgQueuer, hang: Hanging) -> None:
    either.entrypoint("hangs", timeout=0.05)(hang)
    job_id = either.enqueue("hangs")
    worker = either.worker(shutdown_timeout=timedelta(hours=1))
    thread, reports = run_in_thread(worker)
    wait_until(lambda: worker._slots.stuck == 1)
    worker.request_stop()
    thread.join(PATIENCE)

    assert not thread.is_alive()
    assert [(report.stuck, report.exhausted, dict(report.counts)) for report in reports] == [(1, False, {"failed": 1})]
    assert record_of(either, job_id).errors[0]["type"] == JOB_TIMEOUT


def test_a_thread_that_gets_stuck_while_the_worker_stops_does_not_hold_it_up(either: PgQueuer, hang: Hanging) -> None:
    either.entrypoint("hangs", timeout=1.0)(hang)
    either.enqueue("hangs")
    worker = either.worker(shutdown_timeout=timedelta(hours=1))
    worker.start()
    assert hang.started.acquire(timeout=PATIENCE)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert (worker.stop().stuck, worker.stop().requeued) == (1, 0)


def test_an_outcome_that_comes_after_the_stop_is_refused_by_the_fence(either: PgQueuer, hang: Hanging) -> None:
    either.entrypoint("hangs", timeout=0.05, retry=DatabaseRetry(initial_delay=timedelta()))(hang)
    job_id = either.enqueue("hangs")
    worker = either.worker()
    worker.start()
    wait_until(lambda: worker._slots.stuck == 1)
    worker.stop()
    assert record_of(either, job_id).status == "queued"
    with either.worker(concurrency=1) as second:
        wait_until(lambda: second._slots.stuck == 1)
        assert record_of(either, job_id).attempts == 2
    assert [error["attempt"] for error in record_of(either, job_id).errors] == [1, 2]


def test_a_signal_while_an_exhausted_worker_stops_keeps_it_from_starting_again(either: PgQueuer, hang: Hanging) -> None:
    running, finish = threading.Event(), threading.Event()

    @either.entrypoint("keeps it busy")
    def keeps_it_busy(job: Job) -> None:
        running.set()
        finish.wait(PATIENCE)

    either.entrypoint("hangs", timeout=0.05)(hang)
    either.enqueue("keeps it busy", priority=1)
    either.enqueue("hangs")
    worker = either.worker(concurrency=2, max_stuck=0, shutdown_timeout=timedelta(hours=1))
    thread, reports = run_in_thread(worker)
    assert running.wait(PATIENCE)
    wait_until(lambda: [info.state for info in either.store.workers()] == ["stopping"])
    worker.request_stop()
    thread.join(PATIENCE)
    finish.set()
    assert [report.exhausted for report in reports] == [False]


APPLICATION = """
import threading
import time
from pgq_sync import PgQueuer
from pgq_sync.engine import watchdog

watchdog.Watchdog.__init__.__defaults__ = (0.1,)
pgq = PgQueuer.from_dsn()
closed = threading.Lock()
closed.acquire()

@pgq.entrypoint("hangs", timeout=0.05)
def hangs(job):
    print("hangs", flush=True)
    closed.acquire()

@pgq.entrypoint("works")
def works(job):
    print("works", flush=True)
"""


@pytest.fixture
def console(tmp_path: Path, dsn: str) -> Console:
    console = Console(tmp_path, PGQ_DSN=dsn, PGQ_MAX_STUCK="0")
    console.write("shop.py", APPLICATION)
    return console


@pytest.mark.skipif(sys.platform == "win32", reason="signals and exec are those of POSIX")
def test_the_command_line_becomes_a_new_process_when_too_many_threads_hang(console: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("hangs")
    with console.start("worker", "shop:pgq", "--concurrency", "1", "--name", "again") as running:
        running.stdout.wait_for("hangs")
        pgq.enqueue("works")
        running.stdout.wait_for("works")
        pids = [info.pid for info in pgq.store.workers() if info.name == "again"]
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert pids == [running.pid]
    assert str(running.stderr).count(" started: ") == 2
    assert str(running.stderr).count("the worker has stopped, and it starts itself anew") == 1
    assert record_of(pgq, job_id).errors[0]["type"] == JOB_TIMEOUT


def test_under_a_supervisor_it_exits_and_asks_for_a_new_one(console: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("hangs")
    with console.start("worker", "shop:pgq", "--concurrency", "1", "--processes", "1") as running:
        running.stdout.wait_for("hangs")
        pgq.enqueue("works")
        running.stdout.wait_for("works")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert "75" in str(running.stderr)
    assert "the worker has stopped, and its supervisor starts a new process" in str(running.stderr)
    assert str(running.stderr).count("worker") >= 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_a_stuck_thread_does_not_keep_the_command_line_from_ending(console: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("hangs")
    with console.start("worker", "shop:pgq", "--concurrency", "2", PGQ_MAX_STUCK="1") as running:
        running.stderr.wait_for("is stuck")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


def test_logs_name_the_fields_of_the_stuck_job(pgq: PgQueuer, hang: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    pgq.entrypoint("hangs", timeout=0.05)(hang)
    job_id = pgq.enqueue("hangs")
    with caplog.at_level(logging.ERROR), pgq.worker():
        wait_until(lambda: [getattr(record, "job_id", None) for record in caplog.records] == [job_id])
