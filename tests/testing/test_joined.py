"""Inside one open transaction: everything that a queue does, on each kind of connection, and nothing left after a rollback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from pgq_sync import Cancelled, ConfigError, Context, DatabaseRetry, Hold, Job, PgQueuer, Retry, Settings, testing
from pgq_sync.storage.names import Names
from tests.storage.links import DRIVERS, KINDS, Link, linked
from tests.storage.support import ear, query

START = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
ROWS = "select (select count(*) from pgq_job), (select count(*) from pgq_history), (select count(*) from pgq_schedule)"
TRACES = """
    select (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
           (select count(*) from pg_listening_channels()),
           (select count(*) from pgq_worker),
           current_setting('lock_timeout')
"""


@pytest.fixture(params=KINDS)
def link(request: pytest.FixtureRequest, dsn: str) -> Iterator[Link]:
    with linked(request.param, dsn, autocommit=False) as link:
        yield link


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, dsn: str) -> Iterator[Link]:
    """One per driver and framework, with a table for what handlers do."""
    query(dsn, "create table effect (job_id bigint unique)")
    with linked(request.param, dsn, autocommit=False) as link:
        yield link


@pytest.fixture
def blind(dsn: str) -> Iterator[PgQueuer]:
    """An application that could not reach its database by itself."""
    with PgQueuer.from_dsn("host=/nonexistent", settings=Settings()) as application:
        yield application


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

    @blind.entrypoint("work", retry=DatabaseRetry(max_attempts=2, initial_delay=timedelta(days=30)))
    def work(job: Job) -> None:
        attempts.append(job.attempt)
        raise ValueError

    with testing.clock(blind, START) as clock:
        blind.on(driver.given).enqueue("work", execute_after=timedelta(days=1))
        assert testing.drain(blind, connection=driver.given).counts == {}
        clock.advance(timedelta(days=1))
        assert testing.drain(blind, connection=driver.given).counts == {"retried": 1}
        clock.advance(timedelta(minutes=5))  # the longest delay of a retry, unless it is told otherwise
        assert testing.drain(blind, connection=driver.given).counts == {"failed": 1}
        clock.advance(timedelta(days=30))  # beyond the days that history is ready for
        blind.on(driver.given).enqueue("work")
        assert testing.drain(blind, connection=driver.given).counts == {"retried": 1}
    assert attempts == [1, 2, 1]
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


def test_within_the_block_all_of_the_application_is_in_the_transaction(blind: PgQueuer, dsn: str, driver: Link) -> None:
    """What a function under test enqueues by itself, and what a handler does."""

    @blind.entrypoint("work")
    def work(job: Job) -> None:
        blind.enqueue("other", dedupe_key="one")
        assert blind.enqueue("other", dedupe_key="one", on_conflict="skip") is None

    with testing.on_connection(blind, driver.given):
        blind.enqueue("work")
        testing.assert_enqueued(blind, "work")
        testing.drain(blind)
        other = testing.assert_enqueued(blind, "other")
        assert blind.jobs.cancel([other.id]).ended == [other.id]
        with pytest.raises(ConfigError, match=r"has room for no worker: use pgq_sync\.testing\.drain"):
            blind.drain()
    testing.assert_not_enqueued(blind, "other", connection=driver.given)
    assert query(dsn, ROWS) == [(0, 0, 0)]
    driver.rollback()


def test_an_application_on_the_callers_connection_is_in_its_transaction_anyway(dsn: str) -> None:
    with closing(psycopg.connect(dsn)) as connection:
        pgq = PgQueuer.from_psycopg_connection(connection, settings=Settings())

        @pgq.entrypoint("work", transactional=True)
        def work(job: Job, context: Context) -> None:
            assert context.connection is connection

        pgq.enqueue("work")
        assert testing.drain(pgq).counts == {"succeeded": 1}
        testing.assert_not_enqueued(pgq, "work")
        connection.rollback()
    assert query(dsn, ROWS) == [(0, 0, 0)]


def test_on_its_connection_in_autocommit_it_commits(dsn: str) -> None:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        pgq = PgQueuer.from_psycopg_connection(connection, settings=Settings())
        pgq.entrypoint("work")(lambda job: None)
        pgq.enqueue("work")
        assert testing.drain(pgq).counts == {"succeeded": 1}
        pgq.close()
    assert query(dsn, ROWS) == [(0, 1, 0)]


def _closed(dsn: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(dsn)
    connection.close()
    return connection


@pytest.mark.parametrize(
    ("make", "error", "complaint"),
    [
        (lambda dsn: object(), TypeError, "no connection that pgq-sync knows"),
        (_closed, ConnectionError, "is closed"),
        (lambda dsn: psycopg.connect(dsn, autocommit=True), ValueError, "in autocommit, and has no transaction to work in"),
    ],
)
def test_a_connection_that_cannot_be_used_is_refused_at_once(
    blind: PgQueuer, dsn: str, make: Callable[[str], Any], error: type[Exception], complaint: str
) -> None:
    blind.entrypoint("work")(lambda job: None)
    connection = make(dsn)
    before = blind.backend
    for call in (testing.drain, testing.tick, testing.enqueued):
        if call is testing.tick:
            blind.schedule("report", "@daily")(lambda schedule: None)
        with pytest.raises(error, match=complaint):
            call(blind, connection=connection)
    assert blind.backend is before
    if isinstance(connection, psycopg.Connection):
        connection.close()


def test_in_memory_a_connection_changes_nothing(dsn: str) -> None:
    pgq = PgQueuer.in_memory()
    pgq.entrypoint("work")(lambda job: None)
    pgq.enqueue("work")
    assert testing.drain(pgq, connection=object()).counts == {"succeeded": 1}


def test_a_prefix_and_a_schema_are_obeyed(empty_dsn: str) -> None:
    settings = Settings(prefix="our_", schema="Our Jobs")
    with PgQueuer.from_dsn(empty_dsn, settings=settings) as pgq, closing(psycopg.connect(empty_dsn)) as connection:
        pgq.schema.install()
        pgq.entrypoint("work")(lambda job: None)
        pgq.on(connection).enqueue("work")
        assert testing.drain(pgq, connection=connection).counts == {"succeeded": 1}
        count = connection.execute(f"select count(*) from {Names('our_', 'Our Jobs').qualified('history')}".encode()).fetchone()
        assert count == (1,)
