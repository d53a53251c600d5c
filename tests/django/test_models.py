"""The models read pgq-sync's tables, wherever they are, and write nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgq_sync.contrib.django import DjangoPgQueuer
from pgq_sync.contrib.django.models import FinishedJob, Schedule, UnfinishedJob, Worker
from pgq_sync.contrib.django.reading import ReadOnly
from pgq_sync.storage.names import Names
from pgq_sync.storage.schema import script
from tests.django.managing import manage, settings_with
from tests.django.site.shop.tasks import place
from tests.storage.support import query

RESULTS: list[Any] = [None, "text", 1, 2.5, {"a": ["\u00e9"]}, [], "null", True]
WRITES: dict[str, Callable[[], Any]] = {
    "save": lambda: UnfinishedJob(id=1).save(),
    "delete": lambda: UnfinishedJob(id=1).delete(),
    "create": lambda: UnfinishedJob.objects.create(id=1),
    "get_or_create": lambda: UnfinishedJob.objects.get_or_create(id=1),
    "update_or_create": lambda: UnfinishedJob.objects.update_or_create(id=1),
    "bulk_create": lambda: UnfinishedJob.objects.bulk_create([UnfinishedJob(id=1)]),
    "bulk_update": lambda: UnfinishedJob.objects.bulk_update([UnfinishedJob(id=1)], ["queue"]),
    "update": lambda: UnfinishedJob.objects.update(queue="other"),
    "delete of many": lambda: UnfinishedJob.objects.all().delete(),
}


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_a_result_is_what_the_function_returned(result: Any, pgq: DjangoPgQueuer, site_dsn: str) -> None:
    query(
        site_dsn,
        "insert into pgq_history (id, finished_at, execute_after, created_at, attempts, priority, status, queue, entrypoint,"
        " result) values (1, now(), now(), now(), 1, 0, 'succeeded', 'default', 'work', %s)",
        [json.dumps(result)],
    )
    assert FinishedJob.objects.get(pk=1).result == result
    assert FinishedJob.objects.values_list("result", flat=True).get() == result


def test_a_job_is_read_as_it_was_enqueued(pgq: DjangoPgQueuer) -> None:
    job_id = pgq.enqueue("work", b"\x00\xff", headers={"trace": [1]}, dedupe_key="one", priority=3)
    job = UnfinishedJob.objects.get()
    assert (job.pk, bytes(job.payload), job.headers, job.dedupe_key) == (job_id, b"\x00\xff", {"trace": [1]}, "one")
    assert (str(job), job.status, job.run_time) == (f"work {job_id}", "queued", None)
    wait = job.wait
    assert wait <= job.age


def test_a_finished_job_tells_how_long_it_waited_and_ran(pgq: DjangoPgQueuer) -> None:
    place.enqueue("one")
    with pgq.worker(concurrency=1) as worker:
        worker_row = Worker.objects.get()
        assert place.name in worker_row.entrypoints
        assert worker_row.queues is None
        assert str(worker_row) == worker_row.name
        assert worker is not None
        assert pgq.result(1, timeout=20)
    job = FinishedJob.objects.get()
    assert job.claimed_at is not None
    assert job.run_time == job.finished_at - job.claimed_at
    assert job.wait == max(job.claimed_at - job.execute_after, type(job.wait)())


def test_a_schedule_is_read(pgq: DjangoPgQueuer) -> None:
    pgq.schedules.add("nightly", "0 3 * * *", entrypoint="work", timezone="Europe/Berlin")
    schedule = Schedule.objects.get()
    assert (str(schedule), schedule.timezone, schedule.paused_at) == ("nightly 0 3 * * *", "Europe/Berlin", None)


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written(write: str, pgq: DjangoPgQueuer) -> None:
    job_id = pgq.enqueue("work")
    with pytest.raises(ReadOnly, match=r"UnfinishedJob\.\w+: the model is only read; pgq\.jobs changes these rows"):
        WRITES[write]()
    assert UnfinishedJob.objects.values_list("pk", "queue").get() == (job_id, "default")


def test_the_models_read_from_the_database_that_has_the_queue(empty_dsn: str, site_dsn: str, tmp_path: Path) -> None:
    query(empty_dsn, script("install", Names()))
    query(empty_dsn, "insert into pgq_job (entrypoint) values ('over there')")
    settings = settings_with(tmp_path, f"DATABASES['jobs'] = database_entry({empty_dsn!r})\nPGQ_SYNC = {{'DATABASE': 'jobs'}}")
    read = (
        "from pgq_sync.contrib.django.models import UnfinishedJob as U\n"
        "print('found', U.objects.get().entrypoint, U.objects.using('default').count())"
    )
    assert "found over there 0" in manage(site_dsn, "shell", "-c", read, settings=settings)
