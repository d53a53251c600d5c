"""Inside one open transaction: everything that a queue does, on each kind of connection, and nothing left after a rollback."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from pgq_sync import Cancelled, Context, DatabaseRetry, Hold, Job, PgQueuer, Retry, testing
from tests.storage.links import DRIVERS, Link, linked
from tests.storage.support import ear, query
from tests.testing.conftest import ROWS

START = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
TRACES = """
    select (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
           (select count(*) from pg_listening_channels()),
           (select count(*) from pgq_worker),
           current_setting('lock_timeout')
"""


def statuses(pgq: PgQueuer, link: Link) -> dict[str, str]:
    return {job.entrypoint: job.status for job in pgq.on(link.given).jobs.find()}


def test_everything_happens_in_the_transaction_and_is_gone_with_it(blind: PgQueuer, dsn: str, link: Link) -> None:
    endings = {"failed": ValueError("no"), "held": Hold(), "cancelled": Cancelled(), "retried": Retry(timedelta(hours=1))}
    seen: list[Job] = []
    for name, ending in endings.items():

        @blind.entrypoint(name)
        def work(job: Job, ending: BaseException = ending) -> None:
            raise ending

    @blind.entrypoint("parent", store_result=True)
    def parent(job: Job, context: Context) -> int:
        seen.append(job)
        context.enqueue("child", headers={"of": job.id})
        return 7

    blind.entrypoint("child")(seen.append)
    with ear(dsn) as listener:
        produce = blind.on(link.given)
        produce.enqueue("parent", b"\x00\xff", headers={"a": [1]}, dedupe_key="parent")
        for name in endings:
            produce.enqueue(name, dedupe_key=name)
        report = testing.drain(blind, connection=link.given)

        assert report.counts == dict.fromkeys(endings, 1) | {"succeeded": 2}
        assert [(job.entrypoint, job.payload, job.attempt) for job in seen] == [("parent", b"\x00\xff", 1), ("child", None, 1)]
        assert seen[1].headers == {"of": seen[0].id}
        assert statuses(blind, link) == {
            "parent": "succeeded",
            "child": "succeeded",
            **{name: name for name in endings},
            "retried": "queued",
        }
        produce.enqueue("parent", dedupe_key="parent")  # the key is free again
        assert testing.drain(blind, connection=link.given).counts == {"succeeded": 2}
        assert [tuple(row) for row in link.run(TRACES)] == [(0, 0, 0, "0")]

        link.rollback()
        assert [tuple(row) for row in link.run(TRACES)] == [(0, 0, 0, "0")]
        assert (query(dsn, ROWS), listener.heard()) == ([(0, 0, 0)], [])


def test_what_the_caller_commits_stays(blind: PgQueuer, dsn: str, driver: Link) -> None:
    blind.entrypoint("work")(lambda job: None)
    blind.on(driver.given).enqueue("work")
    testing.drain(blind, connection=driver.given)
    assert query(dsn, ROWS) == [(0, 0, 0)]
    driver.commit()
    assert query(dsn, ROWS) == [(0, 1, 0)]


def test_retries_and_deferred_jobs_come_by_the_clock(blind: PgQueuer, dsn: str, driver: Link) -> None:
    attempts: list[int] = []

    @blind.entrypoint("work", retry=DatabaseRetry(max_attempts=2, initial_delay=timedelta(minutes=5)))
    def work(job: Job) -> None:
        attempts.append(job.attempt)
        raise ValueError

    with testing.clock(blind, START) as clock:
        blind.on(driver.given).enqueue("work", execute_after=timedelta(days=1))
        assert testing.drain(blind, connection=driver.given).counts == {}
        clock.advance(timedelta(days=1))
        assert testing.drain(blind, connection=driver.given).counts == {"retried": 1}
        clock.advance(timedelta(minutes=5))
        assert testing.drain(blind, connection=driver.given).counts == {"failed": 1}
        clock.advance(timedelta(days=30))  # beyond the days that history is ready for
        blind.on(driver.given).enqueue("work")
        assert testing.drain(blind, connection=driver.given).counts == {"retried": 1}
    assert attempts == [1, 2, 1]
    assert [tuple(row) for row in driver.run("show lock_timeout")] == [("0",)]
    driver.rollback()
    assert query(dsn, ROWS) == [(0, 0, 0)]
    assert [tuple(row) for row in driver.run(TRACES)] == [(0, 0, 0, "0")]


def test_a_nightly_report(blind: PgQueuer, dsn: str, driver: Link) -> None:
    due: list[datetime] = []
    blind.schedule("report", "0 3 * * *")(lambda schedule: due.append(schedule.due_at))
    with testing.clock(blind, START) as clock:
        clock.advance(timedelta(days=1))
        testing.tick(blind, connection=driver.given)
        assert testing.drain(blind, connection=driver.given).counts == {"succeeded": 1}
        testing.tick(blind, connection=driver.given)
        assert testing.drain(blind, connection=driver.given).counts == {}
    assert due == [datetime(2031, 5, 18, 3, tzinfo=timezone.utc)]
    driver.rollback()
    assert query(dsn, ROWS) == [(0, 0, 0)]


def test_pauses_and_priorities_of_the_transaction_count(blind: PgQueuer, driver: Link) -> None:
    ran: list[str] = []
    for name in ("a", "b"):
        blind.entrypoint(name)(lambda job: ran.append(job.entrypoint))
    with testing.on_connection(blind, driver.given):
        blind.limits.pause("b")
        for name, priority in (("a", 0), ("b", 9), ("a", 5)):
            blind.enqueue(name, priority=priority)
        assert testing.drain(blind).counts == {"succeeded": 2}
        blind.limits.resume("b")
        assert testing.drain(blind).counts == {"succeeded": 1}
    assert ran == ["a", "a", "b"]


@pytest.mark.parametrize("driver", [each for each in DRIVERS if "psycopg2" not in each], indirect=True)
def test_a_transactional_handler_works_in_a_savepoint(blind: PgQueuer, dsn: str, driver: Link) -> None:
    @blind.entrypoint("work", transactional=True)
    def work(job: Job, context: Context) -> None:
        assert isinstance(context.connection, psycopg.Connection)
        context.connection.execute("insert into effect values (%s)", [job.id])
        context.enqueue("child")
        with pytest.raises(psycopg.ProgrammingError):
            context.connection.commit()
        if job.payload == b"bad":
            context.connection.execute("insert into effect values (%s)", [job.id])

    blind.entrypoint("child")(lambda job: None)
    good = blind.on(driver.given).enqueue("work", "good")
    bad = blind.on(driver.given).enqueue("work", "bad")
    assert testing.drain(blind, connection=driver.given).counts == {"succeeded": 2, "failed": 1}
    assert [tuple(row) for row in driver.run("select job_id from effect")] == [(good,)]
    record = blind.on(driver.given).jobs.get(bad)
    assert record is not None
    assert record.errors[0]["type"] == "psycopg.errors.UniqueViolation"
    driver.rollback()
    assert query(dsn, "select job_id from effect") == []


def test_on_psycopg2_a_handler_is_told_that_it_has_no_connection(blind: PgQueuer, dsn: str) -> None:
    blind.entrypoint("child")(lambda job: None)

    @blind.entrypoint("work", transactional=True)
    def work(job: Job, context: Context) -> None:
        context.enqueue("child")
        assert context.connection

    with linked("SQLAlchemy Session on psycopg2", dsn, autocommit=False) as link:
        job_id = blind.on(link.given).enqueue("work")
        assert testing.drain(blind, connection=link.given).counts == {"failed": 1}
        record = blind.on(link.given).jobs.get(job_id)
        assert record is not None
        assert record.errors[0]["message"].endswith(
            "a psycopg connection, and the one that the test gave is of psycopg2.extensions"
        )


def test_a_handlers_failed_statement_costs_what_it_did_and_no_more(blind: PgQueuer, driver: Link) -> None:
    @blind.entrypoint("work")
    def work(job: Job) -> None:
        driver.run(f"insert into effect values ({job.id})")
        if job.payload == b"statement":
            driver.run("select 1 / 0")
        if job.payload == b"python":
            raise ValueError

    ids = {payload: blind.on(driver.given).enqueue("work", payload) for payload in ("statement", "python", "good")}
    assert testing.drain(blind, connection=driver.given).counts == {"failed": 2, "succeeded": 1}
    assert sorted(row[0] for row in driver.run("select job_id from effect")) == [ids["python"], ids["good"]]


def test_an_outcome_that_cannot_be_stored_leaves_the_transaction_usable(blind: PgQueuer, driver: Link) -> None:
    @blind.entrypoint("work")
    def work(job: Job) -> None:
        raise Retry(timedelta.max)

    blind.on(driver.given).enqueue("work")
    assert testing.drain(blind, connection=driver.given).counts == {"failed": 1}
    assert statuses(blind, driver) == {"work": "failed"}


def test_djangos_broken_block_is_mended(blind: PgQueuer, dsn: str) -> None:
    @blind.entrypoint("work")
    def work(job: Job) -> None:
        django.given.set_rollback(True)  # as a Model.save() that fails leaves it
        raise ValueError

    with linked("Django", dsn, autocommit=False) as django:
        blind.on(django.given).enqueue("work")
        assert testing.drain(blind, connection=django.given).counts == {"failed": 1}
        assert statuses(blind, django) == {"work": "failed"}


def test_a_timeout_leaves_the_connection_usable(blind: PgQueuer, driver: Link) -> None:
    @blind.entrypoint("work", timeout=0.05)
    def work(job: Job) -> None:
        driver.run("select pg_sleep(0.2)")
        deadline = time.monotonic() + 20
        while job.payload == b"busy" and time.monotonic() < deadline:
            pass

    for payload in ("busy", "idle"):
        blind.on(driver.given).enqueue("work", payload)
    started = time.monotonic()
    assert testing.drain(blind, connection=driver.given).counts == {"failed": 2}
    assert time.monotonic() - started < 10
    assert {job.errors[0]["type"] for job in blind.on(driver.given).jobs.find()} == {"pgq_sync.errors.JobTimeout"}
    assert driver.run("select 1")
