"""What goes wrong around a worker, on PostgreSQL: connections cut, rows locked, claims lost, a main thread that ends."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import psycopg

from pgq_sync import Job, NewJob, PgQueuer
from tests.waiting import PATIENCE, wait_until

NO_POLL = timedelta(hours=1)
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
PARTITIONS = "select inhrelid::regclass::text from pg_inherits where inhparent = 'pgq_history'::regclass"


def test_a_worker_whose_every_connection_is_cut_goes_on(pgq: PgQueuer, dsn: str) -> None:
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    pgq.entrypoint("collect")(jobs.put)
    with psycopg.connect(dsn, autocommit=True) as operator, pgq.worker(poll_interval=NO_POLL) as worker:
        for _ in range(3):
            assert worker.listening.wait(PATIENCE)
            gone = listeners(operator)
            operator.execute(CUT)
            wait_until(lambda gone=gone: len(listeners(operator)) == 1 and gone.isdisjoint(listeners(operator)))  # type: ignore[misc]
            assert worker.listening.wait(PATIENCE)
            operator.execute("insert into pgq_job (entrypoint) values ('collect')")
            assert jobs.get(timeout=PATIENCE)
    assert pgq.jobs.count() == {("collect", "succeeded"): 3}


def listeners(operator: psycopg.Connection[Any]) -> set[int]:
    rows = operator.execute(
        "select pid from pg_stat_activity where application_name = 'pgq-sync listener' and datname = current_database()"
    )
    return {pid for (pid,) in rows}


def test_a_row_that_somebody_has_locked_delays_only_itself(pgq: PgQueuer, dsn: str) -> None:
    running, finish = threading.Event(), threading.Event()

    @pgq.entrypoint("locked")
    def locked(job: Job) -> None:
        running.set()
        assert finish.wait(PATIENCE)

    pgq.entrypoint("other")(lambda job: None)
    job_id = pgq.enqueue("locked")
    with pgq.worker() as worker, psycopg.connect(dsn) as somebody:
        assert running.wait(PATIENCE)
        somebody.execute("select from pgq_job where id = %s for update", [job_id])
        finish.set()
        pgq.enqueue_many(NewJob(entrypoint="other") for _ in range(20))
        wait_until(lambda: pgq.jobs.count().get(("other", "succeeded")) == 20)
        assert pgq.jobs.count()["locked", "running"] == 1
        somebody.rollback()
        wait_until(lambda: pgq.jobs.count().get(("locked", "succeeded")) == 1)
    assert worker.stop().counts == {"succeeded": 21}


def test_an_outcome_of_a_claim_that_was_lost_is_not_written(pgq: PgQueuer, dsn: str) -> None:
    running, finish = threading.Event(), threading.Event()

    @pgq.entrypoint("lost")
    def lost(job: Job) -> None:
        running.set()
        assert finish.wait(PATIENCE)

    job_id = pgq.enqueue("lost")
    with pgq.worker() as worker, psycopg.connect(dsn, autocommit=True) as somebody:
        assert running.wait(PATIENCE)
        somebody.execute("update pgq_job set worker_id = gen_random_uuid(), fence = 1 where id = %s", [job_id])
        finish.set()
        assert worker.stop().counts == {"lost": 1}
    record = pgq.jobs.get(job_id)
    assert record is not None
    assert record.status == "running"


def test_a_finish_on_a_day_without_a_partition_makes_it(pgq: PgQueuer, dsn: str) -> None:
    pgq.entrypoint("collect")(lambda job: None)
    with psycopg.connect(dsn, autocommit=True) as operator:
        for (name,) in operator.execute(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'pgq_history'::regclass"
        ):
            operator.execute(f"drop table {name}".encode())
    pgq.enqueue("collect")
    assert pgq.drain().counts == {"succeeded": 1}
    assert pgq.jobs.count() == {("collect", "succeeded"): 1}


def test_a_process_whose_main_thread_ends_stops_its_worker_and_exits(dsn: str) -> None:
    script = (
        "import sys; from pgq_sync import PgQueuer\n"
        "pgq = PgQueuer.from_dsn(sys.argv[1])\n"
        "pgq.entrypoint('collect')(lambda job: None)\n"
        "pgq.worker().start()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, dsn], timeout=PATIENCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with PgQueuer.from_dsn(dsn) as pgq:
        assert pgq.store.workers() == []


def test_a_worker_leaves_no_connection_behind(pgq: PgQueuer, dsn: str) -> None:
    pgq.entrypoint("collect")(lambda job: None)
    with psycopg.connect(dsn, autocommit=True) as operator:
        for _ in range(5):
            with pgq.worker() as worker:
                assert worker.listening.wait(PATIENCE)
        pgq.close()

        def others() -> object:
            return operator.execute(
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchone()

        wait_until(lambda: others() == (0,))
