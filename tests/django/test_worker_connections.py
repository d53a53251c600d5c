"""The connections of a worker's threads: each job gets a clean one, and none stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, connections, reset_queries
from django.test import override_settings

from pgq_sync import JobRecord, testing
from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.contrib.django import pgq as application
from pgq_sync.entrypoints.tasks import AnyTask
from tests.django.conftest import point_to
from tests.django.site.shop import tasks
from tests.django.site.shop.models import Order
from tests.faults.servers import Server, prepared, server
from tests.storage.support import query
from tests.waiting import wait_until

THREADS = 20
ENGINE = 5  # the listener's and the most that the engine's pool holds
CONNECTED = """
    select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'the site' and pid <> pg_backend_pid()
"""
SLEEPING = "select count(*) from pg_stat_activity where query like '%%pg_sleep(60)' and state = 'active'"


@pytest.mark.parametrize(
    ("age", "checks", "jobs"),
    [(0, False, 1_000), (60, True, 1_000), (None, False, 10_000), (None, True, 1_000)],
)
def test_no_connection_stays(pgq: DjangoPgQueuer, site_dsn: str, age: int | None, checks: bool, jobs: int) -> None:
    point_to(site_dsn, CONN_MAX_AGE=age, CONN_HEALTH_CHECKS=checks, OPTIONS={"application_name": "the site"})
    tasks.place.enqueue_many([(str(number),) for number in range(jobs)])
    connection.close()
    seen = []
    with psycopg.connect(site_dsn, autocommit=True) as observer, pgq.worker(concurrency=THREADS):

        def done() -> bool:
            seen.append(_one(observer, CONNECTED))
            return bool(_one(observer, "select count(*) from pgq_history where status = 'succeeded'") == jobs)

        wait_until(done)
    pgq.close()
    assert max(seen) > 0
    if age != 0:  # else the server may still be busy with leaving those that are closed
        assert max(seen) <= THREADS + ENGINE
    wait_until(lambda: query(site_dsn, CONNECTED) == [(0,)])
    assert Order.objects.count() == jobs


def test_djangos_pool_serves_the_threads(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    pooled = {"pool": {"min_size": 1, "max_size": 4}, "application_name": "the site"}
    point_to(site_dsn, CONN_MAX_AGE=0, OPTIONS=pooled)
    tasks.place.enqueue_many([(str(number),) for number in range(200)])
    connection.close()
    assert pgq.drain(concurrency=4).counts == {"succeeded": 200}
    pgq.close()
    assert query(site_dsn, CONNECTED)[0][0] <= 4
    connections["default"].close()
    connections["default"].close_pool()


@pytest.mark.parametrize("how", ["atomic", "autocommit", "broken"])
def test_the_next_job_of_a_thread_gets_a_clean_connection(pgq: DjangoPgQueuer, site_dsn: str, how: str) -> None:
    point_to(site_dsn, CONN_MAX_AGE=None)
    tasks.leave_open.enqueue(how)
    tasks.place.enqueue("next")
    assert pgq.drain(concurrency=1).counts == {"succeeded": 2}
    assert Order.objects.filter(note="next").count() == 1
    assert Order.objects.filter(note="left open").exists() == (how == "broken")


@pytest.mark.parametrize("age", [0, None])
def test_a_timeout_cuts_a_query_off(pgq: DjangoPgQueuer, site_dsn: str, age: int | None) -> None:
    point_to(site_dsn, CONN_MAX_AGE=age)
    slow = tasks.sleep_in_a_query.enqueue()
    tasks.place.enqueue("next")
    assert pgq.drain(concurrency=1).counts == {"failed": 1, "succeeded": 1}
    assert "JobTimeout" in str(_record(pgq, slow).errors)
    assert query(site_dsn, "select count(*) from pg_stat_activity where query like '%%pg_sleep(60)' and state = 'active'") == [
        (0,)
    ]


def test_the_queries_log_does_not_grow(pgq: DjangoPgQueuer) -> None:
    seen: list[int] = []

    def work(job: object) -> None:
        Order.objects.count()
        seen.append(len(connection.queries_log))

    pgq.registry.entrypoint("logs")(work)
    try:
        with override_settings(DEBUG=True):
            for _ in range(5):
                pgq.enqueue("logs")
            pgq.drain(concurrency=1)
    finally:
        pgq.registry._entrypoints.pop("logs")
        reset_queries()
    assert len(set(seen)) == 1
    assert len(seen) == 5


def test_settings_take_effect_at_once(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    with override_settings(PGQ_SYNC={"CONCURRENCY": 3, "PREFIX": "other_"}):
        assert pgq.settings.concurrency == 3
        pgq.schema.install()
        tasks.place.enqueue("one")
        assert query(site_dsn, "select count(*) from other_job") == [(1,)]
    assert pgq.settings.concurrency == 10
    assert not pgq.jobs.count()


def test_settings_that_change_leave_jobs_that_are_kept_elsewhere(pgq: DjangoPgQueuer) -> None:
    with testing.in_memory(pgq):
        tasks.place.enqueue("one")
        with override_settings(PGQ_SYNC={"CONCURRENCY": 3}):
            assert sum(pgq.jobs.count().values()) == 1
        assert sum(pgq.jobs.count().values()) == 1
    assert not pgq.jobs.count()


@pytest.mark.parametrize("task", [tasks.sleep_in_a_query, tasks.sleep_in_a_transaction])
def test_no_cancel_request_reaches_the_next_job(pgq: DjangoPgQueuer, site_dsn: str, task: AnyTask) -> None:
    point_to(site_dsn, CONN_MAX_AGE=None)
    slow = task.enqueue()
    with pgq.worker(concurrency=1):
        assert pgq.wait(slow, timeout=30).status == "failed"
        first, second = tasks.backend_pid.enqueue(), tasks.backend_pid.enqueue()
        assert pgq.result(first, timeout=30) == pgq.result(second, timeout=30)
    assert "JobTimeout" in str(_record(pgq, slow).errors)
    assert not Order.objects.exists()


@pytest.fixture(scope="module")
def site_server() -> Iterator[Server]:
    """A server of these tests' own, with the site's tables."""
    with prepared() as original, server(original) as running:
        point_to(running.dsn)
        call_command("migrate", verbosity=0)
        connections["default"].close()
        yield running


@pytest.mark.parametrize(("age", "checks"), [(0, False), (60, True), (None, False), (None, True)])
def test_a_worker_survives_a_restart_of_the_server(site_server: Server, age: int | None, checks: bool) -> None:
    point_to(site_server.dsn, CONN_MAX_AGE=age, CONN_HEALTH_CHECKS=checks)
    application.forget_settings()
    Order.objects.all().delete()
    notes = {str(number) for number in range(2_000)}
    try:
        tasks.place_whatever_happens.enqueue_many([(note,) for note in notes])
        connection.close()
        with application.worker(concurrency=THREADS):
            wait_until(lambda: len(_placed(site_server)) > 100)
            site_server.stop()
            site_server.start()
            wait_until(lambda: _placed(site_server) == notes)
        left = site_server.query("select status from pgq_job")
        assert left == []
    finally:
        application.close()
        connections.close_all()


def _placed(running: Server) -> set[str]:
    return {note for (note,) in running.query("select note from shop_order")}


def _record(pgq: DjangoPgQueuer, job_id: Any) -> JobRecord:
    record = pgq.jobs.get(job_id)
    assert record is not None
    return record


def _one(observer: psycopg.Connection[Any], sql: str) -> Any:
    row = observer.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]
