"""Jobs that are cancelled in the moment in which they are claimed: they never run, or their handler is told."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from tests.faults.scale import SCALE
from tests.faults.stage import Stage

BATCH = 10
TOLD = 2.0  # seconds in which a handler sees that it was asked; one by contract, and one for a busy machine


def test_cancels_race_with_claims(scene: Stage) -> None:
    scene.fleet.start("cancelled", count=2)
    jobs: Any = scene.pgq.jobs
    ended: set[int] = set()
    asked_at: dict[int, float] = {}
    for number in range(SCALE.cancels // BATCH):
        # Claimed some two milliseconds later: the cancel comes before, meanwhile, or after.
        ids = scene.enqueue(BATCH, "listens", after=timedelta(milliseconds=2))
        time.sleep(number % 5 * 0.001)
        result = jobs.cancel(ids)
        assert sorted([*result.ended, *result.asked]) == sorted(ids)
        assert not result.unknown
        ended.update(result.ended)
        asked_at.update(dict.fromkeys(result.asked, time.time()))
    assert ended, "no cancel came before the claim"
    assert asked_at, "no cancel came after the claim"
    census = scene.conclude()
    assert census.counts == {"cancelled": len(scene.ids)}
    runs = {run.job_id: run for run in scene.journal.runs()}
    assert not ended & runs.keys(), "cancelled, and yet they ran"
    assert runs.keys() == scene.journal.noted("asked")
    late = {job_id: run.ended / 1e9 - asked_at[job_id] for job_id, run in runs.items() if run.ended}
    assert max(late.values()) < TOLD
