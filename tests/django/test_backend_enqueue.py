"""What a task of Django enqueues: in which transaction, as which job, and what is refused before anything is written."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from pgq_sync import DuplicateJob
from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.testing import drain
from tests.django.site.shop.models import Order
from tests.django.tasks_of_django import InvalidTask, TaskResultStatus, task_backends, task_enqueued

from pgq_sync.contrib.django.backend import PgqTask, task  # isort: skip
from tests.django.site.mail import tasks  # isort: skip


def job(pgq: DjangoPgQueuer, result: Any) -> Any:
    found = pgq.jobs.get(int(result.id))
    assert found is not None
    return found


def test_a_rollback_leaves_no_job(pgq: DjangoPgQueuer) -> None:
    with pytest.raises(KeyError), transaction.atomic():
        tasks.send.enqueue("a")
        raise KeyError
    assert not pgq.jobs.count()


def test_a_job_comes_with_the_transaction(pgq: DjangoPgQueuer) -> None:
    with transaction.atomic():
        result = tasks.send.enqueue("a")
        Order.objects.create(note="with it")
    assert pgq.jobs.count() == {(tasks.send.module_path, "queued"): 1}
    with pgq.worker(concurrency=2):
        assert pgq.result(int(result.id), timeout=20) == ["a", 1]
    result.refresh()
    assert result.return_value == ["a", 1]


def test_priority_queue_and_time_are_the_jobs(pgq: DjangoPgQueuer) -> None:
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    result = tasks.send.using(priority=-7, queue_name="mail", run_after=at).enqueue("a")
    found = job(pgq, result)
    assert (found.priority, found.queue, found.execute_after) == (-7, "mail", at)
    read = task_backends["default"].get_result(result.id).task
    assert (read.priority, read.queue_name, read.run_after) == (-7, "mail", at)
    drain(pgq)
    result.refresh()
    assert result.status is TaskResultStatus.READY


def test_larger_priorities_run_first(pgq: DjangoPgQueuer) -> None:
    ids = {priority: tasks.send.using(priority=priority).enqueue(str(priority)).id for priority in (-100, 0, 100)}
    drain(pgq)
    begun = sorted(ids, key=lambda priority: job_claimed(pgq, ids[priority]))
    assert begun == [100, 0, -100]


def job_claimed(pgq: DjangoPgQueuer, job_id: str) -> Any:
    found = pgq.jobs.get(int(job_id))
    assert found is not None
    return found.claimed_at


def test_a_naive_time_is_the_sites_without_time_zones(pgq: DjangoPgQueuer) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        at = datetime(2031, 7, 1, 12, 0)  # noqa: DTZ001  as the site has them
        result = tasks.send.using(run_after=at).enqueue("a")
        with connection.cursor() as cursor:
            cursor.execute("select execute_after at time zone 'UTC' from pgq_job")
            assert cursor.fetchone() == (datetime(2031, 7, 1, 10, 0),)  # noqa: DTZ001
        read = tasks.send.get_result(result.id)
        assert read.task.run_after == at
        assert read.enqueued_at.tzinfo is None


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (float("nan"), ValueError, r"args\[0\] is nan"),
        ([1, {"deep": float("-inf")}], ValueError, r"args\[0\]\[1\]\['deep'\] is -inf"),
        ("a\0b", ValueError, "NUL"),
        ({"a\0": 1}, ValueError, "NUL"),
        ("\ud800", ValueError, "surrogate"),
        ({1: "one"}, TypeError, "key 1 of type int"),
        ({1, 2}, TypeError, r"args\[0\] is of type set"),
        (datetime(2030, 1, 1, tzinfo=timezone.utc), TypeError, "datetime"),
        (b"\xff", ValueError, "no UTF-8"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    pgq: DjangoPgQueuer, value: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        tasks.echo.enqueue(value)
    with pytest.raises(error, match=r"kwargs\['value'\]"):
        tasks.echo.enqueue(value=value)
    assert not pgq.jobs.count()


def test_what_contains_itself_is_refused(pgq: DjangoPgQueuer) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"args\[0\] is nested too deeply"):
        tasks.echo.enqueue(endless)
    assert not pgq.jobs.count()


def test_a_receiver_of_task_enqueued_may_refuse_what_is_in_a_transaction(pgq: DjangoPgQueuer) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError

    task_enqueued.connect(refuse)
    try:
        with pytest.raises(PermissionError), transaction.atomic():
            tasks.send.enqueue("a")
        assert not pgq.jobs.count()
    finally:
        task_enqueued.disconnect(refuse)


def test_a_key_made_from_the_arguments_is_taken_once(pgq: DjangoPgQueuer) -> None:
    first = tasks.once.enqueue("a", copies=2)
    assert job(pgq, first).dedupe_key == "mail a"
    with pytest.raises(DuplicateJob):
        tasks.once.enqueue(to="a")
    tasks.once.enqueue("b")
    assert tasks.once.using(dedupe_key=None).enqueue("a").id != first.id
    assert job(pgq, tasks.once.using(dedupe_key="mine", dedupe_until="started").enqueue("a")).dedupe_key == "mine"


def test_an_existing_job_is_returned_and_no_signal_sent(pgq: DjangoPgQueuer) -> None:
    sent: list[str] = []

    def note(task_result: Any, **_: Any) -> None:
        sent.append(task_result.id)

    task_enqueued.connect(note)
    try:
        first, second = tasks.same.enqueue("a"), tasks.same.enqueue("a")
    finally:
        task_enqueued.disconnect(note)
    assert first.id == second.id
    assert sent == [first.id]
    tasks.once.enqueue("b")
    with pytest.raises(DuplicateJob):  # the key is another task's: there is no result to return
        tasks.same.enqueue("b")


def declared_in_test(to: str) -> None:
    pass


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retry": 3}, "retry=3"),
        ({"timeout": -1}, "timeout=-1"),
        ({"on_failure": "shrug"}, "on_failure='shrug'"),
        ({"concurrency_limit": "two"}, "concurrency_limit='two'"),
        ({"requests_per_second": 0}, "requests_per_second=0"),
        ({"transactional": 1}, "transactional=1"),
        ({"dedupe_key": 7}, "dedupe_key=7"),
        ({"dedupe_key": lambda other: "x"}, "called with to by name"),
        ({"dedupe_until": "noon"}, "dedupe_until='noon'"),
        ({"on_conflict": "skip"}, "on_conflict='skip'"),
        ({"retries": 3}, "'retries'"),
    ],
)
def test_wrong_options_are_told_where_the_task_is_declared(options: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        task(**options)(declared_in_test)


def test_one_function_has_its_options_once() -> None:
    with pytest.raises(InvalidTask, match="declared already, with other options"):
        task(timeout=9)(tasks.send.func)


def test_variants_and_aliases_are_one_entrypoint(pgq: DjangoPgQueuer) -> None:
    before = pgq.registry.names()
    variant = tasks.send.using(priority=3).using(backend="second", queue_name="mail")
    assert task(tasks.send.func).module_path == tasks.send.module_path
    assert pgq.registry.names() == before
    with pytest.raises(InvalidTask, match="Queue 'other' is not valid"):
        variant.using(queue_name="other")


def test_the_options_of_another_backend_have_no_effect(pgq: DjangoPgQueuer) -> None:
    result = task(backend="immediate", timeout=5, dedupe_key="x")(declared_in_test).enqueue("a")
    assert result.status is TaskResultStatus.SUCCESSFUL
    assert not pgq.jobs.count()


def test_tasks_are_pickled_with_their_options(pgq: DjangoPgQueuer) -> None:
    for each in (tasks.third_time, tasks.same.using(priority=4), tasks.once.using(dedupe_key="mine", backend="second")):
        assert isinstance(each, PgqTask)
        assert pickle.loads(pickle.dumps(each)) == each
    result = tasks.once.enqueue("a")
    assert pickle.loads(pickle.dumps(result)) == result


def test_the_backend_tells_what_is_wrong_with_the_settings() -> None:
    backend = task_backends["default"]
    assert list(backend.check()) == []
    with override_settings(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]):
        assert [each.id for each in backend.check()] == ["pgq_sync.E101"]
    with override_settings(PGQ_SYNC={"DATABASE": "elsewhere"}):
        assert [each.id for each in backend.check()] == ["pgq_sync.E102"]
    with override_settings(TASKS={"default": {"BACKEND": "pgq_sync.contrib.django.backend.PgqBackend", "OPTIONS": {"a": 1}}}):
        assert [each.id for each in task_backends["default"].check()] == ["pgq_sync.E103"]
