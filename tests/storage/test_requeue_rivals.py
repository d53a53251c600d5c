"""Putting jobs back against others who put them back, end them or enqueue in their place."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.storage.database import Params
from tests.storage.rivals import interrupted, while_it_waits
from tests.storage.support import ended, query, record, waiting
from tests.waiting import PATIENCE, wait_until


def test_a_job_that_is_being_put_back_is_not_ended_by_an_older_request(pgq: PgQueuer, dsn: str) -> None:
    job_id = ended(pgq, "held")
    query(dsn, "insert into pgq_cancel select id from pgq_job")
    with closing(psycopg.connect(dsn)) as operator:
        pgq.on(operator).jobs.requeue([job_id])
        assert pgq.store.end_cancelled() == 0

        def put_back(name: str, params: Params) -> None:
            if name == "lock_requested":
                operator.commit()

        with interrupted(dsn, put_back) as jobs:
            assert jobs.end_requested() == 0

    assert record(pgq, job_id).status == "queued"


@pytest.mark.parametrize("end", ["commits", "rolls back"])
@pytest.mark.parametrize("status", ["failed", "held"])
def test_two_who_put_the_same_job_back_make_one_of_it(pgq: PgQueuer, dsn: str, status: str, end: str) -> None:
    job_id = ended(pgq, status)
    with closing(psycopg.connect(dsn)) as first:
        ours = pgq.on(first).jobs.requeue([job_id]).requeued[job_id]
        with while_it_waits(dsn, first, first.commit if end == "commits" else first.rollback):
            result = pgq.jobs.requeue([job_id])

    assert len(query(dsn, "select id from pgq_job")) == 1
    if end == "rolls back":
        assert list(result.requeued) == [job_id]
    elif status == "failed":
        assert (result.requeued, result.already) == ({}, {job_id: ours})
    else:
        assert (result.requeued, result.unknown) == ({}, [job_id])


def test_many_who_put_the_same_jobs_back_at_once_make_one_of_each(pgq: PgQueuer) -> None:
    ids = [ended(pgq, "failed", dedupe_key=f"k{-number}" if number % 2 else None) for number in range(20)]
    barrier = threading.Barrier(4)

    def put_back(step: int) -> Any:
        barrier.wait(PATIENCE)
        return pgq.jobs.requeue(ids[::step])

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(put_back, [1, -1, 1, -1]))

    made = {old: new for result in results for old, new in result.requeued.items()}
    assert sum(len(result.requeued) for result in results) == len(made) == 20
    assert all({**result.already, **result.requeued} == made for result in results)
    assert pgq.jobs.count() == {("work", "failed"): 20, ("work", "queued"): 20}


def test_putting_back_and_a_replacement_never_wait_for_each_other(pgq: PgQueuer, dsn: str) -> None:
    failed, held = ended(pgq, "failed", dedupe_key="b"), ended(pgq, "held", dedupe_key="a")
    with closing(psycopg.connect(dsn)) as holder, ThreadPoolExecutor(2) as threads:
        holder.execute("select from pgq_job where dedupe_key = 'a' for update")
        putting_back = threads.submit(pgq.jobs.requeue, [failed, held])
        wait_until(lambda: waiting(dsn) == 1)
        jobs = [NewJob(entrypoint="new", dedupe_key=key) for key in "ab"]
        replacing = threads.submit(lambda: pgq.enqueue_many(jobs, on_conflict="replace"))
        wait_until(lambda: waiting(dsn) == 2)
        holder.rollback()

        requeued = putting_back.result().requeued
        assert replacing.result() == [held, requeued[failed]]
