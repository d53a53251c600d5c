"""SIGTERM at bad moments: while a claim waits, while jobs run and others wait for a slot, again and again, and twice."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import closing

import psycopg

from tests.faults.fleet import PUT_BACK, Member
from tests.faults.patience import eventually
from tests.faults.producer import producing
from tests.faults.scale import SCALE
from tests.faults.stage import Stage
from tests.storage.support import wait_until_blocked_by

SLOTS = 10


def test_during_a_claim(scene: Stage) -> None:
    scene.enqueue(50)
    with closing(psycopg.connect(scene.server.dsn)) as somebody:
        somebody.execute("lock table pgq_job in exclusive mode")
        member = scene.fleet.start_one("work")
        wait_until_blocked_by(scene.server.dsn, somebody.info.backend_pid)
        started = time.monotonic()
        assert member.stop() == 0
        assert time.monotonic() - started < 20
        somebody.rollback()
    assert scene.server.query("select distinct status, attempt from pgq_job") == [("queued", 0)]
    scene.fleet.start("work")
    census = scene.conclude()
    assert census.counts == {"succeeded": 50}
    assert set(census.attempts.values()) == {1}


def test_while_jobs_run_and_others_wait_for_a_slot(scene: Stage) -> None:
    member = scene.fleet.start_one("work")
    claim_ahead(scene, member)
    member.signal(signal.SIGTERM)
    eventually(lambda: len(scene.held_by(member)) == SLOTS, "what has not begun is given back")
    scene.open_gate()
    assert member.ended() == 0
    assert scene.server.query("select distinct status, attempt from pgq_job") == [("queued", 0)]
    scene.fleet.start("work")
    check_single_runs(scene)


def test_twice(scene: Stage) -> None:
    member = scene.fleet.start_one("work")
    claim_ahead(scene, member)
    member.signal(signal.SIGTERM)
    eventually(lambda: len(scene.held_by(member)) == SLOTS, "what has not begun is given back")
    interrupted = {run.job_id for run in scene.running(member)}
    member.signal(signal.SIGTERM)
    assert member.ended() == PUT_BACK
    put_back = "select id, attempt, errors -> 0 ->> 'type' from pgq_job where status = 'queued' and errors is not null"
    assert set(scene.server.query(put_back)) == {(job_id, 0, "Interrupted") for job_id in interrupted}
    scene.open_gate()
    scene.fleet.start("work")
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert set(census.attempts.values()) == {1}  # an attempt that the stop cut off does not count
    runs = Counter(run.job_id for run in scene.journal.runs())
    assert {job_id for job_id, times in runs.items() if times > 1} == interrupted
    assert set(runs.values()) == {1, 2}


def test_workers_that_are_replaced_one_after_the_other(scene: Stage) -> None:
    with producing(scene.pgq, scene.server.dsn, seconds=0.02) as producer:
        members = scene.fleet.start("work", count=2)
        for _ in range(SCALE.crashes):
            (successor,) = scene.fleet.start("work")
            assert members.pop(0).stop() == 0
            members.append(successor)
    scene.ids.extend(producer.confirmed)
    check_single_runs(scene)


def claim_ahead(scene: Stage, member: Member) -> None:
    """Has the worker claim many more jobs than it can run."""
    scene.learn_to_claim_ahead()
    scene.wait_for_beat(member)  # the next one would give back what waits
    scene.enqueue(100, gate=str(scene.gate))
    eventually(lambda: len(scene.held_by(member)) >= 6 * SLOTS, "it claims ahead")
    eventually(lambda: len(scene.running(member)) == SLOTS, "its slots are full")


def check_single_runs(scene: Stage) -> None:
    """Everything succeeds, at the first attempt and in one run."""
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert set(census.attempts.values()) == {1}
    assert len(scene.journal.runs()) == len(scene.ids)
