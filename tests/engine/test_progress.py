"""How far a job says it is: seen while it runs, and never in anybody's way."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import Context, Job, JobRecord, NewJob, PgQueuer, Progress, Retry, Settings
from pgq_sync.engine import progress
from pgq_sync.models import Report
from tests.network.proxy import proxied
from tests.storage.support import query, record
from tests.waiting import PATIENCE, wait_until


@contextmanager
def running(pgq: PgQueuer, say: Callable[[Context], object], **options: Any) -> Iterator[tuple[Job, Context, threading.Event]]:
    """A job that runs, after its handler has done `say`, until the event is set."""
    started, go_on = threading.Event(), threading.Event()
    contexts: list[Context] = []

    @pgq.entrypoint("work", **options)
    def work(job: Job, context: Context) -> None:
        contexts.append(context)
        say(context)
        started.set()
        assert go_on.wait(PATIENCE)

    job_id = pgq.enqueue("work")
    with pgq.worker():
        try:
            wait_until(lambda: started.is_set() or pgq.jobs.find(status="failed"))
            assert record(pgq, job_id).errors == []
            yield contexts[0].job, contexts[0], go_on
        finally:
            go_on.set()


def shown(pgq: PgQueuer, job: Job) -> Progress | None:
    return record(pgq, job.id).progress


def test_a_running_job_shows_its_latest_progress(either: PgQueuer) -> None:
    with running(either, lambda context: context.progress(0.25, "a quarter")) as (job, context, _):
        wait_until(lambda: shown(either, job))
        first = shown(either, job)
        assert first is not None
        assert (first.fraction, first.note) == (0.25, "a quarter")
        assert job.claimed_at <= first.updated_at

        for step in range(1, 101):
            context.progress(step / 100, f"{step} %")
        wait_until(lambda: shown(either, job) != first)
        (found,) = either.jobs.find(status="running")
        assert found.progress is not None
        assert (found.progress.fraction, found.progress.note) == (1.0, "100 %")
        context.progress(0)
        wait_until(lambda: (now := shown(either, job)) is not None and (now.fraction, now.note) == (0.0, None))


def test_a_finished_job_shows_none(either: PgQueuer) -> None:
    with running(either, lambda context: context.progress(0.5)) as (job, _, go_on):
        wait_until(lambda: shown(either, job))
        go_on.set()
        wait_until(lambda: record(either, job.id).status == "succeeded")
        assert shown(either, job) is None
        assert either.jobs.find()[0].progress is None


def test_the_progress_of_an_attempt_before_is_none_of_this_one(either: PgQueuer) -> None:
    first: list[JobRecord] = []

    def say(context: Context) -> None:
        if context.job.attempt == 1:
            context.progress(0.9)
            wait_until(lambda: shown(either, context.job))
            first.append(record(either, context.job.id))
            raise Retry()

    with running_at_last(either, say) as job:
        assert job.attempt == 2
        assert first[0].progress is not None
        assert record(either, job.id).status == "running"
        assert shown(either, job) is None


@contextmanager
def running_at_last(pgq: PgQueuer, say: Callable[[Context], object]) -> Iterator[Job]:
    """A job that runs in its last attempt, until the block ends."""
    jobs: list[Job] = []
    go_on = threading.Event()

    @pgq.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        say(context)
        jobs.append(job)
        assert go_on.wait(PATIENCE)

    pgq.enqueue("work")
    with pgq.worker():
        try:
            wait_until(lambda: jobs)
            yield jobs[0]
        finally:
            go_on.set()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("0.5",), TypeError, "fraction='0.5': a number from 0 to 1"),
        ((None,), TypeError, "fraction=None"),
        ((True,), TypeError, "fraction=True"),
        ((-0.01,), ValueError, "fraction=-0.01"),
        ((1.01,), ValueError, "fraction=1.01"),
        ((math.nan,), ValueError, "fraction=nan"),
        ((math.inf,), ValueError, "fraction=inf"),
        ((0.5, b"bytes"), TypeError, "note=b'bytes': text or None"),
    ],
)
def test_what_is_no_progress_is_refused(either: PgQueuer, arguments: Any, error: type[Exception], words: str) -> None:
    said: list[Exception] = []

    @either.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        with pytest.raises(error, match=words) as caught:
            context.progress(*arguments)
        said.append(caught.value)

    either.enqueue("work")
    assert either.drain().counts == {"succeeded": 1}
    assert said


@pytest.mark.parametrize(("note", "kept"), [("a\x00b", "a\\x00b"), ("\ud800", "\\ud800"), (5_000 * "x", 1_000 * "x"), ("", "")])
def test_a_note_that_cannot_be_stored_is_made_fit(either: PgQueuer, note: str, kept: str) -> None:
    with running(either, lambda context: context.progress(1, note)) as (job, _, _):
        wait_until(lambda: shown(either, job))
        found = shown(either, job)
        assert found is not None
        assert found.note == kept


def test_a_transactional_handler_reports_outside_of_its_transaction(pgq: PgQueuer) -> None:
    def say(context: Context) -> None:
        context.connection.execute("select 1")
        context.progress(0.5)

    with running(pgq, say, transactional=True, timeout=PATIENCE) as (job, _, _):
        wait_until(lambda: shown(pgq, job))


def test_handlers_that_report_all_the_time_are_timed_out_and_leave_the_others_able_to(either: PgQueuer) -> None:
    @either.entrypoint("endless", timeout=0.05)
    def endless(job: Job, context: Context) -> None:
        while True:
            context.progress(0.5)

    @either.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        context.progress(0.25)
        wait_until(lambda: shown(either, job))

    either.enqueue_many(NewJob(entrypoint="endless", priority=1) for _ in range(10))
    either.enqueue("work")
    report = either.drain()
    assert report.counts == {"failed": 10, "succeeded": 1}
    assert report.stuck == 0


def test_a_report_from_a_thread_of_the_handlers_own_keeps_no_timeout_from_the_handler(either: PgQueuer) -> None:
    told = threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.wait(PATIENCE)  # in logging nothing is raised: the report comes first

    log = logging.Logger("slow")
    log.addHandler(Slow())

    @either.entrypoint("work", timeout=0.1)
    def work(job: Job, context: Context) -> None:
        def report() -> None:
            wait_until(lambda: context.timed_out)
            try:
                context.progress(0.5)
            finally:
                told.set()

        with ThreadPoolExecutor(1) as threads:
            threads.submit(report)
            log.info("waits")
            while True:
                time.sleep(0.001)  # bytecode now and then, until it is interrupted

    job_id = either.enqueue("work")
    report = either.drain()
    assert (report.counts, report.stuck) == ({"failed": 1}, 0)
    assert record(either, job_id).errors[0]["type"] == "pgq_sync.errors.JobTimeout"


def test_a_locked_row_holds_up_neither_a_handler_nor_other_jobs(pgq: PgQueuer, dsn: str) -> None:
    @pgq.entrypoint("other")
    def other(job: Job, context: Context) -> None:
        context.progress(0.3)
        wait_until(lambda: shown(pgq, job))

    with running(pgq, lambda context: context.progress(0.1)) as (job, context, _):
        wait_until(lambda: shown(pgq, job))
        with closing(psycopg.connect(dsn)) as connection:
            connection.execute("select from pgq_progress for update")
            context.progress(0.2)
            # Written by the same worker, with the other or after it.
            neighbour = pgq.enqueue("other")
            wait_until(lambda: record(pgq, neighbour).status == "succeeded")
            found = shown(pgq, job)
            assert found is not None
            assert found.fraction == 0.1
        wait_until(lambda: (now := shown(pgq, job)) is not None and now.fraction == 0.2)


def test_a_database_that_is_away_is_no_error_of_the_handler(
    pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.05)
    with (
        proxied(dsn) as proxy,
        PgQueuer.from_dsn(proxy.dsn, settings=Settings()) as distant,
        running(distant, lambda context: context.progress(0.1)) as (job, context, _),
    ):
        wait_until(lambda: shown(pgq, job))
        proxy.refuse()
        proxy.cut()
        for step in range(20, 101):
            context.progress(step / 100)
        wait_until(lambda: "how far jobs are could not be written" in caplog.text)
        proxy.restore()
        wait_until(lambda: (now := shown(pgq, job)) is not None and now.fraction == 1.0)


def test_without_progress_there_is_no_thread(either: PgQueuer) -> None:
    with running(either, lambda context: None) as (_, context, _):
        assert "pgq-progress" not in [thread.name for thread in threading.enumerate()]
        context.progress(0.5)
        assert "pgq-progress" in [thread.name for thread in threading.enumerate()]
    assert "pgq-progress" not in [thread.name for thread in threading.enumerate()]


def test_a_job_whose_claim_is_lost_writes_none(pgq: PgQueuer, dsn: str) -> None:
    with running(pgq, lambda context: None) as (job, _, _):
        query(dsn, "update pgq_job set worker_id = gen_random_uuid()")
        assert pgq.store.report(job.worker_id, [Report(job, 0.5, None)]) == set()
        assert query(dsn, "select job_id from pgq_progress") == []
        query(dsn, "update pgq_job set worker_id = %s", [job.worker_id])


def test_the_progress_of_finished_jobs_is_swept(pgq: PgQueuer, dsn: str) -> None:
    with running(pgq, lambda context: context.progress(0.5)) as (job, _, _):
        wait_until(lambda: shown(pgq, job))
        query(dsn, "insert into pgq_progress (job_id, fraction) select n, 0 from generate_series(1000, 26000) as n")
        pgq.store.maintain(timedelta(days=7))
        assert query(dsn, "select job_id from pgq_progress") == [(job.id,)]
