"""Connections that are cut under workers, and connections on which nothing comes through any more."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.fleet import PUT_BACK
from tests.faults.scale import SCALE
from tests.faults.servers import Server
from tests.faults.stage import Stage, stage
from tests.network.proxy import proxied

EXECUTE = b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00"  # what every statement of the extended protocol contains
STOPPED = 30.0  # seconds in which a worker ends that reaches nothing


def test_every_connection_is_cut_again_and_again(scene: Stage) -> None:
    members = scene.fleet.start("work", count=2)
    long = scene.enqueue(4, seconds=SCALE.cuts * SCALE.cut_every / 2)
    scene.wait_until_running(long)
    cut = 0
    for _ in range(SCALE.cuts):
        scene.enqueue(100, seconds=0.005)
        time.sleep(SCALE.cut_every)
        cut += scene.server.cut()
    assert cut > SCALE.cuts * len(members)
    census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    assert {census.attempts[job_id] for job_id in long} == {1}


def test_answers_get_lost_after_the_commit(own_server: Server, tmp_path: Path) -> None:
    with proxied(own_server.dsn) as proxy, stage(own_server, tmp_path, proxy.dsn) as scene:
        scene.fleet.start("work", count=2)
        long = scene.enqueue(4, seconds=SCALE.cuts * SCALE.cut_every / 2)
        scene.wait_until_running(long)
        for _ in range(SCALE.cuts):
            scene.enqueue(100, seconds=0.005)
            for _ in range(3):
                proxy.cut_after(EXECUTE).wait(SCALE.cut_every / 2)
        census = scene.conclude()
        assert census.counts == {"succeeded": len(scene.ids)}
        assert set(census.attempts.values()) == {1}
        begun = [run.job_id for run in scene.journal.runs() if run.job_id in set(long)]
        assert sorted(begun) == sorted(long)


def test_nothing_comes_through_and_nobody_is_told(own_server: Server, tmp_path: Path) -> None:
    with proxied(own_server.dsn) as proxy, stage(own_server, tmp_path) as scene:
        cut_off = scene.fleet.start_one("work", PGQ_DSN=proxy.dsn)
        (own,) = scene.enqueue(1, gate=str(scene.gate))
        scene.wait_until_running([own])
        scene.fleet.start("work")
        proxy.swallow()
        scene.enqueue(200, seconds=0.005)
        time.sleep(SCALE.outage)
        left = scene.server.query("select id from pgq_job where status = 'queued'")
        assert not left, "a worker that cannot be reached keeps others from working"
        scene.open_gate()
        proxy.cut()
        proxy.restore()
        census = scene.conclude()
        assert census.counts == {"succeeded": len(scene.ids)}
        assert census.attempts[own] == 1
        assert "Traceback" not in cut_off.printed


def test_a_worker_that_reaches_nothing_still_stops(own_server: Server, tmp_path: Path) -> None:
    with proxied(own_server.dsn) as proxy, stage(own_server, tmp_path) as scene:
        cut_off = scene.fleet.start_one("work", PGQ_DSN=proxy.dsn)
        scene.enqueue(20, seconds=0.5)
        scene.wait_for_runs(len, "a job begins")
        proxy.swallow()
        started = time.monotonic()
        assert cut_off.stop(STOPPED) == PUT_BACK  # their outcomes could not be written, and they run again
        assert time.monotonic() - started < STOPPED
