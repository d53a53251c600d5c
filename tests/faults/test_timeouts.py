"""Deadlines that fire in the moment in which the handler ends: they hit the handler or nothing. In this process."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

from pgq_sync import Job, NewJob, PgQueuer, Settings
from tests.faults.scale import SCALE
from tests.faults.servers import Server

TIMEOUT = 0.03  # seconds
SLOTS = 10


def test_deadlines_that_fire_as_the_handler_ends(own_server: Server) -> None:
    with PgQueuer.from_dsn(own_server.dsn, settings=Settings()) as pgq:
        options: dict[str, Any] = {"timeout": TIMEOUT}

        @pgq.entrypoint("close", **options)
        def close(job: Job) -> None:
            end = time.monotonic() + TIMEOUT + random.uniform(-0.004, 0.004)
            time.sleep(TIMEOUT - 0.006)
            while time.monotonic() < end:
                pass  # each turn is a place where the exception may be raised

        pgq.enqueue_many([NewJob(entrypoint="close")] * SLOTS)
        pgq.drain(concurrency=SLOTS)  # everything is imported and prepared
        ids = pgq.enqueue_many([NewJob(entrypoint="close")] * SCALE.timeouts)
        with pgq.worker(concurrency=SLOTS) as worker:
            slots = slot_threads()
            assert len(slots) >= SLOTS
            deadline = time.monotonic() + SCALE.patience + SCALE.timeouts / SLOTS * TIMEOUT * 4
            while own_server.query("select count(*) from pgq_job") != [(0,)]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert slots <= slot_threads(), "a slot's thread has died"
        counts = Counter(worker.stop().counts)
        assert counts["succeeded"] + counts["failed"] == SCALE.timeouts
        # Both happen often, or the test proves nothing.
        assert min(counts["succeeded"], counts["failed"]) > SCALE.timeouts / 20
        for job_id in ids:
            record = pgq.jobs.get(job_id)
            assert record is not None
            # In the handler, or in the one line that calls it; anywhere else it would not be taken for a timeout.
            for error in record.errors:
                assert error["type"].endswith("JobTimeout"), error


def slot_threads() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if thread.name.startswith("pgq-slot")}
