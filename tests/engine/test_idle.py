"""What a worker without any jobs asks of the database: nothing but what the promises take."""

from __future__ import annotations

import gc
from collections import Counter
from datetime import timedelta

import pytest

from benchmarks.counting import recorded_statements
from pgq_sync import Job, NewJob, PgQueuer, Settings
from tests.waiting import wait_until

SHORT = Settings(
    beat_interval=timedelta(seconds=0.05), liveness_limit=timedelta(seconds=0.1), poll_interval=timedelta(seconds=0.05)
)
TURNS = 20
MARK = "the headers of a job that is to be forgotten"


def test_an_idle_worker_beats_looks_and_searches_with_one_statement_each(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgq_sync.engine.keeper._THOROUGH", 0.0)
    with PgQueuer.from_dsn(dsn, settings=SHORT) as pgq, recorded_statements() as sent:
        pgq.entrypoint("idle")(lambda job: None)
        with pgq.worker() as worker:
            worker.listening.wait()
            wait_until(lambda: "forsaken" in sent)
            del sent[:]
            wait_until(lambda: sent.count("beat") > TURNS)
            often = Counter(sent)
    hourly = {"sweep_progress", "sweep_watches", "maintain"}
    assert often.pop("next_schedule", 0) <= 1, often  # the scheduler's one look after the connection may come late
    assert set(often) - hourly == {"beat", "lanes", "forsaken", "idle_requests"}
    assert max(often["forsaken"], often["idle_requests"]) <= often["beat"] + 1, often


def test_an_idle_worker_keeps_no_finished_job_in_memory(pgq: PgQueuer) -> None:
    seen = []

    @pgq.entrypoint("work")
    def work(job: Job) -> None:
        seen.append(headers_in_memory())

    with pgq.worker(concurrency=3):
        ids = pgq.enqueue_many(NewJob(entrypoint="work", headers={MARK: [number]}) for number in range(10))
        wait_until(lambda: pgq.jobs.count().get(("work", "succeeded")) == len(ids))
        wait_until(lambda: headers_in_memory() == 0)
    assert min(seen) > 0  # a job that runs is seen


def headers_in_memory() -> int:
    """How many of the jobs' headers there are: the garbage collector does not know the jobs themselves."""
    return sum(type(each) is dict and MARK in each for each in gc.get_objects())
