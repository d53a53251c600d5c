"""drain: every due job in this thread, on both stores; what becomes of it is what a worker would have made of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import Cancelled, ConfigError, Context, Hold, Job, JobTimeout, PgQueuer, Retry, testing
from tests.entrypoints.support import record_of
from tests.storage.support import query
from tests.waiting import PATIENCE, wait_until


def test_it_runs_in_this_thread_and_leaves_none(either: PgQueuer) -> None:
    threads: list[threading.Thread] = []
    either.entrypoint("work")(lambda job: threads.append(threading.current_thread()))
    for _ in range(3):
        either.enqueue("work")
    report = testing.drain(either)
    assert (report.counts, report.requeued, report.stuck) == ({"succeeded": 3}, 0, 0)
    assert threads == [threading.current_thread()] * 3
    assert not [each.name for each in threading.enumerate() if each.name.startswith("pgq-") and "pgq-sync" not in each.name]
    assert either.jobs.count() == {("work", "succeeded"): 3}


def test_larger_priorities_come_first_then_the_earliest_due(either: PgQueuer) -> None:
    ran: list[bytes | None] = []
    for name in ("a", "b"):
        either.entrypoint(name)(lambda job: ran.append(job.payload))
    for entrypoint, payload, priority in [
        ("a", "1", 0),
        ("b", "2", 0),
        ("a", "3", 0),
        ("b", "4", 5),
        ("a", "5", -5),
        ("a", "6", 5),
    ]:
        either.enqueue(entrypoint, payload, priority=priority)
    testing.drain(either)
    assert ran == [b"4", b"6", b"1", b"2", b"3", b"5"]


def test_jobs_that_these_enqueue_run_too(either: PgQueuer) -> None:
    @either.entrypoint("count")
    def count(job: Job, context: Context) -> None:
        if left := int(job.payload or 0):
            context.enqueue("count", str(left - 1))

    either.enqueue("count", "3")
    assert testing.drain(either).counts == {"succeeded": 4}


def test_each_ending_is_what_a_worker_would_have_made_of_it(either: PgQueuer) -> None:
    endings: dict[str, BaseException] = {
        "failed": ValueError("no"),
        "cancelled": Cancelled("not wanted"),
        "held": Hold("look"),
        "retried": Retry(timedelta(hours=1), "later"),
    }
    either.entrypoint("succeeded", store_result=True)(lambda job: {"answer": 42})
    for name, ending in endings.items():

        @either.entrypoint(name)
        def work(job: Job, ending: BaseException = ending) -> None:
            raise ending

    ids = {name: either.enqueue(name, headers={"of": name}) for name in ("succeeded", *endings)}
    assert testing.drain(either).counts == dict.fromkeys(ids, 1)
    records = {name: record_of(either, job_id) for name, job_id in ids.items()}
    assert {name: record.status for name, record in records.items()} == {name: name for name in ids} | {"retried": "queued"}
    assert records["succeeded"].result == {"answer": 42}
    assert [records[name].errors[0]["message"] for name in endings] == ["no", "not wanted", "look", "later"]
    assert all(record.attempts == 1 and record.headers == {"of": name} for name, record in records.items())
    assert records["retried"].execute_after - records["retried"].created_at >= timedelta(hours=1)
    assert testing.drain(either).counts == {}


def test_it_sees_what_a_handler_gets(either: PgQueuer) -> None:
    either.resources["http"] = client = object()
    seen: list[tuple[Any, ...]] = []

    @either.entrypoint("work", queue="mail")
    def work(job: Job, context: Context) -> None:
        seen.append((job.id, job.queue, job.payload, job.headers, job.attempt, job.dedupe_key, context.resources["http"]))

    job_id = either.enqueue("work", b"\x00\xff", headers={"trace": [1, {"a": None}]}, dedupe_key="once")
    testing.drain(either)
    assert seen == [(job_id, "mail", b"\x00\xff", {"trace": [1, {"a": None}]}, 1, "once", client)]


def test_dedupe_keys_are_free_when_they_should_be(either: PgQueuer) -> None:
    @either.entrypoint("work")
    def work(job: Job, context: Context) -> None:
        until, attempt = (job.payload or b"").decode().split()
        if attempt == "1":
            on_conflict = "skip" if until == "finished" else "raise"
            again = context.enqueue("work", f"{until} 2", dedupe_key=until, dedupe_until=until, on_conflict=on_conflict)
            assert (again is None) == (until == "finished")

    either.enqueue("work", "started 1", dedupe_key="started", dedupe_until="started")
    either.enqueue("work", "finished 1", dedupe_key="finished")
    assert testing.drain(either).counts == {"succeeded": 3}
    either.enqueue("work", "finished 2", dedupe_key="finished")


def test_what_is_paused_waits(either: PgQueuer) -> None:
    for name in ("work", "other"):
        either.entrypoint(name)(lambda job: None)
        for q in ("default", "mail"):
            either.enqueue(name, queue=q)
    either.limits.pause("work", "mail")
    either.limits.pause("other")
    assert testing.drain(either).counts == {"succeeded": 1}
    either.limits.resume("other")
    either.limits.pause(queue="mail")
    assert testing.drain(either).counts == {"succeeded": 1}
    either.limits.resume(queue="mail")
    assert testing.drain(either).counts == {"succeeded": 1}
    either.limits.resume("work", "mail")
    assert testing.drain(either).counts == {"succeeded": 1}


def test_what_nobody_serves_is_left(either: PgQueuer) -> None:
    either.entrypoint("work")(lambda job: None)
    either.enqueue("other")
    either.enqueue("work", execute_after=timedelta(hours=1))
    assert testing.drain(either).counts == {}


def test_limits_delay_nothing(either: PgQueuer) -> None:
    either.entrypoint("work", requests_per_second=0.001, concurrency_limit=1)(lambda job: None)
    with either.worker():
        pass  # its start makes the limits known
    for _ in range(3):
        either.enqueue("work")
    assert testing.drain(either).counts == {"succeeded": 3}


def test_max_jobs_bounds_the_attempts(either: PgQueuer) -> None:
    @either.entrypoint("work")
    def work(job: Job) -> None:
        raise Retry

    either.enqueue("work")
    assert testing.drain(either, max_jobs=5).counts == {"retried": 5}
    for most in (0, True, "5"):
        with pytest.raises(ValueError, match=f"max_jobs={most!r}: a whole number from 1 up"):
            testing.drain(either, max_jobs=most)  # type: ignore[arg-type]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is heeded, as in a terminal: a process that a shell has put in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("options", [{}, {"timeout": PATIENCE}], ids=["plain", "with a timeout"])
def test_ctrl_c_leaves_it_and_the_job_waits_again(either: PgQueuer, options: dict[str, Any]) -> None:
    ran: list[int] = []

    @either.entrypoint("work", **options)
    def work(job: Job) -> None:
        ran.append(job.attempt)
        if len(ran) == 1:
            signal.raise_signal(signal.SIGINT)

    ids = [either.enqueue("work") for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        testing.drain(either)
    assert ran == [1]
    assert [(record.id, record.status, record.attempts) for record in testing.enqueued(either)] == [
        (job_id, "queued", 0) for job_id in ids
    ]
    assert record_of(either, ids[0]).errors[0]["type"] == "Interrupted"
    assert testing.drain(either).counts == {"succeeded": 2}
    assert ran == [1, 1, 1]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_transactional_handler_rolls_back_its_work(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "create table effect (payload bytea)")

    @pgq.entrypoint("work", transactional=True)
    def work(job: Job, context: Context) -> None:
        context.connection.execute("insert into effect values (%s)", [job.payload])
        signal.raise_signal(signal.SIGINT)

    pgq.enqueue("work", "half")
    with pytest.raises(KeyboardInterrupt):
        testing.drain(pgq)
    assert query(dsn, "select * from effect") == []
    assert pgq.jobs.count() == {("work", "queued"): 1}
    with psycopg.connect(dsn) as connection:
        with pytest.raises(KeyboardInterrupt):
            testing.drain(pgq, connection=connection)
        found = connection.execute("select status, attempt, (select count(*) from effect) from pgq_job").fetchone()
        assert found == ("queued", 0, 0)


def test_without_an_entrypoint_it_says_so(either: PgQueuer) -> None:
    with pytest.raises(ConfigError, match="no entrypoint is registered"):
        testing.drain(either)


def test_a_timeout_ends_a_handler(either: PgQueuer) -> None:
    @either.entrypoint("work", timeout=0.05)
    def work(job: Job, context: Context) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pass

    job_id = either.enqueue("work")
    started = time.monotonic()
    assert testing.drain(either).counts == {"failed": 1}
    assert time.monotonic() - started < PATIENCE / 2
    assert record_of(either, job_id).errors[0]["type"].endswith("JobTimeout")
    wait_until(lambda: "pgq-deadline" not in [thread.name for thread in threading.enumerate()])


def test_a_handler_in_time_meets_no_timeout(either: PgQueuer) -> None:
    deadlines: list[Any] = []
    either.entrypoint("work", timeout=60)(lambda job, context: deadlines.append((context.deadline, context.timed_out)))
    either.enqueue("work")
    assert testing.drain(either).counts == {"succeeded": 1}
    assert deadlines[0][0] is not None
    assert not deadlines[0][1]


def test_a_job_that_was_asked_to_end_while_it_ran_is_not_tried_again(either: PgQueuer) -> None:
    @either.entrypoint("work")
    def work(job: Job) -> None:
        assert either.jobs.cancel([job.id]).asked == [job.id]
        raise Retry

    job_id = either.enqueue("work")
    assert testing.drain(either).counts == {"retried": 1}
    assert record_of(either, job_id).status == "cancelled"


def test_an_outcome_that_cannot_be_stored_fails_the_job(either: PgQueuer) -> None:
    @either.entrypoint("work")
    def work(job: Job) -> None:
        raise Retry(timedelta.max)

    job_id = either.enqueue("work")
    assert testing.drain(either).counts == {"failed": 1}
    assert "its outcome cannot be stored" in record_of(either, job_id).errors[0]["message"]


def test_a_claim_that_was_taken_over_meanwhile_is_lost(pgq: PgQueuer, dsn: str) -> None:
    @pgq.entrypoint("work")
    def work(job: Job) -> None:
        query(dsn, "update pgq_job set worker_id = gen_random_uuid() where id = %s", [job.id])

    job_id = pgq.enqueue("work")
    assert testing.drain(pgq).counts == {"lost": 1}
    assert record_of(pgq, job_id).status == "running"


def test_a_transactional_handlers_work_and_completion_are_one(pgq: PgQueuer, dsn: str) -> None:
    query(dsn, "create table effect (payload bytea, xid xid8 default pg_current_xact_id())")

    @pgq.entrypoint("work", transactional=True)
    def work(job: Job, context: Context) -> None:
        context.connection.execute("insert into effect values (%s)", [job.payload])
        if job.payload == b"bad":
            raise ValueError

    pgq.enqueue("work", "good")
    pgq.enqueue("work", "bad")
    assert testing.drain(pgq).counts == {"succeeded": 1, "failed": 1}
    assert query(dsn, "select payload, xid::xid = (select xmin from pgq_history where status = 'succeeded') from effect") == [
        (b"good", True)
    ]


def test_jobtimeout_of_a_stuck_query_comes_when_the_query_has_ended(pgq: PgQueuer, dsn: str) -> None:
    @pgq.entrypoint("work", timeout=0.05, transactional=True)
    def work(job: Job, context: Context) -> None:
        context.connection.execute("select pg_sleep(0.3)")
        while True:
            context.check()

    pgq.enqueue("work")
    assert testing.drain(pgq).counts == {"failed": 1}
    with pytest.raises(JobTimeout):
        testing.run_job(pgq, "work")
