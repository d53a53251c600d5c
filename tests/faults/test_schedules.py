"""Many schedulers share the ticks while some of them die: each tick is run, and none has two jobs."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta

from tests.faults.measures import SECOND
from tests.faults.scale import SCALE
from tests.faults.stage import Stage

_SCHEDULERS = 8
_KILL_EVERY = 2.5  # seconds
_TICKS = """
    select id, (headers -> 'pgq_schedule' ->> 'due_at')::timestamptz, errors is not null
    from (select id, headers, errors from pgq_job union all select id, headers, errors from pgq_history) as every
"""


def test_many_schedulers_of_which_some_die(scene: Stage) -> None:
    members = scene.fleet.start("ticks", "--concurrency", "4", count=_SCHEDULERS)
    began = time.monotonic()
    while time.monotonic() - began < SCALE.ticks:
        time.sleep(_KILL_EVERY)
        members.pop(random.randrange(len(members))).kill()
        members.append(scene.fleet.launch("ticks", "--concurrency", "4"))
    scene.pgq.schedules.pause("second")
    scene.ids += [row[0] for row in scene.server.query(_TICKS)]
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}

    ticks = sorted(scene.server.query(_TICKS), key=lambda row: row[1])
    dues: list[datetime] = [due_at for _, due_at, _ in ticks]
    assert len(dues) >= SCALE.ticks
    assert dues == [dues[0] + timedelta(seconds=each) for each in range(len(dues))]
    assert max(lateness(scene, ticks)) < SCALE.late


def lateness(scene: Stage, ticks: list[tuple[int, datetime, bool]]) -> list[float]:
    """By how many seconds the first run of each tick was late, but for those whose worker died."""
    started: dict[int, float] = {}
    for run in scene.journal.runs():
        started.setdefault(run.job_id, run.started / SECOND)
    return [started[job_id] - due_at.timestamp() for job_id, due_at, interrupted in ticks if not interrupted]
