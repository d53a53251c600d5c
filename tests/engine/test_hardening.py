"""A worker beside what may happen to it: forks, a schema that goes, locks, strangers' notifications, a stop from elsewhere."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from pgq_sync import Job, PgQueuer, Settings
from tests.waiting import PATIENCE, wait_until

NO_POLL = timedelta(hours=1)


def test_a_child_that_a_handler_forks_leaves_its_parents_worker_alone(dsn: str) -> None:
    script = (
        "import multiprocessing, sys, time, warnings\n"
        "from pgq_sync import PgQueuer\n"
        "warnings.simplefilter('ignore')\n"
        "pgq = PgQueuer.from_dsn(sys.argv[1])\n"
        "@pgq.entrypoint('fork')\n"
        "def fork(job):\n"
        "    child = multiprocessing.get_context('fork').Process(target=print, args=['child'])\n"
        "    child.start()\n"
        "    child.join()\n"
        "    print([info.state for info in pgq.store.workers()])\n"
        "pgq.enqueue('fork')\n"
        "print(pgq.drain(shutdown_timeout=__import__('datetime').timedelta(hours=1)).counts)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, dsn], timeout=PATIENCE, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["child", "['running']", "{'succeeded': 1}"], done.stderr


def test_a_script_that_starts_workers_as_it_is_imported_is_told_where_to_put_that(dsn: str, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import functools, sys\n"
        "from pgq_sync import PgQueuer, ProcessExecutor\n"
        "pgq = PgQueuer.from_dsn(sys.argv[1])\n"
        "@pgq.entrypoint('twice', executor_factory=functools.partial(ProcessExecutor, max_workers=1))\n"
        "def twice(job): pass\n"
        "pgq.enqueue('twice')\n"
        "print(pgq.drain(entrypoints=['twice'], max_jobs=1).counts)\n"
    )
    done = subprocess.run([sys.executable, script, dsn], timeout=PATIENCE, capture_output=True, text=True, check=False)
    assert done.stdout == "{'failed': 1}\n", done.stderr
    assert "put what starts workers under if __name__ == '__main__':" in done.stderr


def test_a_worker_whose_schema_goes_stops_all_the_same(pgq: PgQueuer) -> None:
    pgq.entrypoint("collect")(lambda job: None)
    worker = pgq.worker()
    worker.start()
    assert worker.listening.wait(PATIENCE)
    pgq.schema.uninstall()
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()


def test_a_stop_beside_run_in_another_thread_ends_both(either: PgQueuer) -> None:
    either.entrypoint("collect")(lambda job: None)
    worker = either.worker(shutdown_timeout=timedelta(hours=1))
    runner = threading.Thread(target=worker.run)
    runner.start()
    assert worker.listening.wait(PATIENCE)
    worker.stop()
    runner.join(PATIENCE)
    assert not runner.is_alive()


def test_a_locked_table_does_not_hold_up_the_stop(pgq: PgQueuer, dsn: str) -> None:
    pgq.entrypoint("collect")(lambda job: None)
    worker = pgq.worker()
    worker.start()
    assert worker.listening.wait(PATIENCE)
    with psycopg.connect(dsn) as somebody, psycopg.connect(dsn, autocommit=True) as observer:
        somebody.execute("lock table pgq_job in access exclusive mode")
        # The listener looks when it is woken, and then waits for the lock.
        worker._listener.wake()
        observer.execute("select pgq_announce(1, 1, '{default}', '{collect}', '{0}', '{now}')")
        wait_until(
            lambda: observer.execute("select count(*) from pg_stat_activity where wait_event_type = 'Lock'").fetchone() == (1,)
        )
        stopper = threading.Thread(target=worker.stop)
        stopper.start()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        "[1]",
        "{}",
        '[1, 1, [["default", "collect", 0, "a", 5]]]',
        '[1, 1, [["default", "collect", 99999, 0, 5]]]',
        '[1, 1, [["default", "collect", "p", 0, 5]]]',
        '[1, 1, [[["default"], "collect", 0, 0, 5]]]',
        '[1, 1, [["default", "collect", 0, NaN, 5]]]',
        '[1, 1, [["default", "collect", 0, 0, 1e300]]]',
        '["x", "y"]',
        r'[0, 1, [["\u0000", "collect", 0, 0, 0]]]',
        "[1, -" + "9" * 400 + "]",
        "[1, 2, null, " + "[" * 3500 + "]" * 3500 + "]",
    ],
    ids=lambda message: message[:50],
)
def test_a_strangers_notification_harms_no_listener(pgq: PgQueuer, dsn: str, message: str) -> None:
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    pgq.entrypoint("collect")(jobs.put)
    with pgq.worker(poll_interval=NO_POLL) as worker, psycopg.connect(dsn, autocommit=True) as stranger:
        assert worker.listening.wait(PATIENCE)
        stranger.execute("select pg_notify(pgq_channel(), %s)", [message])
        pgq.enqueue("collect")
        assert jobs.get(timeout=PATIENCE)


def test_a_worker_that_names_the_schema_hears_of_jobs_enqueued_without_naming_it(pgq: PgQueuer, dsn: str) -> None:
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    with PgQueuer.from_dsn(dsn, settings=Settings(schema="public")) as named:
        named.entrypoint("collect")(jobs.put)
        with named.worker(poll_interval=NO_POLL) as worker:
            assert worker.listening.wait(PATIENCE)
            pgq.enqueue("collect")
            assert jobs.get(timeout=PATIENCE)


def test_the_sql_functions_work_whatever_the_search_path(pgq: PgQueuer, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set search_path to ''")
        connection.execute("insert into public.pgq_job (entrypoint) values ('raw')")
        connection.execute("select public.pgq_enqueue('plain')")
        connection.execute("select public.pgq_enqueue('keyed', dedupe_key => 'one')")
    assert {entrypoint for entrypoint, _ in pgq.jobs.count()} == {"raw", "plain", "keyed"}


def test_a_connection_in_pipeline_mode_is_refused(pgq: PgQueuer, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.pipeline(), pytest.raises(TypeError, match="pipeline mode"):
            pgq.on(connection).enqueue("collect")
        pgq.on(connection).enqueue("collect")
    assert pgq.jobs.count() == {("collect", "queued"): 1}


def test_a_table_that_has_a_partitions_name_is_not_taken_for_one(empty_dsn: str) -> None:
    with PgQueuer.from_dsn(empty_dsn, settings=Settings()) as pgq, psycopg.connect(empty_dsn, autocommit=True) as operator:
        pgq.schema.install()
        operator.execute("create table pgq_history_20991231 (id bigint)")
        with pytest.raises(psycopg.errors.RaiseException, match="pgq_history_20991231 is no partition"):
            operator.execute("select pgq_maintain('2099-12-31 12:00+00')")


def test_jobs_that_were_given_back_do_not_count_for_max_jobs(either: PgQueuer) -> None:
    running, finish = threading.Event(), threading.Event()

    @either.entrypoint("mixed")
    def mixed(job: Job) -> None:
        if job.payload == b"long" and not finish.is_set():
            running.set()
            assert finish.wait(PATIENCE)

    for number in range(300):
        either.enqueue("mixed", b"long" if number == 100 else None)
    worker = either.worker(concurrency=1, max_jobs=250, beat_interval=timedelta(milliseconds=50))
    runner = threading.Thread(target=worker.run)
    runner.start()
    assert running.wait(PATIENCE)
    # The long job keeps the only slot, until what was claimed ahead of it is given back.
    wait_until(lambda: either.jobs.count().get(("mixed", "running")) == 1)
    finish.set()
    runner.join(PATIENCE)
    assert either.jobs.count()["mixed", "succeeded"] == 250
