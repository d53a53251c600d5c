"""Workers that live and say nothing: they keep their jobs as long as their session does, and no longer."""

from __future__ import annotations

import signal
import time

from tests.faults.scale import SCALE
from tests.faults.stage import Stage


def test_a_stopped_process_keeps_its_jobs_while_its_session_lives(scene: Stage) -> None:
    stopped = scene.fleet.start_one("work")
    own = scene.enqueue(10, gate=str(scene.gate))
    scene.wait_until_running(own)
    other = scene.fleet.start_one("work")
    stopped.signal(signal.SIGSTOP)
    scene.enqueue(20)
    time.sleep(SCALE.silence)
    stopped.signal(signal.SIGCONT)
    scene.open_gate()
    census = scene.conclude()
    assert census.counts == {"succeeded": 30}
    assert set(census.attempts.values()) == {1}
    assert {run.pid for run in scene.journal.runs() if run.job_id not in own} == {other.pid}


def test_a_stopped_process_whose_session_was_cut_is_replaced_and_not_believed_afterwards(scene: Stage) -> None:
    stopped = scene.fleet.start_one("work")
    gate = str(scene.gate)
    for first in ("success", "failure", "retry"):
        scene.enqueue(3, gate=gate, first=first, seconds=3)
    scene.wait_until_running(scene.ids)
    stopped.signal(signal.SIGSTOP)
    assert scene.server.cut() > 0
    scene.give_up(stopped)
    other = scene.fleet.start_one("work")
    # A worker that has just started must itself have been heard for a while before it takes others for dead.
    scene.wait_for_runs(
        lambda runs: len({run.job_id for run in runs if run.pid == other.pid}) == 9,
        "the other worker runs all of them",
        SCALE.liveness_limit + SCALE.rescue,
    )
    # The late outcomes come while the second runs go on.
    scene.open_gate()
    stopped.signal(signal.SIGCONT)
    scene.wait_for_runs(
        lambda runs: len({run.job_id for run in runs if run.pid == stopped.pid and run.ended}) == 9, "the late ones end"
    )
    assert not any(run.ended for run in scene.journal.runs() if run.pid == other.pid), "they came too late"
    census = scene.conclude()
    assert census.counts == {"succeeded": 9}
    winners = {run.token for run in scene.journal.runs() if run.pid == other.pid}
    assert {token for (token,) in scene.server.query("select result #>> '{}' from pgq_history")} == winners


def test_a_job_that_holds_the_interpreter_costs_nobody_his_job(scene: Stage) -> None:
    frozen = scene.fleet.start_one("work")
    scene.enqueue(5, gate=str(scene.gate))
    scene.wait_until_running(scene.ids)
    scene.wait_until_running(scene.enqueue(1, frozen=round(SCALE.silence)))
    scene.fleet.start("work")
    time.sleep(SCALE.silence)
    scene.open_gate()
    census = scene.conclude()
    assert census.counts == {"succeeded": 6}
    assert set(census.attempts.values()) == {1}
    assert {run.pid for run in scene.journal.runs()} == {frozen.pid}
