"""The server crashes, or is stopped, under load: a pause for everybody, the end of nobody."""

from __future__ import annotations

import time

from tests.faults.producer import producing
from tests.faults.scale import SCALE
from tests.faults.stage import Stage

_BETWEEN = 1.0  # seconds of load between two crashes


def test_a_server_that_crashes_and_comes_back(scene: Stage) -> None:
    members = scene.fleet.start("work", count=2)
    long = running_long(scene)
    with producing(scene.pgq, scene.server.dsn, seconds=0.01) as producer:
        for _ in range(SCALE.crashes):
            time.sleep(_BETWEEN)
            scene.crash()
        time.sleep(_BETWEEN)
    check(scene, producer.confirmed, producer.perhaps, long)
    assert [list(member.deaths) for member in members] == [[member.pid] for member in members]


def test_a_server_that_is_away_for_longer_than_workers_may_be_silent(scene: Stage) -> None:
    assert SCALE.outage > SCALE.liveness_limit
    scene.fleet.start("work", count=2)
    long = running_long(scene)
    with producing(scene.pgq, scene.server.dsn, seconds=0.01) as producer:
        time.sleep(_BETWEEN)
        scene.server.stop()
        time.sleep(SCALE.outage)
        scene.server.start()
        time.sleep(SCALE.liveness_limit)  # in which nobody may be taken for dead, for having been silent
    check(scene, producer.confirmed, producer.perhaps, long)


def test_a_crash_that_forgets_a_claim_while_its_run_goes_on(scene: Stage) -> None:
    # A claim is committed asynchronously. Until the next other commit it is not on disk, and the crash forgets it.
    scene.server.query("alter system set wal_writer_delay to '10s'")
    scene.server.query("select pg_reload_conf()")
    members = scene.fleet.start("work", count=2)
    forgotten: set[int] = set()
    for _ in range(SCALE.crashes):
        ids = scene.enqueue(30, seconds=0.5)
        scene.wait_until_running(ids[:1])
        scene.crash()
        begun = {run.job_id for run in scene.journal.runs()} & set(ids)
        forgotten |= {job_id for (job_id,) in scene.server.query("select id from pgq_job where attempt = 0")} & begun
    assert forgotten, "no crash came early enough"
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert all(member.deaths.keys() == {member.pid} for member in members)
    for claimed_at, token in scene.server.query(
        "select extract(epoch from claimed_at)::float8, result #>> '{}' from pgq_history"
    ):
        (run,) = (run for run in scene.journal.runs() if run.token == token)
        assert abs(run.claimed_at - claimed_at) < 1e-5, f"the outcome of one run of job {run.job_id} was taken for another's"


def running_long(scene: Stage) -> list[int]:
    """Jobs that run until the gate opens, their claims on disk."""
    long = scene.enqueue(4, gate=str(scene.gate))
    scene.wait_until_running(long)
    scene.server.query("checkpoint")
    return long


def check(scene: Stage, confirmed: list[int], perhaps: list[int], long: list[int]) -> None:
    """Everything succeeds, and what ran through the outage ran once."""
    assert len(confirmed) > 100
    scene.open_gate()
    scene.ids.extend(confirmed)
    census = scene.conclude(perhaps=perhaps)
    assert set(census.counts) == {"succeeded"}
    begun = [run.job_id for run in scene.journal.runs() if run.job_id in set(long)]
    assert sorted(begun) == sorted(long)
    assert {census.attempts[job_id] for job_id in long} == {1}
