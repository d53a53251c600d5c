"""What a factory of resources brings: one mapping for all jobs and schedules of a process, closed after its last job."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from pgq_sync import NewJob, PgQueuer
from tests.cli.console import Console
from tests.cli.supervised import supervised
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and named pipes are those of POSIX")

# Every line tells the process, what happens, and which mapping it sees: they must be one per process, open while jobs run.
APPLICATION = """
import contextlib, os, sys
from pgq_sync import Context, PgQueuer

def say(what, resources, *more):
    line = [os.getpid(), what, id(resources), "open" if resources.get("open") else "closed", *more]
    sys.stdout.write(" ".join(map(str, line)) + "\\n")

@contextlib.contextmanager
def make():
    pgq = PgQueuer.from_dsn(resources={"open": True, "jobs": 0})

    @pgq.entrypoint("fetch")
    def fetch(job, context: Context):
        context.resources["jobs"] += 1
        say("job", context.resources)

    @pgq.entrypoint("last")
    def last(job, context: Context):
        with open("gate") as gate:
            open(f"begun-{job.id}", "w").close()
            gate.read()
        say("job", context.resources)

    @pgq.schedule("tick", "* * * * * *")
    def tick(schedule, context: Context):
        say("tick", context.resources)

    say("entered", pgq.resources)
    try:
        yield pgq
    finally:
        pgq.resources["open"] = False
        say("left", pgq.resources, pgq.resources["jobs"])
"""


def test_each_process_enters_its_resources_once_and_closes_them_after_its_last_job(console: Console, pgq: PgQueuer) -> None:
    console.write("shop.py", APPLICATION)
    os.mkfifo(console.directory / "gate")
    gate = os.open(console.directory / "gate", os.O_RDWR)  # whoever reads waits until this is closed
    with supervised(console, "--concurrency", "2") as running:
        pgq.enqueue_many([NewJob(entrypoint="fetch") for _ in range(200)])
        wait_until(lambda: pgq.jobs.count().get(("fetch", "succeeded")) == 200)
        wait_until(lambda: pgq.jobs.count().get(("tick", "succeeded"), 0) > 1)
        pgq.enqueue_many([NewJob(entrypoint="last") for _ in range(4)])
        wait_until(lambda: len(list(console.directory.glob("begun-*"))) == 4)
        running.signal(signal.SIGTERM)
        wait_until(lambda: [each.state for each in pgq.store.workers()] == ["stopping"] * 2)
        os.close(gate)
        assert running.ended() == 0
    by_process: dict[str, list[list[str]]] = {}
    for line in running.stdout.all:
        pid, *told = line.split()
        by_process.setdefault(pid, []).append(told)
    assert len(by_process) == 2
    for lines in by_process.values():
        whats = [what for what, *_ in lines]
        assert (whats[0], whats[-1]) == ("entered", "left")
        assert (whats.count("entered"), whats.count("left")) == (1, 1)
        assert len({mapping for _, mapping, *_ in lines}) == 1
        assert {state for what, _, state, *_ in lines if what != "left"} == {"open"}
    fetched = sum(int(lines[-1][3]) for lines in by_process.values())
    assert fetched == 200
    assert any(what == "tick" for lines in by_process.values() for what, *_ in lines)
