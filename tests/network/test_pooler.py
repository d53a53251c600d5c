"""Behind a PgBouncer that gives each transaction another session: everything works, and no session is changed."""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from pgq_sync import CompletionWatcher, Context, DatabaseRetry, Job, NewJob, PgQueuer, Settings
from pgq_sync.errors import StoreUnavailable
from pgq_sync.storage.connections import OwnPool, pooled
from tests.conftest import LEAVE
from tests.network.pgbouncer import bouncer
from tests.network.proxy import Proxy
from tests.storage.support import query
from tests.waiting import wait_until

JOBS = 300
SESSION = (
    "select pg_backend_pid(), current_setting('timezone'), current_setting('enable_seqscan'), "
    "current_setting('plan_cache_mode'), current_setting('search_path'), current_setting('synchronous_commit'), "
    "(select count(*) from pg_prepared_statements), array(select pg_listening_channels())"
)


def test_a_worker_runs_hundreds_of_jobs_through_a_pooler(dsn: str) -> None:
    with bouncer(dsn) as through, PgQueuer.from_dsn(through, settings=Settings(listen_dsn=dsn)) as pgq:
        pgq.entrypoint("work")(_do_nothing)

        @pgq.entrypoint("parent", retry=DatabaseRetry(max_attempts=2, initial_delay=timedelta()))
        def parent(job: Job, context: Context) -> None:
            if job.attempt == 1:
                raise ValueError("not yet")
            context.enqueue("work")

        pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(JOBS))
        for number in range(20):
            pgq.enqueue("parent", dedupe_key=str(number))
        assert pgq.drain(beat_interval=timedelta(milliseconds=20)).counts == {"succeeded": JOBS + 40, "retried": 20}
        assert pgq.jobs.count() == {("work", "succeeded"): JOBS + 20, ("parent", "succeeded"): 20}


def test_a_running_worker_hears_of_jobs_past_the_pooler(dsn: str) -> None:
    with bouncer(dsn) as through, PgQueuer.from_dsn(through, settings=Settings(listen_dsn=dsn)) as pgq:
        pgq.entrypoint("work")(_do_nothing)
        with pgq.worker(poll_interval=timedelta(hours=1)) as worker:
            assert worker.listening.wait(30)
            pgq.enqueue("work")
            wait_until(lambda: pgq.jobs.count() == {("work", "succeeded"): 1})


def test_without_a_way_past_the_pooler_a_worker_says_so_once_and_polls(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    with bouncer(dsn, pool_size=2) as through, PgQueuer.from_dsn(through, settings=Settings()) as pgq:
        pgq.entrypoint("work", concurrency_limit=1)(_do_nothing)
        pgq.entrypoint("plain")(_do_nothing)
        with caplog.at_level(logging.WARNING), pgq.worker(poll_interval=timedelta(milliseconds=50)) as worker:
            assert worker.listening.wait(30)
            for _ in range(10):
                pgq.enqueue("work")
                pgq.enqueue("plain")
            wait_until(lambda: pgq.jobs.count() == {("work", "succeeded"): 10, ("plain", "succeeded"): 10})
            # Its life shows by its beats alone, so it may be silent for longer.
            wait_until(lambda: [info.liveness_limit for info in pgq.store.workers()] == [timedelta(seconds=60)])
            query(dsn, LEAVE)
            # Not by way of the pooler, which may give a producer a connection that has just been ended.
            query(dsn, "insert into pgq_job (entrypoint) values ('plain')")
            wait_until(lambda: query(dsn, "select count(*) from pgq_history") == [(21,)])
            wait_until(lambda: worker._completer.idle)
        assert len([record for record in caplog.records if "listen_dsn" in record.message]) == 1
        rows = query(through, "select count(*) from pg_locks where locktype = 'advisory' and objsubid = 1")
        assert rows == [(0,)]


def test_no_other_client_of_the_pooler_finds_its_session_changed(empty_dsn: str) -> None:
    with bouncer(empty_dsn, pool_size=1) as through:
        untouched = _session(through)
        with PgQueuer.from_dsn(through, settings=Settings(listen_dsn=empty_dsn)) as pgq:
            pgq.schema.install()
            pgq.entrypoint("work")(_do_nothing)
            for _ in range(10):  # psycopg prepares what it has run five times
                pgq.enqueue("work")
            assert pgq.schema.verify() == []
            pgq.drain(beat_interval=timedelta(milliseconds=20))
            assert pgq.jobs.count() == {("work", "succeeded"): 10}
            assert _session(through) == untouched


def _session(dsn: str) -> list[tuple[Any, ...]]:
    """Which session of the server's a client of the pooler gets, and how it is set."""
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        return connection.execute(SESSION).fetchall()


def test_a_handlers_statements_are_not_prepared_behind_a_pooler(dsn: str) -> None:
    with bouncer(dsn, pool_size=2) as through, closing(OwnPool(Settings(), through)) as connections:
        with connections.for_engine().handler() as connection:
            for _ in range(20):
                connection.execute("select 1")
        (prepared,) = query(through, "select count(*) from pg_prepared_statements")[0]
        assert prepared == 0


def test_times_are_right_whatever_the_servers_zone(empty_dsn: str) -> None:
    name = conninfo_to_dict(empty_dsn)["dbname"]
    query(empty_dsn, f"alter database {name} set timezone to 'Asia/Kolkata'")
    with bouncer(empty_dsn) as through, PgQueuer.from_dsn(through, settings=Settings(listen_dsn=through)) as pgq:
        pgq.schema.install()
        ran: list[Job] = []
        pgq.entrypoint("work")(ran.append)
        due = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
        later, now = pgq.enqueue("work", execute_after=due), pgq.enqueue("work")
        before = datetime.now(timezone.utc)
        assert pgq.drain().counts == {"succeeded": 1}

        record, done = pgq.jobs.get(later), pgq.jobs.get(now)
        assert record is not None
        assert record.execute_after == due
        assert record.execute_after.utcoffset() is not None
        assert done is not None
        assert done.finished_at is not None
        for moment in (done.created_at, done.finished_at, ran[0].created_at):
            assert abs(moment - before) < timedelta(minutes=1)


def test_a_schedule_ticks_on_time_whatever_the_servers_zone(empty_dsn: str) -> None:
    name = conninfo_to_dict(empty_dsn)["dbname"]
    query(empty_dsn, f"alter database {name} set timezone to 'Asia/Kolkata'")
    with bouncer(empty_dsn) as through, PgQueuer.from_dsn(through, settings=Settings(listen_dsn=empty_dsn)) as pgq:
        pgq.schema.install()
        pgq.schedule("second", "* * * * * *")(_do_nothing)
        with pgq.worker():
            wait_until(lambda: pgq.jobs.count().get(("second", "succeeded"), 0) >= 1)
        rows = query(empty_dsn, "select abs(extract(epoch from next_at - now())) < 60 from pgq_schedule")
        assert rows == [(True,)]


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
def test_a_callers_pool_behind_a_pooler_works(dsn: str, autocommit: bool) -> None:
    options = {"autocommit": autocommit, "prepare_threshold": None}
    with bouncer(dsn) as through, ConnectionPool(through, min_size=0, max_size=4, open=True, kwargs=options) as pool:
        pgq = PgQueuer.from_psycopg_pool(pool, settings=Settings(listen_dsn=dsn))
        pgq.entrypoint("work")(_do_nothing)
        pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(50))
        assert pgq.drain().counts == {"succeeded": 50}
        pgq.close()


def test_a_listen_dsn_that_cannot_be_reached_is_told_at_the_start(dsn: str) -> None:
    nowhere = "host=127.0.0.1 port=1 dbname=postgres"
    with PgQueuer.from_dsn(dsn, settings=Settings(listen_dsn=nowhere)) as pgq:
        pgq.entrypoint("work")(_do_nothing)
        with pytest.raises(StoreUnavailable, match=r"listen_dsn: .* port 1"):
            pgq.run()


def test_a_pooler_is_told_from_a_direct_connection(dsn: str, proxy: Proxy) -> None:
    with bouncer(dsn) as through:
        found = {}
        for name, where in {"direct": dsn, "proxy": proxy.dsn, "pooler": through}.items():
            with closing(psycopg.connect(where, autocommit=True)) as connection:
                found[name] = pooled(connection)
    assert found == {"direct": False, "proxy": False, "pooler": True}


def _do_nothing(job: Any) -> None:
    """A job without an effect."""


def test_a_watcher_behind_the_pooler_polls_and_one_past_it_is_told(dsn: str) -> None:
    for listen_dsn in (None, dsn):
        with bouncer(dsn, pool_size=2) as through, PgQueuer.from_dsn(through, settings=Settings(listen_dsn=listen_dsn)) as pgq:
            ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(3))
            # So long an interval that neither would be told by it.
            with CompletionWatcher(pgq, refresh_interval=timedelta(hours=1)) as watcher:
                futures = [watcher.watch(job_id) for job_id in ids]
                for job_id, future in zip(ids, futures, strict=True):
                    assert not future.done()
                    pgq.jobs.cancel([job_id])
                    assert future.result(5).status == "cancelled"
            assert query(dsn, "select job_id from pgq_watch") == []
