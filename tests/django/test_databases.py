"""Databases of projects as they are: with Django's pool, in manual commit, with roles, and with drivers that are missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections

from pgq_sync.contrib.django import DjangoPgQueuer, environment
from pgq_sync.testing.databases import database_name
from tests.django.conftest import point_to
from tests.django.project import environment as environment_of
from tests.django.site.mail.tasks import waits_for_a_query
from tests.django.site.shop import tasks
from tests.django.site.shop.models import Order
from tests.storage.roles import login
from tests.storage.support import query
from tests.waiting import wait_until


def test_with_djangos_pool_a_late_cancel_request_reaches_no_other_job(
    pgq: DjangoPgQueuer, site_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(site_dsn, OPTIONS={"pool": {"min_size": 1, "max_size": 1}})
    cancel, asked, go_on, done = environment._cancel, threading.Event(), threading.Event(), threading.Event()

    def late(found: Any) -> None:
        cancel(found)  # ends the first job's query
        asked.set()
        go_on.wait(30)
        closed.append(found.closed)
        done.set()

    monkeypatch.setattr(environment, "_cancel", late)
    closed: list[bool] = []
    slow = tasks.sleep_in_a_query.enqueue()
    connection.close()
    try:
        with pgq.worker(concurrency=1):
            assert asked.wait(30)
            assert pgq.wait(slow, timeout=30).status == "failed"
            first = _pid(pgq)
            go_on.set()
            assert done.wait(30)
            assert _pid(pgq) == first
            assert closed == [True]  # it could be no other job's
    finally:
        go_on.set()
        connection.close()
        connections["default"].close_pool()


def _pid(pgq: DjangoPgQueuer) -> object:
    job_id = tasks.backend_pid.enqueue()
    connection.close()  # back to the pool, which has no other
    return pgq.result(job_id, timeout=30)


def test_a_transactional_job_needs_autocommit(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    tasks.place_and_finish.enqueue("never committed")
    point_to(site_dsn, AUTOCOMMIT=False)
    with pgq.worker(concurrency=1):
        wait_until(lambda: query(site_dsn, "select status from pgq_history") == [("failed",)])
    connection.close()
    assert "AUTOCOMMIT" in str(query(site_dsn, "select errors from pgq_history"))
    assert query(site_dsn, "select count(*) from shop_order") == [(0,)]


def test_a_database_whose_driver_is_missing_harms_nobody(pgq: DjangoPgQueuer) -> None:
    connections.settings["legacy"] = dict(connections.settings["default"]) | {"ENGINE": "nosuch.backend"}
    try:
        tasks.nothing.enqueue()
        assert pgq.drain().counts == {"succeeded": 1}
    finally:
        del connections.settings["legacy"]


@pytest.fixture
def member(site_dsn: str) -> Iterator[tuple[str, str]]:
    """An owner's role, and the DSN of a user who has its rights once it is that role."""
    owner = f"{database_name(site_dsn)} owner"
    with login(site_dsn, "member") as (name, dsn):
        query(site_dsn, f'create role "{owner}"; grant "{owner}" to "{name}"; alter role "{name}" noinherit')
        query(site_dsn, f'grant all on all tables in schema public to "{owner}"; grant all on schema public to "{owner}"')
        yield owner, dsn
        query(site_dsn, f'drop owned by "{owner}"; drop role "{owner}"')


def test_the_worker_is_in_the_role_that_django_assumes(pgq: DjangoPgQueuer, member: tuple[str, str]) -> None:
    owner, dsn = member
    point_to(dsn, OPTIONS={"assume_role": owner})
    pgq.forget_settings()
    tasks.nothing.enqueue()
    assert pgq.drain().counts == {"succeeded": 1}
    pgq.close()
    connections.close_all()


def test_a_callback_that_steers_too_late_changes_nothing(pgq: DjangoPgQueuer) -> None:
    tasks.place_then_cancel_late.enqueue("one")
    assert pgq.drain().counts == {"succeeded": 1}
    assert Order.objects.count() == 1


def test_a_timeout_cuts_off_the_query_that_a_coroutine_waits_for(pgq: DjangoPgQueuer) -> None:
    result = waits_for_a_query.enqueue()
    with pgq.worker():
        record = pgq.wait(int(result.id), timeout=20)
    assert record.status == "failed"
    assert "JobTimeout" in str(pgq.jobs.get(int(result.id)))


def test_a_process_of_its_own_survives_a_lost_connection(
    pgq: DjangoPgQueuer, site_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(site_dsn, CONN_MAX_AGE=None).items():
        monkeypatch.setenv(name, value)
    first = pgq.enqueue("in a process", b"one")
    with pgq.worker(concurrency=1):
        assert pgq.result(first, timeout=30)
        query(
            site_dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and query like '%%shop_order%%' and pid <> pg_backend_pid()",
        )
        pgq.wait(pgq.enqueue("in a process", b"two"), timeout=30)  # may meet what Django has not noticed yet
        assert pgq.result(pgq.enqueue("in a process", b"three"), timeout=30)
