"""`transactional=True` in Django: the handler is within `atomic`, and its job's completion is written there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connections, transaction

from pgq_sync import JobId, testing
from pgq_sync.contrib.django import DjangoPgQueuer
from tests.django.conftest import point_to
from tests.django.site.shop import tasks
from tests.django.site.shop.models import Order
from tests.storage.support import query


def failure(pgq: DjangoPgQueuer, job_id: JobId) -> object:
    record = pgq.jobs.get(job_id)
    assert record is not None
    return record.errors


def test_the_completion_is_in_the_handlers_transaction(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    tasks.place_and_finish.enqueue("one")
    assert pgq.drain().counts == {"succeeded": 1}
    assert query(site_dsn, "select shop_order.xmin = pgq_history.xmin from shop_order, pgq_history") == [(True,)]


def test_what_raises_leaves_neither(pgq: DjangoPgQueuer) -> None:
    job_id = tasks.place_and_raise.enqueue("one")
    assert pgq.drain().counts == {"failed": 1}
    assert not Order.objects.exists()
    assert "ValueError: one" in str(failure(pgq, job_id))


def test_a_transaction_marked_for_rollback_is_no_success(pgq: DjangoPgQueuer) -> None:
    job_id = tasks.place_and_undo.enqueue("undone")
    assert pgq.drain().counts == {"failed": 1}
    assert not Order.objects.exists()
    assert "marked for rollback" in str(failure(pgq, job_id))


def test_a_callback_that_fails_after_the_commit_fails_nothing(pgq: DjangoPgQueuer, caplog: pytest.LogCaptureFixture) -> None:
    tasks.place_then_fail_late.enqueue("one")
    with caplog.at_level(logging.ERROR):
        assert pgq.drain().counts == {"succeeded": 1}
    assert Order.objects.count() == 1
    assert "on_commit" in caplog.text


def test_the_connection_is_djangos_and_children_join_it(pgq: DjangoPgQueuer) -> None:
    job_id = tasks.place_and_ask.enqueue("one")
    with pgq.worker():
        assert pgq.result(job_id, timeout=30).startswith("django.")
    pgq.drain()
    assert Order.objects.filter(note="one").count() == 2


def test_a_lost_claim_takes_the_work_with_it(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    started, lost = threading.Event(), threading.Event()

    def handler(job: object) -> None:
        Order.objects.create(note="lost")
        started.set()
        lost.wait(30)

    pgq.registry.entrypoint("lost claim", transactional=True)(handler)
    try:
        job_id = pgq.enqueue("lost claim")
        with pgq.worker(concurrency=1):
            assert started.wait(30)
            query(site_dsn, "update pgq_job set worker_id = gen_random_uuid(), fence = 1 where id = %s", [job_id])
            lost.set()
        assert not Order.objects.exists()
        assert query(site_dsn, "select status from pgq_job") == [("running",)]
    finally:
        pgq.registry._entrypoints.pop("lost claim")


@pytest.fixture
def other(pgq: DjangoPgQueuer, site_dsn: str) -> Iterator[str]:
    """Another alias, of the same database."""
    connections.settings["other"] = dict(connections.settings["default"])
    yield "other"
    connections["other"].close()
    del connections["other"], connections.settings["other"]


CALLS: dict[str, Callable[[DjangoPgQueuer], object]] = {
    "pgq.enqueue": lambda pgq: pgq.enqueue("work"),
    "pgq.enqueue_many": lambda pgq: pgq.enqueue_many([]) or pgq.enqueue("work"),
    "task.enqueue": lambda pgq: tasks.place.enqueue("one"),
    "task.using": lambda pgq: tasks.place.using(priority=1).enqueue("one"),
    "task.enqueue_many": lambda pgq: tasks.place.enqueue_many([("one",)]),
}


@pytest.mark.parametrize("how", CALLS)
def test_a_transaction_on_another_database_is_not_joined_and_that_is_told(pgq: DjangoPgQueuer, other: str, how: str) -> None:
    with pytest.warns(RuntimeWarning, match="within a transaction on 'other'") as warned, transaction.atomic(using=other):
        CALLS[how](pgq)
    assert {warning.filename for warning in warned} == {__file__}
    assert sum(pgq.jobs.count().values()) == 1


def test_nothing_is_told_where_the_own_transaction_is_joined(pgq: DjangoPgQueuer, other: str) -> None:
    with transaction.atomic(using=other), transaction.atomic():
        tasks.place.enqueue("one")
    tasks.place.enqueue("two")
    with transaction.atomic():
        tasks.place.enqueue("three")
    assert sum(pgq.jobs.count().values()) == 3


def test_a_test_case_drains_in_its_own_transaction(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    with transaction.atomic():
        tasks.place.enqueue("one")
        tasks.place_and_finish.enqueue("two")
        tasks.place_and_raise.enqueue("three")
        testing.assert_enqueued(pgq, tasks.place)
        assert testing.drain(pgq).counts == {"succeeded": 2, "failed": 1}
        assert Order.objects.count() == 2
        assert query(site_dsn, "select count(*) from pgq_history") == [(0,)]  # as others see it
        transaction.set_rollback(True)
    assert query(site_dsn, "select count(*) from shop_order") == [(0,)]
    point_to(site_dsn)


def test_a_test_case_runs_one_job_and_ticks_in_its_own_transaction(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    with transaction.atomic():
        assert testing.run_job(pgq, tasks.place, arguments=("one",)) == Order.objects.get().pk
        testing.tick(pgq)
        assert query(site_dsn, "select count(*) from shop_order") == [(0,)]
        transaction.set_rollback(True)
