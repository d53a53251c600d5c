"""The connections of a worker's threads: each job gets a clean one, and none stays behind."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgq_sync.contrib.django import DjangoPgQueuer
from tests.django.conftest import point_to
from tests.django.site.shop.models import Order
from tests.django.site.shop.tasks import leave_open, place, place_and_undo
from tests.waiting import wait_until

JOBS = 500
THREADS = 20


@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("age", [0, 60, None])
def test_no_connection_stays(pgq: DjangoPgQueuer, site_dsn: str, age: int | None, checks: bool) -> None:
    point_to(site_dsn, CONN_MAX_AGE=age, CONN_HEALTH_CHECKS=checks, OPTIONS={"application_name": "the site"})
    for number in range(JOBS):
        place.enqueue(str(number))
    assert pgq.drain(concurrency=THREADS).counts == {"succeeded": JOBS}
    assert Order.objects.count() == JOBS
    pgq.close()
    wait_until(lambda: _others(site_dsn) <= 1)  # this test's own


@pytest.mark.parametrize("how", ["atomic", "autocommit", "broken"])
def test_the_next_job_of_a_thread_gets_a_clean_connection(pgq: DjangoPgQueuer, site_dsn: str, how: str) -> None:
    point_to(site_dsn, CONN_MAX_AGE=None)
    leave_open.enqueue(how)
    pgq.drain(concurrency=1)
    leave_open.enqueue(how)
    place.enqueue("next")
    pgq.drain(concurrency=1)
    assert Order.objects.filter(note="next").count() == 1
    assert Order.objects.filter(note="left open").exists() == (how == "broken")


def test_a_transaction_marked_for_rollback_is_no_success(pgq: DjangoPgQueuer) -> None:
    job_id = place_and_undo.enqueue("undone")
    counts: dict[str, Any] = dict(pgq.drain(concurrency=1).counts)
    assert "succeeded" not in counts
    assert not Order.objects.exists()
    assert job_id


def _others(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        ).fetchone()
    assert row is not None
    return int(row[0])
