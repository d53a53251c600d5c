"""Supervisors of worker processes, with an application whose jobs show what happens to them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pgq_sync import PgQueuer
from tests.cli.console import Console, Running

# A job that waits says in which process, and goes on when somebody writes to the named pipe of that process.
APPLICATION = """
import contextlib, json, os, subprocess, sys, threading
from pathlib import Path
from pgq_sync import Context, PgQueuer

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # at once, so that processes do not share lines

@contextlib.contextmanager
def make():
    pgq = PgQueuer.from_dsn()

    @pgq.entrypoint("waits")
    def waits(job, context: Context):
        os.mkfifo(f"gate-{os.getpid()}")
        say("running in", os.getpid())
        with open(f"gate-{os.getpid()}") as gate:
            gate.read()
        say("hurried" if context.cancelled.wait(0.5) else "not hurried")

    @pgq.entrypoint("fetch")
    def fetch(job):
        say("fetched in", os.getpid())

    @pgq.entrypoint("crashes")
    def crashes(job):
        os._exit(5)

    @pgq.entrypoint("reads")
    def reads(job):
        code = "import os; print('read', os.read(0, 1), 'at', os.getppid())"
        subprocess.run([sys.executable, "-c", code], check=True)

    yield pgq
    say("closed in", os.getpid())

def once_again(arguments):  # the first start of each kind ends with this exit code
    mark = Path("mark-" + arguments[0])
    if not mark.exists():
        mark.touch()
        sys.exit(int(arguments[0]))
    return make()

def told(arguments):
    say(json.dumps([sys.argv[1:], arguments]))
    return make()

def hangs():
    say("loading")
    threading.Event().wait()
"""


@contextmanager
def supervised(shop: Console, *options: str, processes: int = 2, target: str = "shop:make") -> Iterator[Running]:
    """A supervisor whose children have started, and so take signals."""
    with shop.start("worker", target, "--processes", str(processes), "--name", "web", *options) as running:
        for _ in range(processes):
            running.stderr.wait_for(" started: ")
        yield running


def fleet(pgq: PgQueuer) -> dict[str, int]:
    """The registered workers' process ids by name."""
    return {worker.name: worker.pid for worker in pgq.store.workers()}


def running_in(running: Running) -> int:
    """The process in which the next job runs."""
    return int(running.stdout.wait_for("running in").split()[-1])


# A supervisor with delays of the test's own.
BOSS = """
import json, logging, sys
from pgq_sync.cli.supervisor import Child, Delays, Supervisor

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s", stream=sys.stderr)
children, delays = json.loads(sys.argv[1])
made = [Child(str(number), command) for number, command in enumerate(children, 1)]
sys.exit(Supervisor(made, delays=Delays(**delays)).run())
"""
PYTHON = (sys.executable, "-c")
WORKER = (sys.executable, "-m", "pgq_sync", "worker", "--supervised")


@contextmanager
def boss(console: Console, *children: list[str], **delays: float) -> Iterator[Running]:
    with console.start(json.dumps([children, delays]), command=(sys.executable, "-c", BOSS)) as running:
        yield running
