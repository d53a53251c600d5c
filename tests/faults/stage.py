"""What one fault needs: a server, a fleet, the journal, a producer, and the ledger of what was enqueued."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pgq_sync import NewJob, PgQueuer, Settings
from tests.faults.census import Census, check_runs, consult_doctor, take_census
from tests.faults.fleet import Fleet, Member
from tests.faults.measures import SECOND
from tests.faults.patience import within
from tests.faults.records import VARIABLE, Journal, Run
from tests.faults.scale import SCALE
from tests.faults.servers import Server


class Stage:
    """Where a fault happens.

    Args:
        server: the database, with nothing in it but the schema.
        directory: for files.
        dsn: by which the workers reach the server, if not by its own.
    """

    def __init__(self, server: Server, directory: Path, dsn: str | None = None) -> None:
        self.server = server
        self.journal = Journal(directory / "journal")
        self.gate = directory / "gate"
        self.fleet = Fleet(directory, {"PGQ_DSN": dsn or server.dsn, VARIABLE: str(self.journal.path)})
        self.ids: list[int] = []
        self.crashes: list[tuple[float, float]] = []
        self.given_up: dict[int, int] = {}
        # Not named like the workers' connections, so that it is spared when those are cut.
        self.pgq = PgQueuer.from_dsn(f"{server.dsn}?application_name=producer", settings=Settings())

    def enqueue(self, count: int, entrypoint: str = "work", *, after: timedelta | None = None, **order: Any) -> list[int]:
        """Enqueues so many jobs, and takes them down; apps/orders.py tells what an order says."""
        payload = json.dumps(order)
        ids = self.pgq.enqueue_many([NewJob(entrypoint=entrypoint, payload=payload, execute_after=after)] * count)
        self.ids.extend(ids)
        return list(ids)

    def enqueue_under(self, key: str, **order: Any) -> int:
        """Enqueues one job under a dedupe key, and takes it down."""
        job_id = self.pgq.enqueue("work", json.dumps(order), dedupe_key=key)
        self.ids.append(job_id)
        return job_id

    def open_gate(self) -> None:
        """Lets the jobs go on that wait for it."""
        self.gate.touch()

    def wait_for_runs(self, condition: Callable[[list[Run]], Any], what: str, seconds: float = SCALE.patience) -> float:
        """Waits until the handlers' records fulfil the condition; tells how long."""
        return within(seconds, lambda: condition(self.journal.runs()), what)

    def wait_until_running(self, ids: list[int]) -> None:
        """Waits until all of these jobs have begun."""
        wanted = set(ids)
        self.wait_for_runs(lambda runs: wanted <= {run.job_id for run in runs}, f"{len(ids)} jobs begin")

    def running(self, member: Member) -> list[Run]:
        """What a worker runs now."""
        return [run for run in self.journal.runs() if run.ended is None and run.pid == member.pid]

    def learn_to_claim_ahead(self) -> None:
        """Has workers find out that jobs are short, so that they claim about a hundred more than they have slots."""
        self.enqueue(600, seconds=0.015)
        self.wait_until_done()

    def wait_for_beat(self, member: Member) -> None:
        """Waits until a worker gives its next sign of life."""
        beat = "select beat_at from pgq_worker where pid = %s"
        before = self.server.query(beat, [member.pid])
        within(3 * SCALE.beat_interval, lambda: self.server.query(beat, [member.pid]) != before, "a beat")

    def give_up(self, member: Member) -> None:
        """From now on this worker is as good as dead, whatever its process does."""
        self.given_up[member.pid] = time.time_ns()

    def held_by(self, member: Member) -> set[int]:
        """The jobs that this worker has claimed, by the database's word."""
        claimed = "select id from pgq_job where worker_id = (select worker_id from pgq_worker where pid = %s)"
        return {row[0] for row in self.server.query(claimed, [member.pid])}

    def delays_of_outcomes(self) -> dict[int, float]:
        """By job: how many seconds after the end of its handler its outcome was written."""
        finished = "select id, extract(epoch from finished_at)::float8 from pgq_history"
        ends = {run.job_id: run.ended / SECOND for run in self.journal.runs() if run.ended}
        return {job_id: at - ends[job_id] for job_id, at in self.server.query(finished) if job_id in ends}

    def wait_until_done(self, seconds: float = SCALE.patience) -> float:
        """Waits until no job is queued or running."""
        left = "select count(*) from pgq_job where status <> 'held'"
        try:
            return within(seconds, lambda: self.server.query(left) == [(0,)], "no job is left")
        except AssertionError as error:
            sample = "select id, status, entrypoint, attempt, execute_after, worker_id, fence from pgq_job limit 10"
            raise AssertionError(f"{error}, but: {self.server.query(left)}, {self.server.query(sample)}") from None

    def crash(self) -> None:
        """Crashes the server and starts it again; notes between which two moments it went down."""
        self.pgq.close()  # a producer would be told that its connection is lost
        asked = time.time()
        self.server.crash()
        self.crashes.append((asked, time.time()))
        self.server.start()

    def conclude(self, seconds: float = SCALE.patience, *, perhaps: Sequence[int] = ()) -> Census:
        """Waits for the end of all jobs, stops every worker, and takes the census."""
        self.wait_until_done(seconds)
        self.fleet.stop()
        census = take_census(self.server, self.ids, perhaps)
        check_runs(census, self.journal, {**self.fleet.deaths, **self.given_up}, self.crashes)
        consult_doctor(self.server)
        return census


@contextmanager
def stage(server: Server, directory: Path, dsn: str | None = None) -> Iterator[Stage]:
    """A stage whose workers are gone at the end, whatever has happened."""
    made = Stage(server, directory, dsn)
    try:
        yield made
    finally:
        made.fleet.kill()
        made.pgq.close()
        print(made.fleet.report())  # noqa: T201  pytest shows it where a test fails
