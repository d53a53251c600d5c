"""Limits hold, by the handlers' own records: while workers die, while the server crashes, while all slots are busy."""

from __future__ import annotations

import random
import time
from datetime import timedelta

from pgq_sync import NewJob
from tests.faults.apps.limits import BURST, LIMITS, RATE
from tests.faults.measures import SECOND, burst_needed, most_at_once, starts
from tests.faults.records import Run
from tests.faults.scale import SCALE
from tests.faults.stage import Stage

CLOCK = 0.005  # seconds by which a measured moment may be wrong
# Seconds from a claim to the handler's first line. By itself it takes a few milliseconds; here, on two cores, up to
# sixteen processes wait for each other.
HANDOVER = 0.25
CONCURRENCY = {name: limit["concurrency_limit"] for name, limit in LIMITS.items() if "concurrency_limit" in limit}
_KILL_EVERY = 2.0  # seconds


def test_many_workers_of_which_some_die(scene: Stage) -> None:
    members = scene.fleet.start("limited", "--concurrency", "4", count=SCALE.workers)
    scene.enqueue(round(RATE * SCALE.limited), "rated", seconds=0.05)
    scene.enqueue(round(SCALE.limited * 5), "single", seconds=0.05)
    scene.enqueue(round(SCALE.limited * 25), "five", seconds=0.05)
    began = time.monotonic()
    while time.monotonic() - began < SCALE.limited * 0.6:
        scene.enqueue(50, seconds=0.01)
        time.sleep(_KILL_EVERY)
        members.pop(random.randrange(len(members))).kill()
        members.append(scene.fleet.launch("limited", "--concurrency", "4"))
    census = scene.conclude(SCALE.limited * 2 + SCALE.patience)
    assert census.counts == {"succeeded": len(scene.ids)}
    check_limits(scene)


def test_the_limits_are_reached(scene: Stage) -> None:
    scene.fleet.start("limited", "--concurrency", "4", count=SCALE.workers // 2)
    seconds = SCALE.limited / 2
    scene.enqueue(round(RATE * seconds), "rated", seconds=0.05)
    scene.enqueue(round(seconds * 5), "five", seconds=1)
    scene.enqueue(round(seconds * 100), seconds=0.02)
    scene.conclude()
    check_limits(scene)
    rated, five = of(scene, "rated"), of(scene, "five")
    reached = (len(rated) - BURST) / (rated[-1].started - rated[0].started) * SECOND
    assert reached >= 0.95 * RATE
    # How many of the five places were taken, from the first start until there were not enough jobs left for all.
    begin, end = five[0].started, five[-5].started
    busy = sum(min(run.ended or end, end) - run.started for run in five if run.started < end)
    assert busy / (end - begin) >= 0.95 * CONCURRENCY["five"]


def test_limited_jobs_while_the_server_crashes(scene: Stage) -> None:
    members = scene.fleet.start("limited", count=2)
    scene.enqueue(RATE * SCALE.crashes * 2, "rated", seconds=0.01)
    scene.enqueue(SCALE.crashes * 15, "single", seconds=0.1)
    scene.enqueue(SCALE.crashes * 30, "five", seconds=0.2)
    for _ in range(SCALE.crashes):
        so_far = len(scene.journal.runs())
        scene.wait_for_runs(lambda runs, so_far=so_far: len(runs) > so_far + 10, "jobs begin")  # type: ignore[misc]
        scene.crash()
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert all(member.deaths.keys() == {member.pid} for member in members)
    check_limits(scene)


def test_limited_jobs_while_all_slots_are_busy(scene: Stage) -> None:
    # Without beats, with which a worker gives back what it has claimed too early.
    scene.fleet.start_one("limited", PGQ_BEAT_INTERVAL="1m", PGQ_LIVENESS_LIMIT="3m")
    scene.learn_to_claim_ahead()
    # The long ones take every slot, for longer than the bucket takes to fill again; the limited ones are due just then,
    # when jobs are still believed to be short. If they were claimed, they would begin together with the next bucket's.
    soon = timedelta(seconds=0.5)
    long = NewJob(entrypoint="work", payload='{"seconds": 1.5}', execute_after=soon)
    scene.ids += scene.pgq.enqueue_many([long] * 10)
    rated = NewJob(entrypoint="rated", execute_after=soon + timedelta(seconds=0.05))
    scene.ids += scene.pgq.enqueue_many([rated] * 4 * RATE)
    time.sleep(2)
    for _ in range(10):
        scene.enqueue(200, seconds=0.005)
        time.sleep(0.2)
    scene.conclude()
    check_limits(scene)
    lags = [run.started / SECOND - run.claimed_at for run in of(scene, "rated")]
    assert max(lags) < HANDOVER


def of(scene: Stage, entrypoint: str) -> list[Run]:
    return [run for run in scene.journal.runs() if run.entrypoint == entrypoint]


def check_limits(scene: Stage) -> None:
    """Nothing ran beside more of its kind than allowed, and nothing was claimed or begun faster."""
    for entrypoint, limit in CONCURRENCY.items():
        most = most_at_once(of(scene, entrypoint), scene.fleet.deaths)
        assert most <= limit, f"{most} jobs of {entrypoint} ran at once"
    rated = of(scene, "rated")
    assert burst_needed([run.claimed_at for run in rated], RATE) <= BURST + RATE * CLOCK
    assert burst_needed(starts(rated), RATE) <= BURST + RATE * HANDOVER
