"""How several worker processes under one supervisor stop: at signals, in time, and when the supervisor is killed."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from pgq_sync import NewJob, PgQueuer
from tests.cli.console import Console
from tests.cli.supervised import APPLICATION, PYTHON, WORKER, boss, fleet, running_in, supervised
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and named pipes are those of POSIX")


@pytest.fixture
def shop(console: Console) -> Console:
    console.write("shop.py", APPLICATION)
    return console


def let_go_on(shop: Console, pid: int) -> None:
    (shop.directory / f"gate-{pid}").write_text("this")


def wait_until_stopping(pgq: PgQueuer, number: int = 2) -> None:
    """Returns once so many workers have noticed their signal."""
    wait_until(lambda: [each.state for each in pgq.store.workers()] == ["stopping"] * number)


def test_so_many_processes_run_under_names_of_their_own_and_end_together(shop: Console, pgq: PgQueuer) -> None:
    with supervised(shop, processes=3) as running:
        pids = fleet(pgq)
        assert sorted(pids) == ["web-1", "web-2", "web-3"]
        assert len({running.pid, *pids.values()}) == 4
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert sorted(running.stdout.all) == sorted(f"closed in {pid}\n" for pid in pids.values())
    assert running.stderr.all[-1].endswith("INFO pgq_sync.supervisor all children have ended: exit code 0\n")
    assert fleet(pgq) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_running_jobs_finish_first(shop: Console, pgq: PgQueuer, number: signal.Signals) -> None:
    pgq.enqueue_many([NewJob(entrypoint="waits"), NewJob(entrypoint="waits")])
    with supervised(shop, "--concurrency", "1") as running:
        pids = [running_in(running), running_in(running)]
        # As Ctrl-C in a terminal does, to the whole group: the children must not count it besides.
        running.signal(number, group=True)
        wait_until_stopping(pgq)
        for pid in pids:
            let_go_on(shop, pid)
        assert running.ended() == 0
    assert running.stdout.all.count("not hurried\n") == 2
    assert pgq.jobs.count() == {("waits", "succeeded"): 2}


def test_a_second_signal_does_not_wait_for_running_jobs(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("waits")
    with supervised(shop, "--shutdown-timeout", "1h") as running:
        running_in(running)
        running.signal(signal.SIGTERM)
        running.stderr.wait_for("SIGTERM: the children are asked to stop")
        wait_until_stopping(pgq, 1)
        running.signal(signal.SIGINT)
        running.stderr.wait_for("SIGINT: the children are asked to hurry")
        assert running.ended() == 3
    assert pgq.jobs.count() == {("waits", "queued"): 1}


def test_a_child_that_does_not_end_when_it_should_is_killed(shop: Console, pgq: PgQueuer) -> None:
    # It tells its shutdown_timeout: by the default, the test would not live to see it.
    with boss(shop, [*WORKER, "shop:make", "--shutdown-timeout", "0.2"], grace=0.3) as running:
        running.stderr.wait_for(" started: ")
        (pid,) = fleet(pgq).values()
        os.kill(pid, signal.SIGSTOP)
        running.signal(signal.SIGTERM)
        assert f"child 1 (pid {pid})" in running.stderr.wait_for(
            " did not end within its shutdown_timeout and 0.3 s more: killed"
        )
        assert running.ended() == 3


def test_children_outlive_a_killed_supervisor_only_until_their_jobs_are_done(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many([NewJob(entrypoint="waits"), NewJob(entrypoint="waits")])
    with supervised(shop, "--concurrency", "1") as running:
        running_in(running), running_in(running)
        pids = fleet(pgq)
        running.signal(signal.SIGKILL)
        wait_until_stopping(pgq)
        # The later one does not hold the leash of the earlier one.
        for name in ("web-1", "web-2"):
            let_go_on(shop, pids.pop(name))
            wait_until(lambda: fleet(pgq) == pids)
        running.stderr.wait_for_end()
    assert pgq.jobs.count() == {("waits", "succeeded"): 2}


def test_children_that_are_still_loading_end_with_their_supervisor(shop: Console) -> None:
    with shop.start("worker", "shop:hangs", "--processes", "2") as running:
        for _ in range(2):
            running.stdout.wait_for("loading")
        running.signal(signal.SIGKILL)
        running.stderr.wait_for_end()


def test_children_that_are_still_loading_end_at_a_signal(shop: Console) -> None:
    with shop.start("worker", "shop:hangs", "--processes", "2") as running:
        for _ in range(2):
            running.stdout.wait_for("loading")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


# It asks for a new process in its place just when no one is wanted any more.
TIRED = """
import signal, sys, threading
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
print("waiting", flush=True)
threading.Event().wait()
"""


def test_a_child_that_asks_to_be_replaced_while_all_stop_has_ended_well(offline: Console) -> None:
    with boss(offline, [*PYTHON, TIRED]) as running:
        running.stdout.wait_for("waiting")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert " WARNING " not in str(running.stderr)


def test_what_a_job_starts_finds_an_empty_standard_input(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue("reads")
    with supervised(shop, processes=1) as running:
        assert running.stdout.wait_for("read ") == f"read b'' at {fleet(pgq)['web-1']}\n"
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
