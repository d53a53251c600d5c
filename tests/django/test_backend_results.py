"""What the results of Django's tasks tell of jobs, wherever those are: waiting, running, in history, or nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.test import override_settings

from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.testing import drain, run_job
from tests.django.site.shop.models import Order
from tests.django.site.shop.tasks import place
from tests.django.site.start import DSN, SETTINGS
from tests.django.tasks_of_django import (
    NATIVE,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
    task_finished,
    task_started,
)
from tests.waiting import wait_until

from tests.django.site.mail import tasks  # isort: skip

Sent = list[tuple[str, TaskResultStatus, int, int]]


@contextmanager
def signals() -> Iterator[Sent]:
    """What is sent meanwhile: the signal, and of its result the status, the attempts and the errors."""
    sent: Sent = []

    def started(task_result: Any, **_: Any) -> None:
        sent.append(("started", task_result.status, task_result.attempts, len(task_result.errors)))

    def finished(task_result: Any, **_: Any) -> None:
        sent.append(("finished", task_result.status, task_result.attempts, len(task_result.errors)))

    task_started.connect(started)
    task_finished.connect(finished)
    try:
        yield sent
    finally:
        task_started.disconnect(started)
        task_finished.disconnect(finished)


def drained(pgq: DjangoPgQueuer, result: Any) -> Any:
    drain(pgq)
    result.refresh()
    return result


@pytest.mark.parametrize(
    "malformed", ["", "abc", "-1", "0", " 1", "1 ", "1\n", "+1", "01", "1.0", "٣", "9" * 19, "9" * 5_000, "1\0", 1, None, True]
)
def test_what_is_no_id_names_no_result(pgq: DjangoPgQueuer, malformed: Any) -> None:
    tasks.send.enqueue("a")
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(malformed)
    with pytest.raises(TaskResultDoesNotExist):
        async_to_sync(tasks.send.aget_result)(malformed)


def test_only_jobs_of_the_backend_are_its_results(pgq: DjangoPgQueuer) -> None:
    others = [place.enqueue("no task of Django"), pgq.enqueue(tasks.send.module_path, b'{"args":[],"kwargs":{}}')]
    others.append(pgq.enqueue("gone.task", "{}", headers={"django_tasks": "default"}))
    others.append(pgq.enqueue(tasks.send.module_path, "[]", headers={"django_tasks": "default"}))
    for job_id in [*others, 2**63 - 1]:
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(str(job_id))
    second = tasks.send.using(backend="second").enqueue("a")
    with pytest.raises(TaskResultDoesNotExist):
        tasks.send.get_result(second.id)
    assert tasks.send.using(backend="second").get_result(second.id).backend == "second"
    with pytest.raises(TaskResultMismatch):
        tasks.echo.using(backend="second").get_result(second.id)


def test_a_result_tells_all_of_an_attempt(pgq: DjangoPgQueuer) -> None:
    result = tasks.send.enqueue("a", copies=2)
    waiting = tasks.send.get_result(result.id)
    assert (waiting.status, waiting.attempts, waiting.started_at) == (TaskResultStatus.READY, 0, None)
    before = datetime.now(timezone.utc)
    drained(pgq, result)
    record = pgq.jobs.get(int(result.id))
    assert record is not None
    assert result.return_value == ["a", 2]
    assert result.worker_ids == [str(record.worker_id)]
    assert result.started_at == result.last_attempted_at == record.claimed_at
    assert result.enqueued_at == record.created_at
    assert result.finished_at == record.finished_at
    assert result.finished_at > before
    assert (result.args, result.kwargs, result.errors) == (["a"], {"copies": 2}, [])


def test_each_failed_attempt_has_its_error_and_its_worker(pgq: DjangoPgQueuer) -> None:
    result = tasks.third_time.enqueue()
    drain(pgq, max_jobs=1)
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.READY, 1, 1)
    first = result.started_at
    assert result.last_attempted_at == first is not None
    drained(pgq, result)
    assert result.return_value == 2  # the errors that the third attempt was told of
    assert result.attempts == len(result.worker_ids) == 3
    assert len(set(result.worker_ids)) == 2  # two drains
    assert [error.exception_class for error in result.errors] == [LookupError, LookupError]
    assert "LookupError: attempt 2" in result.errors[1].traceback
    assert result.started_at == first < result.last_attempted_at < result.finished_at


def test_a_task_that_fails_for_good_has_all_its_errors(pgq: DjangoPgQueuer) -> None:
    result = drained(pgq, tasks.never.enqueue())
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 3, 3)
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_held_jobs_are_not_finished(pgq: DjangoPgQueuer) -> None:
    with signals() as sent:
        results = [drained(pgq, each.enqueue()) for each in (tasks.holds, tasks.asks)]
    for result in results:
        assert (result.status, result.is_finished, result.attempts, len(result.errors)) == (TaskResultStatus.READY, False, 1, 1)
    assert [name for name, *_ in sent] == ["started", "started"]
    pgq.jobs.delete([int(results[0].id)])
    results[0].refresh()
    assert results[0].status is TaskResultStatus.FAILED


def test_cancelled_jobs_have_failed(pgq: DjangoPgQueuer) -> None:
    unstarted = tasks.send.enqueue("a")
    pgq.jobs.cancel([int(unstarted.id)])
    unstarted.refresh()
    assert (unstarted.status, unstarted.attempts, unstarted.started_at) == (TaskResultStatus.FAILED, 0, None)
    with signals() as sent:
        ended = drained(pgq, tasks.ends.enqueue())
    assert (ended.status, ended.errors[0].exception_class_path) == (TaskResultStatus.FAILED, "pgq_sync.errors.Cancelled")
    assert sent[-1] == ("finished", TaskResultStatus.FAILED, 1, 1)


def test_results_of_successes_that_are_not_kept_do_not_exist(pgq: DjangoPgQueuer) -> None:
    result = tasks.forgotten.enqueue()
    drain(pgq)
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


@pytest.mark.parametrize("number", range(4))
def test_what_cannot_be_kept_fails_the_job_with_the_reason(pgq: DjangoPgQueuer, number: int) -> None:
    with signals() as sent:
        result = drained(pgq, tasks.unkeepable.enqueue(number))
    assert result.status is TaskResultStatus.FAILED
    assert "what tests.django.site.mail.tasks.unkeepable returned" in result.errors[0].traceback
    assert sent == [("started", TaskResultStatus.RUNNING, 1, 0), ("finished", TaskResultStatus.FAILED, 1, 1)]


def test_each_attempt_is_started_and_the_last_one_finished(pgq: DjangoPgQueuer) -> None:
    with signals() as sent:
        drained(pgq, tasks.third_time.enqueue())
    started = [("started", TaskResultStatus.RUNNING, attempt, attempt - 1) for attempt in (1, 2, 3)]
    assert sent == [*started, ("finished", TaskResultStatus.SUCCESSFUL, 3, 2)]
    with signals() as sent:
        drained(pgq, tasks.never.enqueue())
    assert sent == [*started, ("finished", TaskResultStatus.FAILED, 3, 3)]


def test_failing_receivers_fail_no_job(pgq: DjangoPgQueuer) -> None:
    def fails(**_: Any) -> None:
        raise PermissionError

    task_started.connect(fails)
    task_finished.connect(fails)
    try:
        assert drained(pgq, tasks.send.enqueue("a")).return_value == ["a", 1]
    finally:
        task_started.disconnect(fails)
        task_finished.disconnect(fails)


def test_task_finished_is_sent_after_the_commit(pgq: DjangoPgQueuer) -> None:
    seen: list[Any] = []

    def look(task_result: Any, **_: Any) -> None:
        connection = connections["default"]
        seen.append((connection.in_atomic_block, Order.objects.count(), task_result.return_value))

    task_finished.connect(look)
    try:
        result = tasks.orders_in_transaction.enqueue("one")
        with pgq.worker(concurrency=1):
            pgq.wait(int(result.id), timeout=20)
            wait_until(lambda: seen)
    finally:
        task_finished.disconnect(look)
    assert seen == [(False, 1, Order.objects.get().pk)]


@pytest.mark.parametrize("each", [tasks.spins, tasks.dreams])
def test_a_task_ends_at_its_timeout(pgq: DjangoPgQueuer, each: Any) -> None:
    with signals() as sent, pgq.worker(concurrency=1):
        result = each.enqueue()
        pgq.wait(int(result.id), timeout=20)
    result.refresh()
    assert result.status is TaskResultStatus.FAILED
    assert result.errors[0].exception_class_path == "pgq_sync.errors.JobTimeout"
    assert [name for name, *_ in sent] == ["started", "finished"]


@pytest.mark.parametrize("fail", [False, True])
def test_coroutines_work_in_their_jobs_transaction(pgq: DjangoPgQueuer, fail: bool) -> None:
    result = tasks.orders.enqueue("one", fail)
    with pgq.worker(concurrency=2):
        pgq.wait(int(result.id), timeout=20)
    result.refresh()
    assert result.status is (TaskResultStatus.FAILED if fail else TaskResultStatus.SUCCESSFUL)
    assert Order.objects.count() == (0 if fail else 1)


def test_a_running_job_is_running(pgq: DjangoPgQueuer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(**_: Any) -> None:
        begun.set()
        go_on.wait(20)

    task_started.connect(wait)
    try:
        result = tasks.send.enqueue("a")
        with pgq.worker(concurrency=1):
            assert begun.wait(20)
            result.refresh()
            assert (result.status, result.attempts, result.finished_at) == (TaskResultStatus.RUNNING, 1, None)
            assert result.started_at is not None
            go_on.set()
    finally:
        task_started.disconnect(wait)
    result.refresh()
    assert result.status is TaskResultStatus.SUCCESSFUL


def test_times_are_naive_without_time_zones(pgq: DjangoPgQueuer) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        result = drained(pgq, tasks.third_time.enqueue())
        moments = [result.enqueued_at, result.started_at, result.last_attempted_at, result.finished_at]
    assert all(moment.tzinfo is None for moment in moments)
    assert moments == sorted(moments)


def test_other_processes_run_tasks_and_read_results(pgq: DjangoPgQueuer, site_dsn: str) -> None:
    result = tasks.attempts.using(queue_name="mail").enqueue()
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, DSN: site_dsn}
    worker = [sys.executable, "-m", "django", "pgq_worker", "--mode=drain", "--no-reload"]
    done = subprocess.run(worker, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result.refresh()
    assert result.return_value == [1, "mail"]
    script = (
        "import django; django.setup()\n"
        "from tests.django.tasks_of_django import default_task_backend\n"
        f"print(default_task_backend.get_result('{result.id}').return_value)"
    )
    other = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert other.stdout.strip() == "[1, 'mail']", other.stderr


def test_tasks_are_drained_inside_a_transaction(pgq: DjangoPgQueuer) -> None:
    with signals() as sent, transaction.atomic():
        done, tried, later = tasks.place_order.enqueue("one"), tasks.third_time.enqueue(), tasks.orders.enqueue("two", False)
        drain(pgq, connection="default")
        for result in (done, tried, later):
            result.refresh()
        assert done.return_value == Order.objects.get(note="one").pk
        assert (tried.return_value, tried.attempts) == (2, 3)
        assert later.return_value == Order.objects.get(note="two").pk
        transaction.set_rollback(True)
    assert [name for name, *_ in sent].count("finished") == 3
    assert not Order.objects.exists()
    assert not pgq.jobs.count()


def test_a_single_attempt_is_run_with_its_signals(pgq: DjangoPgQueuer) -> None:
    with signals() as sent:
        assert run_job(pgq, tasks.send.module_path, '{"args": ["a"], "kwargs": {}}') == ["a", 1]
    assert [name for name, *_ in sent] == ["started", "finished"]


def test_a_payload_that_no_task_has_written_fails_the_job(pgq: DjangoPgQueuer) -> None:
    job_id = pgq.enqueue(tasks.send.module_path, "[1]")
    drain(pgq)
    record = pgq.jobs.get(job_id)
    assert record is not None
    assert "has no arguments of a task" in record.errors[0]["message"]


@pytest.mark.skipif(NATIVE, reason="Django has tasks of its own")
def test_without_the_package_the_way_to_get_it_is_told() -> None:
    script = "import sys; sys.modules['django_tasks'] = None\nimport pgq_sync.contrib.django.backend"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "django.conf.global_settings"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("django.core.exceptions.ImproperlyConfigured: PgqBackend needs the tasks")
    assert "pip install django-tasks" in done.stderr
