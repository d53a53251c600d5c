"""Jobs that wait, or run in processes of their own, under `pgq-sync worker`: no process is left, however the worker ends."""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime

import pytest

from pgq_sync import JobRecord, PgQueuer
from tests.cli.console import Console, Running
from tests.entrypoints.processes import runs
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted by /proc")

APPLICATION = """
import os, re, subprocess, sys, time
from datetime import timedelta
from functools import partial
from pgq_sync import DatabaseRetry, PgQueuer, ProcessExecutor, RetryWithBackoffEntrypointExecutor

pgq = PgQueuer.from_dsn()
processes = partial(ProcessExecutor, max_workers=2)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

@pgq.entrypoint("quick", executor_factory=processes)
def quick(job):
    say("quick in", os.getpid())

@pgq.entrypoint("waits", executor_factory=processes)
def waits(job):
    say("running in", os.getpid())
    while not os.path.exists("gate"):
        time.sleep(0.01)  # between two looks: several processes wait for one file, which a pipe would show to one of them
    say("done")

@pgq.entrypoint("spins", executor_factory=processes)
def spins(job):
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    say("spinning in", os.getpid(), started.pid)
    re.match(r"(a+)+$", "a" * 60 + "b")

@pgq.entrypoint("later", retry=DatabaseRetry(initial_delay=6))
def later(job):
    say("attempt", job.attempt, "due", job.execute_after.isoformat(), "at", time.time())
    if job.attempt == 1:
        raise ConnectionError("no answer")

backoff = partial(RetryWithBackoffEntrypointExecutor, initial_delay=3600, max_delay=3600, max_time=9999)

@pgq.entrypoint("patient", executor_factory=backoff)
def patient(job):
    say("trying")
    raise ConnectionError("no answer")
"""


@pytest.fixture
def shop(console: Console) -> Console:
    console.write("shop.py", APPLICATION)
    return console


def told(running: Running, text: str) -> list[str]:
    """The words of the next line with this text, after it."""
    return running.stdout.wait_for(text).partition(text)[2].split()


def gone(*pids: int) -> None:
    wait_until(lambda: not any(runs(pid) for pid in pids))


def record_of(pgq: PgQueuer, job_id: int) -> JobRecord:
    record = pgq.jobs.get(job_id)
    assert record is not None
    return record


def test_functions_are_found_and_processes_end_with_a_worker_that_stops(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("quick")
    job_id = pgq.enqueue("waits")
    with shop.start("worker", "shop:pgq") as running:
        running.stderr.wait_for(" started: ")
        (pid,) = told(running, "running in")
        running.signal(signal.SIGINT, group=True)  # as a terminal does
        wait_until(lambda: [each.state for each in pgq.store.workers()] == ["stopping"])
        (shop.directory / "gate").touch()
        assert running.ended() == 0
    assert record_of(pgq, job_id).status == "succeeded"
    gone(int(pid))


def test_processes_end_with_a_worker_that_is_killed_even_amidst_a_call_into_c(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("spins")
    with shop.start("worker", "shop:pgq") as running:
        pids = [int(pid) for pid in told(running, "spinning in")]
        os.kill(running.pid, signal.SIGKILL)
        gone(*pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_by_supervised_workers(shop: Console, pgq: PgQueuer, number: signal.Signals) -> None:
    for _ in range(4):
        pgq.enqueue("waits")
    with shop.start("worker", "shop:pgq", "--processes", "2", "--concurrency", "2", "--shutdown-timeout", "0") as running:
        pids = [int(told(running, "running in")[0]) for _ in range(4)]
        running.signal(number)
        running.ended()
        gone(*pids)


def test_no_process_is_left_by_a_worker_that_starts_again_as_a_file_changes(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("quick")
    with shop.start("worker", "shop:pgq", "--reload") as running:
        (before,) = told(running, "quick in")
        shop.write("shop.py", APPLICATION + "# changed\n")
        running.stderr.wait_for(" started: ")
        running.stderr.wait_for("child 1")
        pgq.enqueue("quick")
        (after,) = told(running, "quick in")
        gone(int(before))
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    gone(int(after))


def test_a_worker_that_stops_does_not_wait_for_a_job_that_only_waits(shop: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("patient")
    with shop.start("worker", "shop:pgq", "--shutdown-timeout", "1h") as running:
        running.stdout.wait_for("trying")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    record = record_of(pgq, job_id)
    assert (record.status, record.attempts) == ("queued", 0)


def test_a_job_between_two_attempts_outlives_its_workers_death_with_its_delay(shop: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("later")
    with shop.start("worker", "shop:pgq") as running:
        running.stdout.wait_for("attempt 1")
        wait_until(lambda: record_of(pgq, job_id).status == "queued")
        before = record_of(pgq, job_id)
        running.signal(signal.SIGKILL)
        running.ended()
    assert (before.attempts, len(before.errors)) == (1, 1)
    with shop.start("worker", "shop:pgq") as running:
        running.stderr.wait_for(" started: ")
        assert record_of(pgq, job_id).execute_after == before.execute_after
        due, _, at = told(running, "attempt 2 due")
        wait_until(lambda: record_of(pgq, job_id).status == "succeeded")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert datetime.fromisoformat(due) == before.execute_after
    assert float(at) >= before.execute_after.timestamp() - 0.001
    assert record_of(pgq, job_id).attempts == 2
