"""Two versions at once: whoever finds a newer schema than it knows says so and leaves; what runs goes on."""

from __future__ import annotations

from tests.faults.stage import Stage


def test_a_worker_beside_a_schema_that_is_newer_than_it_knows(scene: Stage) -> None:
    running = scene.fleet.start_one("work")
    own = scene.enqueue(5, gate=str(scene.gate))
    scene.wait_until_running(own)
    scene.server.query("update pgq_version set version = version + 1")
    refused = scene.fleet.launch("work")
    assert refused.ended() == 1
    lines = [line for line in refused.printed.splitlines() if line.startswith("pgq-sync: ")]
    assert len(lines) == 1, refused.printed
    assert "version" in lines[0]
    assert "Traceback" not in refused.printed
    scene.enqueue(50)
    scene.open_gate()
    scene.wait_until_done()
    scene.server.query("update pgq_version set version = version - 1")  # for the doctor
    census = scene.conclude()
    assert census.counts == {"succeeded": 55}
    assert {run.pid for run in scene.journal.runs()} == {running.pid}
    assert "Traceback" not in running.printed


def test_a_worker_that_needs_a_newer_schema_names_the_command(scene: Stage) -> None:
    scene.enqueue(5)
    scene.server.query("update pgq_version set version = version - 1")
    refused = scene.fleet.launch("work")
    assert refused.ended() == 1
    assert "pgq-sync upgrade" in refused.printed
    assert "Traceback" not in refused.printed
    scene.server.query("update pgq_version set version = version + 1")
    scene.fleet.start("work")
    assert scene.conclude().counts == {"succeeded": 5}
