"""Scenarios drain and entrypoints: how many no-op jobs per second one worker process at default settings works off."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import raw
from benchmarks.children import Pipe, child
from benchmarks.extent import Extent
from benchmarks.readings import Goal, Reading
from benchmarks.servers import application, checkpoint, database, entrypoint_names, load
from pgq_sync import Job

ENTRYPOINTS = 200


def measure_drain(server: str, extent: Extent) -> Sequence[Reading]:
    """A drain, right after what one connection without any threads reaches by claim and finish alone."""
    plain = rate(server, raw.work, extent.drain_jobs)
    drained = rate(server, work, extent.drain_jobs)
    return [
        Reading("raw", plain, "jobs/s"),
        Reading("drain", drained, "jobs/s", Goal(">=", 20_000)),
        Reading("drain / raw", drained / plain, "", Goal(">=", 0.5)),
    ]


def measure_entrypoints(server: str, extent: Extent) -> Sequence[Reading]:
    """The same number of jobs, of one entrypoint and of 200 that are all busy."""
    one = rate(server, work, extent.entrypoint_jobs)
    many = rate(server, work, extent.entrypoint_jobs, ENTRYPOINTS)
    return [
        Reading("1 entrypoint", one, "jobs/s"),
        Reading(f"{ENTRYPOINTS} entrypoints", many, "jobs/s"),
        Reading(f"{ENTRYPOINTS} / 1", many / one, "", Goal(">=", 0.4)),
    ]


def work(pipe: Pipe, dsn: str, entrypoints: int) -> None:
    """The process that drains; it reports how many jobs it ran, and in how many seconds."""
    with application(dsn) as pgq:
        for name in entrypoint_names(entrypoints):
            pgq.entrypoint(name)(_nothing)
        started = time.perf_counter()
        report = pgq.drain()
        pipe.send((report.counts["succeeded"], time.perf_counter() - started))


def _nothing(job: Job) -> None:
    return


def rate(server: str, target: raw.Work, jobs: int, entrypoints: int = 1) -> float:
    """How many jobs per second `target` works off, in a process and on a database of its own."""
    with database(server) as dsn:
        load(dsn, jobs, entrypoints=entrypoints)
        checkpoint(dsn)
        with child(target, dsn, entrypoints) as process:
            done, seconds = process.answer()
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were run")
    return float(jobs / seconds)
