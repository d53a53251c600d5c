"""After a fault: whether every job that was enqueued is accounted for, once, and nothing is left claimed by nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from pgq_sync.cli.main import cli
from tests.faults.fleet import ROOT
from tests.faults.measures import at_once, runs_per_job
from tests.faults.records import Journal
from tests.faults.servers import Server

UNFINISHED = ("queued", "running", "held")
FINISHED = ("succeeded", "failed", "cancelled", "deleted")
_FORGOTTEN = 1.0  # seconds; a server writes out what was committed asynchronously within three times 0.2 s


@dataclass(frozen=True)
class Census:
    """Where the jobs are.

    Attributes:
        status: of each job.
        attempts: of each job.
    """

    status: dict[int, str]
    attempts: dict[int, int]

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs have which status."""
        return dict(Counter(self.status.values()))


def take_census(server: Server, enqueued: Collection[int], perhaps: Collection[int] = ()) -> Census:
    """Counts, and fails the test where a job is missing, in two places, unheard of, or claimed by nobody.

    Args:
        server: the database's.
        enqueued: the ids whose commit was confirmed.
        perhaps: ids whose commit was asked for, and never answered.
    """
    unfinished = server.query("select id, status, attempt from pgq_job")
    finished = server.query("select id, status, attempts from pgq_history")
    ids = [row[0] for row in unfinished + finished]
    twice = [job_id for job_id, count in Counter(ids).items() if count > 1]
    assert not twice, f"jobs that are in two places: {twice[:20]}"
    lost = set(enqueued).difference(ids)
    assert not lost, f"{len(lost)} of {len(enqueued)} jobs are lost: {sorted(lost)[:20]}"
    unheard = set(ids).difference(enqueued, perhaps)
    assert not unheard, f"jobs that were never committed: {sorted(unheard)[:20]}"
    assert {row[1] for row in unfinished} <= set(UNFINISHED)
    assert {row[1] for row in finished} <= set(FINISHED)
    claimed_by_nobody = server.query(
        "select id, worker_id from pgq_job where status = 'running' and worker_id is null"
        " or status = 'running' and not exists (select from pgq_worker as w where w.worker_id = pgq_job.worker_id)"
        " or status <> 'running' and worker_id is not null"
    )
    assert not claimed_by_nobody, f"claimed by nobody: {claimed_by_nobody[:20]}"
    rows = unfinished + finished
    return Census({row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows})


def check_runs(census: Census, journal: Journal, deaths: dict[int, int], crashes: Collection[tuple[float, float]] = ()) -> None:
    """Fails the test where the handlers' records contradict the database.

    Args:
        census: the database's word.
        journal: the handlers'.
        deaths: of the processes.
        crashes: between which two moments each time the server went down, and claimed until then. A claim of the last moment
            before is forgotten, and made again.
    """
    runs = journal.runs()
    doubled = {
        job_id: own
        for job_id, own in at_once(runs, deaths).items()
        if not any(asked - _FORGOTTEN < run.claimed_at <= down for asked, down in crashes for run in own)
    }
    assert not doubled, f"jobs that ran in two places at once: {list(doubled.items())[:3]}"
    began = runs_per_job(runs)
    unrun = [job_id for job_id, status in census.status.items() if status == "succeeded" and job_id not in began]
    assert not unrun, f"succeeded without having run: {unrun[:20]}"
    done = {run.job_id for run in runs if run.how == "done"}
    undone = [job_id for job_id, status in census.status.items() if status == "succeeded" and job_id not in done]
    assert not undone, f"succeeded although no run of it came to its end: {undone[:20]}"


def consult_doctor(server: Server) -> None:
    """Fails the test where `pgq-sync doctor` finds something."""
    if "doctor" not in cli.commands:
        return
    done = subprocess.run(
        [sys.executable, "-m", "pgq_sync", "doctor", "--json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PGQ_DSN": server.dsn},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
