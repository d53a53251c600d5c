"""What follows from the handlers' own records: how many ran at once, how fast they started, what ran twice at a time."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.faults.records import Run

SECOND = 1_000_000_000  # nanoseconds


def ended(run: Run, deaths: Mapping[int, int]) -> int:
    """When a run ended: by itself, else with its process, else not yet.

    Of a process that somebody else started, a supervisor, only its last word is known.
    """
    if run.ended is None and run.pid not in deaths and not _lives(run.pid):
        return run.started
    return min(run.ended or time.time_ns(), deaths.get(run.pid, time.time_ns()))


def most_at_once(runs: Iterable[Run], deaths: Mapping[int, int]) -> int:
    """The most runs that there were at any instant."""
    changes = sorted(change for run in runs for change in ((run.started, 1), (ended(run, deaths), -1)))
    most = current = 0
    for _, change in changes:  # at one instant ends come first: -1 sorts before 1
        current += change
        most = max(most, current)
    return most


def at_once(runs: Iterable[Run], deaths: Mapping[int, int]) -> dict[int, list[Run]]:
    """The jobs that at some instant ran in two places, with their runs."""
    by_job: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_job[run.job_id].append(run)
    return {job_id: own for job_id, own in by_job.items() if most_at_once(own, deaths) > 1}


def burst_needed(times: Sequence[float], rate: float) -> float:
    """The smallest burst for which there are never more than burst + rate * window of `times` (seconds) in a window."""
    needed = 0.0
    lowest = float("inf")
    for number, moment in enumerate(sorted(times)):
        beyond = number - rate * moment
        lowest = min(lowest, beyond)
        needed = max(needed, beyond - lowest + 1)
    return needed


def starts(runs: Iterable[Run]) -> list[float]:
    """When handlers began, in seconds."""
    return [run.started / SECOND for run in runs]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def runs_per_job(runs: Iterable[Run]) -> dict[int, int]:
    """How often each job was begun."""
    counts: dict[int, int] = defaultdict(int)
    for run in runs:
        counts[run.job_id] += 1
    return dict(counts)
