"""Scenario idle: what a worker without any jobs costs the database and its own machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.children import Pipe, child
from benchmarks.counting import recorded_statements
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import application, database
from pgq_sync import Job

_SETTLE = 2.0  # seconds in which a worker that has just started comes to rest
_FIRST = 60.0  # seconds in which it does for the first time what it then does hourly
_LOOK = 0.1  # seconds


def measure(server: str, extent: Extent) -> Sequence[Reading]:
    with database(server) as dsn, child(serve, dsn, extent.idle_seconds) as worker:
        statements, processor = worker.answer()
    return [
        Reading("statements", statements / extent.idle_seconds, "/s", Goal("<", 0.5)),
        Reading("processor", 100 * processor / extent.idle_seconds, "%", Goal("<", 0.5)),
    ]


def serve(pipe: Pipe, dsn: str, seconds: float) -> None:
    """The process with the idle worker; it reports its statements and its processor's seconds."""
    with application(dsn) as pgq, recorded_statements() as sent:
        pgq.entrypoint("idle")(_never_called)
        with pgq.worker() as worker:
            worker.listening.wait()
            _wait_for_upkeep(sent, seconds)
            time.sleep(_SETTLE)
            before, processor = len(sent), time.process_time()
            time.sleep(seconds)
            used = len(sent) - before, time.process_time() - processor
        pipe.send(used)


def _wait_for_upkeep(sent: Sequence[str], seconds: float) -> None:
    """What is done once an hour shall not count as if it were done each minute."""
    if seconds >= _FIRST:
        deadline = time.monotonic() + 2 * _FIRST
        while "maintain" not in sent and time.monotonic() < deadline:
            time.sleep(_LOOK)


def _never_called(job: Job) -> None:
    raise AssertionError(job)
