"""What a project's own tests look like: run by `manage.py test`, in Django's own kinds of test cases."""

from __future__ import annotations

import django.test
from django.db import connection

from pgq_sync import testing
from pgq_sync.contrib.django import pgq
from tests.django.site.shop import tasks
from tests.django.site.shop.models import Order


class Joined:
    """What holds in a TestCase, whose transaction is rolled back, and in a TransactionTestCase."""

    def test_enqueue_assert_and_drain(self) -> None:
        tasks.place.enqueue("one")
        tasks.place_and_finish.enqueue("two")
        tasks.place_and_raise.enqueue("three")
        testing.assert_enqueued(pgq, tasks.place, arguments=("one",))
        assert testing.drain(pgq).counts == {"succeeded": 2, "failed": 1}
        testing.assert_not_enqueued(pgq, tasks.place)
        assert set(Order.objects.values_list("note", flat=True)) == {"one", "two"}

    def test_the_next_test_finds_nothing(self) -> None:
        assert not pgq.jobs.count()
        assert not Order.objects.exists()

    def test_a_handler_gets_djangos_connection(self) -> None:
        job_id = tasks.place_and_ask.enqueue("one")
        testing.drain(pgq)
        record = pgq.jobs.get(job_id)
        assert record is not None
        assert str(record.result).startswith("django.")
        assert Order.objects.count() == 2

    def test_a_transaction_marked_for_rollback_is_no_success(self) -> None:
        tasks.place_and_undo.enqueue("undone")
        assert testing.drain(pgq).counts == {"failed": 1}
        assert not Order.objects.exists()


class InATestCase(Joined, django.test.TestCase):
    """Nothing is ever committed."""

    def test_what_a_failed_attempt_has_spoilt_is_mended(self) -> None:
        pgq.enqueue(tasks.spoil.name, tasks.spoil.payload())
        assert testing.drain(pgq).counts == {"failed": 1}
        assert not Order.objects.exists()

    def test_nothing_is_committed(self) -> None:
        tasks.place_and_finish.enqueue("one")
        testing.drain(pgq)
        assert connection.in_atomic_block
        with connection.copy().cursor() as apart:
            apart.execute("select count(*) from pgq_history")
            assert apart.fetchone() == (0,)
            apart.connection.close()


class InATransactionTestCase(Joined, django.test.TransactionTestCase):
    """What is done is committed, and the tables are emptied after each test."""

    available_apps = None

    def tearDown(self) -> None:
        pgq.close()  # its connections would keep Django from dropping the test database
        # Django empties the tables of managed models only.
        with connection.cursor() as cursor:
            cursor.execute("truncate pgq_job, pgq_history")

    def test_a_worker_runs(self) -> None:
        job_id = tasks.place.enqueue("one")
        with pgq.worker(concurrency=2):
            assert pgq.result(job_id, timeout=30) == Order.objects.get().pk
