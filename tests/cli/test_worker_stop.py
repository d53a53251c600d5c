"""How `pgq-sync worker` ends on a signal: what runs may finish, what does not is put back, and the exit code says so."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgq_sync import PgQueuer
from tests.cli.console import Console, Running
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and named pipes are those of POSIX")

# A job says that it runs, and goes on when somebody writes to the named pipe.
APPLICATION = """
import contextlib
import os
import threading
from pgq_sync import PgQueuer

locked = threading.Lock()
locked.acquire()

@contextlib.contextmanager
def make():
    pgq = PgQueuer.from_dsn()

    @pgq.entrypoint("waits")
    def waits(job):
        print("running at attempt", job.attempt)
        with open("gate") as gate:
            print("went on with", gate.read())

    @pgq.entrypoint("listens")
    def listens(job, context):
        print("running at attempt", job.attempt)
        context.cancelled.wait()
        context.check()

    @pgq.entrypoint("hangs", timeout=0.1)
    def hangs(job):
        print("running at attempt", job.attempt)
        locked.acquire()

    yield pgq
    if os.path.exists("slow"):
        print("closing")
        open("gate").read()
    print("closed")
"""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def shop(console: Console) -> Console:
    console.write("shop.py", APPLICATION)
    os.mkfifo(console.directory / "gate")
    return console


@contextmanager
def worker(shop: Console, *options: str) -> Iterator[Running]:
    """A worker that has started, and so takes signals."""
    with shop.start("worker", "shop:make", *options) as running:
        running.stderr.wait_for(" started: ")
        yield running


def wait_until_stopping(pgq: PgQueuer) -> None:
    """Returns once the worker has noticed its signal."""
    wait_until(lambda: [each.state for each in pgq.store.workers()] == ["stopping"])


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_worker_ends_at_once(shop: Console, pgq: PgQueuer, number: signal.Signals) -> None:
    with worker(shop) as running:
        running.signal(number)
        assert running.seconds_to_end() < 5  # about 0.1 by itself
        assert running.ended() == 0
    assert str(running.stdout) == "closed\n"
    assert running.stderr.all[-1] == "done: no jobs\n"
    assert "Traceback" not in str(running.stderr)
    assert pgq.store.workers() == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_running_job_finishes_first_and_no_other_starts(shop: Console, pgq: PgQueuer, number: signal.Signals) -> None:
    finishes = pgq.enqueue("waits")
    with worker(shop) as running:
        running.stdout.wait_for("running at attempt 1")
        running.signal(number)
        wait_until_stopping(pgq)
        pgq.enqueue("listens")
        (shop.directory / "gate").write_text("this")
        assert running.ended() == 0

    assert str(running.stdout) == "running at attempt 1\nwent on with this\nclosed\n"
    assert running.stderr.all[-1] == "done: 1 succeeded\n"
    assert pgq.jobs.count() == {("waits", "succeeded"): 1, ("listens", "queued"): 1}
    record = pgq.jobs.get(finishes)
    assert record is not None
    assert record.errors == []


def test_a_job_that_outlives_the_deadline_is_put_back_and_the_exit_code_tells(shop: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("waits")
    with worker(shop, "--shutdown-timeout", "0.5") as running:
        running.stdout.wait_for("running at attempt 1")
        running.signal(signal.SIGTERM)
        assert running.ended() == 3
    assert str(running.stdout) == "running at attempt 1\nclosed\n"
    assert running.stderr.all[-1] == "done: 1 retried\n"

    record = pgq.jobs.get(job_id)
    assert record is not None
    assert (record.status, record.attempts, record.worker_id) == ("queued", 0, None)
    assert [error["type"] for error in record.errors] == ["Interrupted"]

    with worker(shop) as running:
        running.stdout.wait_for("running at attempt 1")
        (shop.directory / "gate").write_text("that")
        running.stdout.wait_for("went on with that")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert pgq.jobs.count() == {("waits", "succeeded"): 1}


def test_a_second_signal_does_not_wait_for_running_jobs(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("waits")
    with worker(shop, "--shutdown-timeout", "1h") as running:
        running.stdout.wait_for("running at attempt 1")
        running.signal(signal.SIGINT)
        wait_until_stopping(pgq)
        running.signal(signal.SIGINT)
        assert running.ended() == 3
    assert pgq.jobs.count() == {("waits", "queued"): 1}


def test_a_job_that_checks_whether_it_is_to_end_goes_back_into_the_queue(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("listens")
    with worker(shop, "--shutdown-timeout", "0") as running:
        running.stdout.wait_for("running at attempt 1")
        running.signal(signal.SIGTERM)
        assert running.ended() == 3
    assert running.stderr.all[-1] == "done: 1 retried\n"
    assert pgq.jobs.count() == {("listens", "queued"): 1}


def test_a_signal_ends_a_drain_too(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("waits")
    with worker(shop, "--mode", "drain") as running:
        running.stdout.wait_for("running at attempt 1")
        running.signal(signal.SIGTERM)
        wait_until_stopping(pgq)
        (shop.directory / "gate").write_text("this")
        assert running.ended() == 0
    assert pgq.jobs.count() == {("waits", "succeeded"): 1}


def test_a_thread_whose_job_has_just_timed_out_does_not_keep_the_process_from_ending(shop: Console, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("hangs")
    with worker(shop, "--shutdown-timeout", "0") as running:
        running.stdout.wait_for("running at attempt 1")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert pgq.jobs.count() == {("hangs", "failed"): 1}
    assert pgq.jobs.find(status="failed")[0].id == job_id


def test_a_job_that_runs_does_not_keep_a_worker_that_crashed_from_ending(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("waits")
    with worker(shop, "--shutdown-timeout", "0") as running:
        running.stdout.wait_for("running at attempt 1")
        pgq.schema.uninstall()
        assert running.ended() == 1
    assert "run `pgq-sync install`" in running.stderr.all[-1]


def test_a_signal_that_comes_while_resources_are_closed_cuts_nothing_off(shop: Console) -> None:
    shop.write("slow", "")
    with worker(shop) as running:
        running.signal(signal.SIGTERM)
        running.stdout.wait_for("closing")
        for number in SIGNALS:
            running.signal(number)
        (shop.directory / "gate").write_text("")
        assert running.ended() == 0
    assert running.stdout.all[-1] == "closed\n"


# Modules are cleared when no Python code handles signals any more, which is where the object meets its end.
LAST_MOMENT = """
import os

class Last:
    def __init__(self):
        self.kill, self.pid = os.kill, os.getpid()

    def __del__(self):
        self.kill(self.pid, {number})

last = Last()
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_interpreters_last_moments_is_no_crash(shop: Console, pgq: PgQueuer, number: signal.Signals) -> None:
    shop.write("shop.py", APPLICATION + LAST_MOMENT.format(number=int(number)))
    with worker(shop) as running:
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert running.stderr.all[-1] == "done: no jobs\n"
