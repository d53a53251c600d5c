"""A standby takes over while the old primary lives on: a worker on a DSN of both goes on at the new one."""

from __future__ import annotations

import logging
import queue
from datetime import timedelta

import pytest

from pgq_sync import Job, PgQueuer, Settings
from tests.network.standby import either_of, fail_over, replicated
from tests.storage.support import query
from tests.waiting import PATIENCE, wait_until


def test_a_worker_follows_a_failover(caplog: pytest.LogCaptureFixture) -> None:
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    soon = timedelta(milliseconds=100)
    with replicated() as (primary, standby), PgQueuer.from_dsn(either_of(primary, standby), settings=Settings()) as pgq:
        pgq.schema.install()
        pgq.entrypoint("work")(jobs.put)
        with caplog.at_level(logging.ERROR), pgq.worker(poll_interval=soon, beat_interval=soon):
            before = pgq.enqueue("work")
            assert jobs.get(timeout=PATIENCE).id == before
            wait_until(lambda: pgq.jobs.count() == {("work", "succeeded"): 1})

            fail_over(primary, standby)
            ((after,),) = query(standby, "insert into pgq_job (entrypoint) values ('work') returning id")
            assert jobs.get(timeout=PATIENCE).id == after
            wait_until(lambda: query(standby, "select id from pgq_history order by id") == [(before,), (after,)])
        assert query(primary, "select id from pgq_history") == [(before,)]
    assert caplog.records == []
