"""Processes that die: their jobs run again elsewhere, and a job that kills its process is the only one that fails."""

from __future__ import annotations

from tests.faults.fleet import Member
from tests.faults.patience import eventually
from tests.faults.scale import SCALE
from tests.faults.stage import Stage

SLOTS = 10
KILLERS = ("exit", "segfault", "memory")


def test_a_killed_worker_with_running_and_waiting_jobs(scene: Stage) -> None:
    killed, other = scene.fleet.start("work", count=2)
    scene.learn_to_claim_ahead()
    scene.wait_for_beat(killed)  # the next one would give back what waits
    scene.enqueue(300, gate=str(scene.gate))  # of which each claims some 140, whoever is first
    eventually(lambda: len(scene.held_by(killed)) >= 6 * SLOTS, "it claims ahead")
    eventually(lambda: len(scene.running(killed)) == SLOTS, "its slots are full")
    taken = scene.held_by(killed)
    killed.kill()
    scene.open_gate()
    scene.wait_for_runs(
        lambda runs: taken <= {run.job_id for run in runs if run.pid == other.pid},
        f"the other worker runs all {len(taken)} jobs",
        SCALE.rescue,
    )
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert set(census.attempts.values()) == {1}  # an attempt that the worker's death cut off does not count


def test_workers_that_are_killed_again_and_again(scene: Stage) -> None:
    members = scene.fleet.start("work", count=3)
    for _ in range(SCALE.crashes):
        scene.wait_until_running(scene.enqueue(300, seconds=0.02)[:100])
        members.pop(0).kill()
        members.append(scene.fleet.start_one("work"))
    census = scene.conclude(SCALE.patience + SCALE.rescue)
    assert census.counts == {"succeeded": len(scene.ids)}


def test_one_killer_among_many_innocents(scene: Stage) -> None:
    scene.fleet.start_one("fatal", revive=True)
    scene.enqueue(250, seconds=0.02)
    (killer,) = scene.enqueue(1, "exit")
    scene.enqueue(250, seconds=0.02)
    census = scene.conclude(SCALE.patience + 5 * SCALE.rescue)
    assert census.counts == {"succeeded": 500, "failed": 1}
    assert census.status[killer] == "failed"
    check_reason(scene, killer)


def test_killers_of_every_kind_under_a_supervisor(scene: Stage) -> None:
    (supervisor,) = scene.fleet.start("fatal", "--processes", "2", "--concurrency", "4", PGQ_MAX_RESCUES="2")
    scene.enqueue(20, seconds=0.1)
    killers = [job_id for kind in KILLERS for job_id in scene.enqueue(1, kind)]
    scene.enqueue(20, seconds=0.1)
    scene.wait_until_done(SCALE.patience + 6 * SCALE.rescue)
    # Stopped while a child that crashed has not started again, the supervisor would end with exit code 1.
    eventually(lambda: starts(supervisor) == 2 + crashes(supervisor), "both children are there again")
    census = scene.conclude()
    assert census.counts == {"succeeded": 40, "failed": len(KILLERS)}
    assert {census.status[killer] for killer in killers} == {"failed"}
    for killer in killers:
        check_reason(scene, killer)


def starts(supervisor: Member) -> int:
    """How many workers of its children have started to work."""
    return supervisor.printed.count(" started: ")


def crashes(supervisor: Member) -> int:
    """How many of its children have ended by themselves."""
    return supervisor.printed.count("; it starts again ")


def check_reason(scene: Stage, job_id: int) -> None:
    """Its history tells why it failed."""
    record = scene.pgq.jobs.get(job_id)
    assert record is not None
    assert record.errors
    assert record.errors[-1]["type"]
