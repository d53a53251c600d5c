"""How jobs in processes of their own end before they are done, and that no process, pipe or place in the pool is lost."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgq_sync import DatabaseRetry, NewJob, PgQueuer, ProcessExecutor, testing
from pgq_sync.engine.inline import Inline
from pgq_sync.models import Settlement
from tests.entrypoints import process_handlers as handlers
from tests.entrypoints.processes import ONE, TWO, children, drained, pids_in, runs
from tests.entrypoints.support import record_of
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted by /proc")

HOUR = timedelta(hours=1)
LEFT_OPEN = """
import sys
sys.path.insert(0, ".")
from datetime import datetime, timezone
from uuid import uuid4
from pgq_sync import Context, Job, JobId, PgQueuer
from tests.entrypoints import process_handlers as handlers
from tests.entrypoints.processes import ONE

if __name__ == "__main__":
    pgq, now = PgQueuer.in_memory(), datetime.now(timezone.utc)
    pgq.entrypoint("pid", executor_factory=ONE, store_result=True)(handlers.tell_pid)
    job = Job(JobId(1), "default", "pid", None, None, 0, 1, now, now, now, None, uuid4())
    print(pgq.registry.get("pid").executor.execute(job, Context(job, {}, pgq)))
"""


def warm_up(pgq: PgQueuer, entrypoint: str, payload: str | None = None) -> None:
    """Returns when a process serves this entrypoint; a worker runs.

    While it starts, jobs whose time is over before it is ready fail; it starts all the same.
    """

    def succeeds() -> bool:
        job_id = pgq.enqueue(entrypoint, payload)
        wait_until(lambda: record_of(pgq, job_id).finished_at)
        return record_of(pgq, job_id).status == "succeeded"

    wait_until(succeeds)


def start(pgq: PgQueuer, func: Callable[..., Any], directory: Path, executor: Any = ONE, **options: Any) -> int:
    """Enqueues one job that `func` serves in a process."""
    pgq.entrypoint("work", executor_factory=executor, **options)(func)
    return pgq.enqueue("work", json.dumps(str(directory)))


def test_a_call_into_c_is_killed_when_its_time_is_over(either: PgQueuer, tmp_path: Path) -> None:
    either.entrypoint("work", executor_factory=ONE, timeout=0.5)(handlers.spin_in_c)

    with either.worker():
        warm_up(either, "work")
        job_id = either.enqueue("work", json.dumps(str(tmp_path)))
        (pid,) = pids_in(tmp_path)
        wait_until(lambda: record_of(either, job_id).status == "failed")
        assert not runs(pid)
    (error,) = record_of(either, job_id).errors
    assert error["type"] == "pgq_sync.errors.JobTimeout"
    assert error["message"] == "the attempt took longer than its timeout of 0.5 s"
    assert "ProcessCrashed" not in error["traceback"]  # it was killed on purpose


def test_a_process_is_killed_with_whatever_it_has_started(either: PgQueuer, tmp_path: Path) -> None:
    start(either, handlers.start_a_process, tmp_path)
    with either.worker(shutdown_timeout=timedelta()):
        (pid,) = pids_in(tmp_path)
        started = int((tmp_path / "started").read_text())
        assert runs(started)
    wait_until(lambda: not runs(pid) and not runs(started))


def test_a_job_that_holds_its_interpreter_holds_up_no_other(either: PgQueuer, tmp_path: Path) -> None:
    job_id = start(either, handlers.spin_in_c, tmp_path)
    either.entrypoint("thread")(lambda job: None)
    either.entrypoint("process", executor_factory=ONE)(handlers.tell_pid)
    with either.worker():
        pids_in(tmp_path)
        others = [either.enqueue("thread"), either.enqueue("process")]
        wait_until(lambda: {record_of(either, other).status for other in others} == {"succeeded"})
        assert record_of(either, job_id).status == "running"
        either.jobs.cancel([job_id])
        wait_until(lambda: record_of(either, job_id).status == "cancelled")


def test_a_cancel_request_kills_the_process_and_ends_the_job_as_cancelled(either: PgQueuer, tmp_path: Path) -> None:
    job_id = start(either, handlers.spin_in_c, tmp_path, retry=DatabaseRetry())
    with either.worker():
        (pid,) = pids_in(tmp_path)
        either.jobs.cancel([job_id])
        wait_until(lambda: record_of(either, job_id).status == "cancelled")
        assert not runs(pid)


def test_a_running_job_may_finish_when_the_worker_stops(either: PgQueuer, tmp_path: Path) -> None:
    job_id = start(either, handlers.wait_for_gate, tmp_path, store_result=True)
    worker = either.worker(shutdown_timeout=HOUR)
    worker.start()
    (pid,) = pids_in(tmp_path)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    wait_until(lambda: [info.state for info in either.store.workers()] == ["stopping"])
    os.kill(pid, signal.SIGTERM)  # as a service manager sends it to every process
    os.kill(pid, signal.SIGINT)
    (tmp_path / "gate").touch()
    stopper.join(PATIENCE)
    assert (record_of(either, job_id).status, record_of(either, job_id).result) == ("succeeded", "passed")
    assert not runs(pid)


def test_a_job_that_outlives_the_workers_time_is_killed_and_put_back(either: PgQueuer, tmp_path: Path) -> None:
    job_id = start(either, handlers.spin_in_c, tmp_path)
    worker = either.worker()
    worker.start()
    (pid,) = pids_in(tmp_path)
    report = worker.stop(timeout=0)

    assert (dict(report.counts), report.requeued, report.stuck) == ({"retried": 1}, 1, 0)
    record = record_of(either, job_id)
    assert (record.status, record.attempts, record.errors[0]["type"]) == ("queued", 0, "Interrupted")
    assert not runs(pid)


def test_jobs_that_wait_for_a_process_end_at_once(either: PgQueuer, tmp_path: Path) -> None:
    running = start(either, handlers.wait_for_gate, tmp_path)
    either.entrypoint("other")(lambda job: None)
    worker = either.worker(concurrency=4, shutdown_timeout=HOUR)
    worker.start()
    pids_in(tmp_path)
    waiting = [either.enqueue("work", json.dumps(str(tmp_path))) for _ in range(2)]
    wait_until(lambda: {record_of(either, job_id).status for job_id in waiting} == {"running"})
    either.jobs.cancel(waiting[:1])
    wait_until(lambda: record_of(either, waiting[0]).status == "cancelled")
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    wait_until(lambda: record_of(either, waiting[1]).status == "queued")
    assert record_of(either, running).status == "running"
    (tmp_path / "gate").touch()
    stopper.join(PATIENCE)
    assert record_of(either, running).status == "succeeded"
    assert record_of(either, waiting[1]).attempts == 0


@pytest.mark.alone  # some jobs must end within their 0.2 s
def test_many_deadlines_lose_no_process_and_no_place(either: PgQueuer) -> None:
    either.entrypoint("short", executor_factory=TWO, timeout=0.2)(handlers.nap)
    either.entrypoint("fine", executor_factory=TWO, store_result=True)(handlers.nap)
    with either.worker(concurrency=5):
        warm_up(either, "short", "0")
        # Before, at and after the deadline; and those that wait for a process meanwhile.
        naps = [0.01, 0.19, 0.2, 0.2005, 0.201, 0.21, 5] * 8
        short = either.enqueue_many(NewJob(entrypoint="short", payload=json.dumps(nap)) for nap in naps)
        fine = either.enqueue_many(NewJob(entrypoint="fine", payload="0.01") for _ in range(50))
        wait_until(lambda: all(record_of(either, job_id).finished_at for job_id in (*short, *fine)))

    assert {record_of(either, job_id).status for job_id in short} == {"succeeded", "failed"}
    assert {record_of(either, job_id).status for job_id in short[6::7]} == {"failed"}
    found = either.jobs.find(status="failed", limit=100)
    assert {error["type"] for record in found for error in record.errors} == {"pgq_sync.errors.JobTimeout"}
    assert len({record_of(either, job_id).result for job_id in fine}) <= 2  # never killed in somebody else's place
    pools = [either.registry.get(name).executor._made[os.getpid()] for name in ("short", "fine")]  # type: ignore[attr-defined]
    assert [(pool._count, pool._idle, pool._starting, pool._waiting) for pool in pools] == 2 * [(0, [], 0, 0)]
    assert children(os.getpid()) == set()


def test_a_process_that_dies_while_it_is_idle_is_replaced(either: PgQueuer) -> None:
    either.entrypoint("pid", executor_factory=ONE, store_result=True)(handlers.tell_pid)
    with either.worker():
        first = either.enqueue("pid")
        wait_until(lambda: record_of(either, first).status == "succeeded")
        pid = record_of(either, first).result
        (child,) = either.registry.get("pid").executor._running()._idle  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not child.alive)
        second = either.enqueue("pid")
        wait_until(lambda: record_of(either, second).status == "succeeded")
        assert record_of(either, second).result != pid


def test_what_a_process_has_forked_does_not_hide_its_death(tmp_path: Path) -> None:
    pgq = PgQueuer.in_memory()
    job_id = start(pgq, handlers.keep_the_pipe, tmp_path)
    pgq.drain()
    assert "SIGKILL" in record_of(pgq, job_id).errors[0]["message"]
    wait_until(lambda: not runs(int((tmp_path / "started").read_text())))


def test_nothing_is_left_after_the_worker() -> None:
    pgq = PgQueuer.in_memory()
    pgq.entrypoint("pid", executor_factory=TWO, store_result=True)(handlers.tell_pid)
    pgq.entrypoint("crash", executor_factory=TWO)(handlers.leave)

    def rounds(count: int) -> set[str]:
        for _ in range(count):
            pgq.enqueue_many([NewJob(entrypoint="pid")] * 3 + [NewJob(entrypoint="crash")] * 2)
            assert drained(pgq) == {"succeeded": 3, "failed": 2}
        gc.collect()
        return set(os.listdir("/proc/self/fd"))

    before = rounds(1)  # multiprocessing's own are opened at the first
    assert len(rounds(2)) <= len(before)
    assert children(os.getpid()) == set()


def test_a_pool_whose_processes_have_ended_is_let_go() -> None:
    def used() -> weakref.ref[Any]:
        pgq = PgQueuer.in_memory()
        pgq.entrypoint("pid", executor_factory=ONE)(handlers.tell_pid)
        pgq.enqueue("pid")
        assert drained(pgq) == {"succeeded": 1}
        return weakref.ref(pgq.registry.get("pid").executor._running())  # type: ignore[attr-defined]

    pool = used()
    gc.collect()
    assert pool() is None


def test_an_executor_that_nobody_closed_ends_its_processes_at_exit(tmp_path: Path) -> None:
    script = tmp_path / "left_open.py"
    script.write_text(LEFT_OPEN)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=PATIENCE, check=True, cwd=os.getcwd()
    )
    wait_until(lambda: not runs(int(ended.stdout)))


def test_a_worker_that_stops_leaves_those_of_another_alone(tmp_path: Path) -> None:
    pgq = PgQueuer.in_memory()
    job_id = start(pgq, handlers.wait_for_gate, tmp_path, TWO)
    pgq.entrypoint("idle")(lambda job: None)
    with pgq.worker():
        (pid,) = pids_in(tmp_path)
        assert pgq.drain(entrypoints=["idle"]).counts == {}
        assert runs(pid)
        (tmp_path / "gate").touch()
        wait_until(lambda: record_of(pgq, job_id).status == "succeeded")
        again = pgq.enqueue("work", json.dumps(str(tmp_path)))
        wait_until(lambda: record_of(pgq, again).status == "succeeded")
        assert pids_in(tmp_path) == [pid]
    assert not runs(pid)


def test_a_forked_process_has_processes_of_its_own() -> None:
    pgq = PgQueuer.in_memory()
    pgq.entrypoint("pid", executor_factory=ONE, store_result=True)(handlers.tell_pid)
    with pgq.worker():
        first = pgq.enqueue("pid")
        wait_until(lambda: record_of(pgq, first).status == "succeeded")
        executor = pgq.registry.get("pid").executor
        assert isinstance(executor, ProcessExecutor)
        parents = executor._running()
        forked = os.fork()
        if forked == 0:
            executor.close()
            parents.close()
            os._exit(0 if executor._running() is not parents else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
        second = pgq.enqueue("pid")
        wait_until(lambda: record_of(pgq, second).status == "succeeded")
        assert record_of(pgq, second).result == record_of(pgq, first).result


def test_a_job_that_a_test_runs_by_itself_leaves_no_process_behind(either: PgQueuer) -> None:
    either.entrypoint("work", executor_factory=ONE, store_result=True)(handlers.tell_pid)

    before = children(os.getpid())
    assert not runs(testing.run_job(either, "work"))
    assert children(os.getpid()) == before


def test_a_drain_that_is_broken_off_leaves_no_process_behind(either: PgQueuer, monkeypatch: pytest.MonkeyPatch) -> None:
    either.entrypoint("work", executor_factory=ONE)(handlers.tell_pid)
    either.enqueue("work")

    def broken(self: Inline, settlement: Settlement) -> str:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(Inline, "_settle", broken)
    before = children(os.getpid())
    with pytest.raises(ConnectionError):
        testing.drain(either)
    assert children(os.getpid()) == before
