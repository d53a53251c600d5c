"""Jobs on other executors of `concurrent.futures`: given ready, or made at first use."""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgq_sync import DatabaseRetry, NewJob, PgQueuer, ProcessExecutor
from tests.entrypoints import process_handlers as handlers
from tests.entrypoints.processes import drained, pids_in
from tests.entrypoints.support import record_of, run_one
from tests.waiting import PATIENCE, wait_until

HOUR = timedelta(hours=1)
SPAWN = multiprocessing.get_context("spawn")


def on(pool: Executor | Callable[[], Executor]) -> Callable[..., ProcessExecutor]:
    return functools.partial(ProcessExecutor, pool=pool)


class Made:
    """Makes thread pools, and notes them."""

    def __init__(self) -> None:
        self.pools: list[ThreadPoolExecutor] = []

    def __call__(self) -> Executor:
        self.pools.append(ThreadPoolExecutor(2))
        return self.pools[-1]


def test_jobs_run_in_the_pool_and_their_results_and_errors_come_back(either: PgQueuer) -> None:
    with ThreadPoolExecutor(2) as pool:
        record = run_one(either, handlers.tell_pid, executor_factory=on(pool), store_result=True)
        assert record.result == os.getpid()
        either.entrypoint("fails", executor_factory=on(pool))(handlers.fail)
        failed = either.enqueue("fails")
        either.drain()
        (error,) = record_of(either, failed).errors
        assert error["type"] == "ValueError"
        assert "in deep_inside\n" in error["traceback"]
        assert pool.submit(lambda: "still open").result() == "still open"


def test_a_pool_of_processes_that_breaks_fails_the_attempt_and_the_next_gets_a_new_one(either: PgQueuer) -> None:
    make = functools.partial(ProcessPoolExecutor, 1, mp_context=SPAWN)
    policy = DatabaseRetry(initial_delay=0)
    record = run_one(either, handlers.crash_first, executor_factory=on(make), retry=policy, store_result=True)
    assert (record.status, record.result) == ("succeeded", 2)
    assert [error["type"] for error in record.errors] == ["concurrent.futures.process.BrokenProcessPool"]


def test_what_makes_a_pool_is_called_at_first_use_and_the_pool_ends_with_the_worker() -> None:
    pgq, make = PgQueuer.in_memory(), Made()
    pgq.entrypoint("pid", executor_factory=on(make))(handlers.tell_pid)
    assert make.pools == []
    for uses in (1, 2):
        pgq.enqueue("pid")
        pgq.enqueue("pid")
        assert drained(pgq) == {"succeeded": 2}
        assert len(make.pools) == uses
        with pytest.raises(RuntimeError, match="after shutdown"):
            make.pools[-1].submit(print)


def test_a_pool_that_another_worker_uses_is_not_shut_down(tmp_path: Path) -> None:
    pgq, make = PgQueuer.in_memory(), Made()
    pgq.entrypoint("waits", executor_factory=on(make))(handlers.wait_for_gate)
    pgq.entrypoint("idle")(lambda job: None)
    job_id = pgq.enqueue("waits", json.dumps(str(tmp_path)))
    with pgq.worker():
        pids_in(tmp_path)
        pgq.drain(entrypoints=["idle"])
        assert make.pools[0].submit(lambda: "still open").result() == "still open"
        (tmp_path / "gate").touch()
        wait_until(lambda: record_of(pgq, job_id).status == "succeeded")


def test_a_job_whose_time_is_over_is_not_waited_for(either: PgQueuer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        either.entrypoint("waits", executor_factory=on(pool), timeout=0.05)(handlers.wait_for_gate)
        running = either.enqueue("waits", json.dumps(str(tmp_path)))
        pending = either.enqueue("waits", json.dumps(str(tmp_path)))
        assert drained(either) == {"failed": 2}
        (tmp_path / "gate").touch()
    for job_id in (running, pending):
        (error,) = record_of(either, job_id).errors
        assert error["type"] == "pgq_sync.errors.JobTimeout"


def test_what_takes_long_to_make_a_pool_holds_up_neither_timeouts_nor_the_worker(either: PgQueuer) -> None:
    answers = threading.Event()
    made: list[ThreadPoolExecutor] = []

    def cluster() -> Executor:
        answers.wait(PATIENCE)
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    either.entrypoint("late", executor_factory=on(cluster), timeout=0.05)(handlers.tell_pid)
    either.entrypoint("waits", executor_factory=on(cluster))(handlers.tell_pid)
    late, waiting = either.enqueue_many([NewJob(entrypoint="late"), NewJob(entrypoint="waits")])
    worker = either.worker(shutdown_timeout=HOUR)
    stopper = threading.Thread(target=worker.stop)
    try:
        worker.start()
        wait_until(lambda: record_of(either, late).status == "failed")
        wait_until(lambda: record_of(either, waiting).status == "running")
        stopper.start()
        wait_until(lambda: record_of(either, waiting).status == "queued")
        stopper.join(PATIENCE / 2)
        assert not stopper.is_alive()
    finally:
        answers.set()
    assert record_of(either, late).errors[0]["type"] == "pgq_sync.errors.JobTimeout"
    assert record_of(either, waiting).attempts == 0
    wait_until(lambda: len(made) == 2 and all(pool._shutdown for pool in made))  # nobody wants them any more


def test_a_pool_that_cannot_be_made_fails_the_attempt_and_the_next_one_tries_again(either: PgQueuer) -> None:
    makers: list[Callable[[], Executor]] = [functools.partial(ThreadPoolExecutor, 1)]

    def cluster() -> Executor:
        if len(makers) == 1:
            makers.append(makers[0])
            raise ConnectionError("no scheduler answers")
        return makers.pop()()

    record = run_one(either, handlers.tell_pid, executor_factory=on(cluster), retry=DatabaseRetry(initial_delay=0))
    assert (record.status, record.attempts) == ("succeeded", 2)
    assert [error["message"] for error in record.errors] == ["no scheduler answers"]


def test_a_worker_does_not_wait_for_what_a_job_still_does_whose_time_was_over(either: PgQueuer, tmp_path: Path) -> None:
    either.entrypoint("waits", executor_factory=on(Made()), timeout=0.05)(handlers.wait_for_gate)
    job_id = either.enqueue("waits", json.dumps(str(tmp_path)))
    drain = threading.Thread(target=either.drain)
    drain.start()
    try:
        pids_in(tmp_path)
        drain.join(PATIENCE / 2)
        assert not drain.is_alive()
    finally:
        (tmp_path / "gate").touch()
    assert record_of(either, job_id).status == "failed"


def test_a_cancelled_job_is_not_waited_for(either: PgQueuer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        either.entrypoint("waits", executor_factory=on(pool))(handlers.wait_for_gate)
        job_id = either.enqueue("waits", json.dumps(str(tmp_path)))
        with either.worker():
            pids_in(tmp_path)
            either.jobs.cancel([job_id])
            wait_until(lambda: record_of(either, job_id).status == "cancelled")
        (tmp_path / "gate").touch()


def test_a_running_job_may_finish_when_the_worker_stops(either: PgQueuer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        either.entrypoint("waits", executor_factory=on(pool))(handlers.wait_for_gate)
        job_id = either.enqueue("waits", json.dumps(str(tmp_path)))
        worker = either.worker(shutdown_timeout=HOUR)
        worker.start()
        pids_in(tmp_path)
        stopper = threading.Thread(target=worker.stop)
        stopper.start()
        wait_until(lambda: [info.state for info in either.store.workers()] == ["stopping"])
        (tmp_path / "gate").touch()
        stopper.join(PATIENCE)
        assert record_of(either, job_id).status == "succeeded"


def test_jobs_run_on_a_cluster(either: PgQueuer) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("distributed")
    distributed: Any = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        factory = on(client.get_executor())
        either.entrypoint("describe", executor_factory=factory, store_result=True)(handlers.describe_job)
        either.entrypoint("fails", executor_factory=factory)(handlers.fail)
        job_id, failed = either.enqueue("describe", "payload"), either.enqueue("fails")
        assert drained(either) == {"succeeded": 1, "failed": 1}
    result: Any = record_of(either, job_id).result
    assert result[:3] == [job_id, "describe", "payload"]
    assert record_of(either, failed).errors[0]["type"] == "ValueError"


def test_a_function_that_makes_no_executor_is_named(either: PgQueuer, caplog: pytest.LogCaptureFixture) -> None:
    def five() -> Any:
        return 5

    record = run_one(either, handlers.tell_pid, executor_factory=on(five))
    (error,) = record.errors
    assert error["type"] == "TypeError"
    assert "five at " in error["message"]
    assert error["message"].endswith("returned 5: it must make an Executor of concurrent.futures")
    assert "has no attribute" not in caplog.text


def test_an_executor_of_ones_own_that_was_shut_down_is_named(either: PgQueuer) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    (error,) = run_one(either, handlers.tell_pid, executor_factory=on(pool)).errors
    assert error["type"] == "RuntimeError"
    assert error["message"].startswith("the executor given as pool=<concurrent.futures.thread.ThreadPoolExecutor object")
    assert error["message"].endswith("takes no jobs: cannot schedule new futures after shutdown")
