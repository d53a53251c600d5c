"""The measures themselves, on records that are made up."""

from __future__ import annotations

import os

import pytest

from tests.faults.measures import SECOND, at_once, burst_needed, most_at_once
from tests.faults.records import Run


def run(job_id: int, started: float, ended: float | None, pid: int = 1) -> Run:
    return Run(
        token=f"{job_id}-{started}",
        job_id=job_id,
        entrypoint="work",
        attempt=1,
        claimed_at=started,
        pid=pid,
        started=int(started * SECOND),
        ended=None if ended is None else int(ended * SECOND),
    )


def test_runs_that_touch_do_not_overlap() -> None:
    assert most_at_once([run(1, 0, 1), run(2, 1, 2), run(3, 2, 3)], {}) == 1
    assert most_at_once([run(1, 0, 1), run(2, 0.5, 2), run(3, 0.9, 3)], {}) == 3


def test_a_run_ends_with_its_process() -> None:
    runs = [run(1, 0, None, pid=os.getpid()), run(1, 2, 3, pid=2)]
    assert at_once(runs, {os.getpid(): 1 * SECOND}) == {}
    assert at_once(runs, {}) == {1: runs}


@pytest.mark.parametrize(
    ("times", "burst"),
    [
        ([], 0),
        ([5], 1),
        ([0, 1, 2, 3], 1),  # at the rate
        ([0, 0, 0, 3], 3),
        ([0, 3, 3.5, 4], 2),
        ([7, 7, 0, 0, 0], 3),  # in any order
    ],
)
def test_how_large_a_burst_was_needed_at_a_rate_of_one(times: list[float], burst: float) -> None:
    assert burst_needed(times, 1) == pytest.approx(burst)
