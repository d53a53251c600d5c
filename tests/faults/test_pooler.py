"""A PgBouncer in transaction mode between workers and server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scale import SCALE
from tests.faults.servers import Server
from tests.faults.stage import stage
from tests.network.pgbouncer import bouncer


@pytest.mark.parametrize("listening", [True, False], ids=["listen_dsn", "no listen_dsn"])
def test_jobs_run_through_it(own_server: Server, tmp_path: Path, listening: bool) -> None:
    past: dict[str, Any] = {"PGQ_LISTEN_DSN": own_server.dsn} if listening else {"PGQ_POLL_INTERVAL": "500ms"}
    with bouncer(own_server.dsn, pool_size=10) as pooled, stage(own_server, tmp_path, pooled) as scene:
        members = scene.fleet.start("work", count=2, **past)
        long = scene.enqueue(4, seconds=SCALE.silence)
        scene.wait_until_running(long)
        for _ in range(5):
            scene.enqueue(200, seconds=0.005)
            time.sleep(0.5)
        census = scene.conclude()
        assert census.counts == {"succeeded": len(scene.ids)}
        assert set(census.attempts.values()) == {1}
        for member in members:
            assert "Traceback" not in member.printed
            if not listening:
                assert member.printed.count("listen_dsn") == 1, "said once"
