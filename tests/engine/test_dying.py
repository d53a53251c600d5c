"""Processes that die of a job, again and again: that job is found and ended, and its neighbours come through."""

from __future__ import annotations

import subprocess
import sys

from pgq_sync import NewJob, PgQueuer
from tests.storage.support import record
from tests.waiting import PATIENCE

NEIGHBOURS = 30
DEATHS = 4  # the first run, and as many more as `max_rescues` allows
SCRIPT = """
import os, sys, threading, time
from datetime import timedelta
from pgq_sync import PgQueuer

pgq = PgQueuer.from_dsn(sys.argv[1])

@pgq.entrypoint("work")
def work(job):
    if job.payload == b"kill":
        os._exit(9)
    time.sleep(0.02)  # what the job takes

with pgq.worker(concurrency=4, beat_interval=timedelta(seconds=0.1), liveness_limit=timedelta(seconds=0.5)):
    while {status for _, status in pgq.jobs.count()} & {"queued", "running"}:
        time.sleep(0.02)  # between two looks
"""


def test_a_job_that_kills_its_process_is_found_alone_and_ended(pgq: PgQueuer, dsn: str) -> None:
    killer = NewJob(entrypoint="work", payload=b"kill")
    jobs = [NewJob(entrypoint="work") for _ in range(NEIGHBOURS)]
    ids = pgq.enqueue_many([*jobs[: NEIGHBOURS // 2], killer, *jobs[NEIGHBOURS // 2 :]])
    killer_id = ids[NEIGHBOURS // 2]

    exits: list[int] = []
    while not exits or (exits[-1] and len(exits) <= DEATHS):
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, dsn], timeout=2 * PATIENCE, capture_output=True, text=True, check=False
        )
        exits.append(process.returncode)
        assert exits[-1] in (0, 9), process.stderr

    assert exits == [9] * DEATHS + [0]
    assert pgq.jobs.count() == {("work", "succeeded"): NEIGHBOURS, ("work", "failed"): 1}
    ended = record(pgq, killer_id)
    assert [error["type"] for error in ended.errors] == ["WorkerDied"] * (DEATHS + 1)
    assert "not run again" in ended.errors[-1]["message"]
    # In quarantine nobody dies with it.
    assert max(len(record(pgq, job_id).errors) for job_id in ids if job_id != killer_id) <= 2
