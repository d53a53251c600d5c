"""The application object: nothing happens before its first use, it finds its database, keeps secrets, and can be shared."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgq_sync import ConfigError, Job, PgQueuer, Settings
from pgq_sync.storage import pools
from tests.waiting import wait_until

NOWHERE = "host=/nonexistent dbname=nowhere"
REPOSITORY = Path(__file__).parents[1]

USES: dict[str, Callable[[PgQueuer], Any]] = {
    "enqueue": lambda pgq: pgq.enqueue("work"),
    "count": lambda pgq: pgq.jobs.count(),
    "pause": lambda pgq: pgq.limits.pause("work"),
    "verify": lambda pgq: pgq.schema.verify(),
    "drain": lambda pgq: pgq.drain(),
}


def handler(job: Job) -> None: ...


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For where no server will answer: the pool need not try for long."""
    monkeypatch.setattr(pools, "_TIMEOUT", 0.5)


def backends(dsn: str) -> int:
    """How many connections of our pools the database has."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgq-sync pool'"
    with closing(psycopg.connect(dsn)) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def run_script(text: str, **environment: str) -> str:
    """What a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=REPOSITORY, env=environment, timeout=100, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_and_declaring_opens_nothing_and_reads_no_environment() -> None:
    script = """
import os, threading
files = lambda: set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
before = files()
from pgq_sync import DatabaseRetry, PgQueuer, Settings
for pgq in (PgQueuer.from_dsn(), PgQueuer.from_dsn("host=/nonexistent"), PgQueuer.in_memory()):
    pgq.entrypoint("work", retry=DatabaseRetry())(lambda job: None)
    pgq.schedule("cleanup", "@hourly")(lambda schedule: None)
    repr(pgq)
print(threading.active_count(), files() == before)
"""
    assert run_script(script, PGQ_CONCURRENCY="nonsense", PGQ_XYZZY="1") == "1 True\n"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_malformed_variable_is_an_error_at_first_use(use: Callable[[PgQueuer], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQ_CONCURRENCY", "nonsense")
    pgq = PgQueuer.from_dsn(NOWHERE)
    pgq.entrypoint("work")(handler)
    with pytest.raises(ConfigError, match=r"^PGQ_CONCURRENCY='nonsense': a whole number is accepted"):
        use(pgq)


def test_the_environment_that_counts_is_that_of_the_first_use(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQ_DSN", NOWHERE)
    with PgQueuer.from_dsn() as pgq:
        monkeypatch.setenv("PGQ_DSN", dsn)
        assert pgq.jobs.get(pgq.enqueue("work")) is not None


def test_settings_that_are_given_leave_the_environment_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQ_CONCURRENCY", "nonsense")
    pgq = PgQueuer.in_memory(settings=Settings(concurrency=3))
    pgq.entrypoint("work")(handler)
    assert pgq.worker().info.slots == 3


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("empty", [(), ("PGQ_DSN",), ("DATABASE_URL",), ("PGQ_DSN", "DATABASE_URL", "PGHOST")])
def test_without_a_database_the_error_names_every_way_to_one(
    use: Callable[[PgQueuer], Any], empty: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in empty:
        monkeypatch.setenv(variable, "")
    pgq = PgQueuer.from_dsn()
    pgq.entrypoint("work")(handler)
    with pytest.raises(ConfigError) as refused:
        use(pgq)
    for way in ("dsn", "PGQ_DSN", "DATABASE_URL", "PGHOST", "PGDATABASE", "--embedded"):
        assert way in str(refused.value)


SOURCES = ("argument", "settings", "PGQ_DSN", "DATABASE_URL", "PG")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("fallback", [None, Settings()], ids=["settings of the environment", "settings given"])
def test_the_first_source_that_names_a_database_is_used(
    source: str, fallback: Settings | None, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dict.fromkeys(SOURCES[SOURCES.index(source) + 1 :], NOWHERE) | {source: dsn}
    for variable in ("PGQ_DSN", "DATABASE_URL"):
        monkeypatch.setenv(variable, given.get(variable, ""))
    if "PG" in given:
        for key, value in conninfo_to_dict(given["PG"]).items():
            monkeypatch.setenv({"dbname": "PGDATABASE"}.get(key, f"PG{key.upper()}"), str(value))
    settings = Settings(dsn=given["settings"]) if "settings" in given else fallback
    with PgQueuer.from_dsn(given.get("argument"), settings=settings) as pgq:
        job_id = pgq.enqueue("work")
    with closing(psycopg.connect(dsn)) as connection:
        assert connection.execute("select id from pgq_job").fetchall() == [(job_id,)]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(
    ("dsn", "secrets"),
    [
        ("postgresql://ann:s3%cret@localhost/app", ["s3%cret"]),
        ("postgresql://ann:s3cret@[::1/app", ["s3cret"]),
        ("mysql://ann:s3cret@localhost/app", ["s3cret"]),
        ("host=localhost password='s3cret", ["s3cret"]),
        ("host=localhost password=s3 cret", ["s3 ", "cret"]),
        pytest.param("postgresql://ann:s3@cret@localhost/app", ["s3@", "cret"], id="at sign in the password"),
        pytest.param("postgresql://ann:s3/cret@localhost/app", ["s3/", "cret"], id="slash in the password"),
    ],
)
def test_a_dsn_that_cannot_be_used_keeps_its_password(
    dsn: str, secrets: list[str], use: Callable[[PgQueuer], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with PgQueuer.from_dsn(dsn, settings=Settings()) as pgq:
        pgq.entrypoint("work")(handler)
        with pytest.raises(Exception) as refused:
            use(pgq)
    for shown in (*traceback.format_exception(refused.value), repr(refused.value), caplog.text, repr(pgq)):
        assert not [secret for secret in secrets if secret in shown]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_server_that_refuses_does_not_bring_the_password_to_light(
    dsn: str, use: Callable[[PgQueuer], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with PgQueuer.from_dsn(make_conninfo(dsn, dbname="nowhere", password="s3cret"), settings=Settings()) as pgq:
        pgq.entrypoint("work")(handler)
        with pytest.raises(Exception) as refused:
            use(pgq)
    assert "nowhere" in caplog.text + str(refused.value)
    for shown in (*traceback.format_exception(refused.value), caplog.text):
        assert "s3cret" not in shown


def test_a_working_worker_logs_no_password(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with PgQueuer.from_dsn(make_conninfo(dsn, password="s3cret"), settings=Settings()) as pgq:
        pgq.entrypoint("work")(lambda job: 1 / 0)
        job_id = pgq.enqueue("work")
        pgq.drain()
        assert "ZeroDivisionError" in caplog.text
        assert "s3cret" not in caplog.text + repr(pgq.jobs.get(job_id))


def test_after_closing_it_opens_again(pgq: PgQueuer, dsn: str) -> None:
    for _ in range(2):
        with pgq:
            pgq.enqueue("work")
            assert backends(dsn) == 1
        wait_until(lambda: backends(dsn) == 0)
        pgq.close()
    assert pgq.jobs.count() == {("work", "queued"): 2}


def test_twenty_threads_that_use_it_first_at_once_share_one_pool(dsn: str) -> None:
    together = threading.Barrier(20)

    def produce(pgq: PgQueuer) -> list[int]:
        together.wait(30)
        return [pgq.enqueue("work") for _ in range(10)]

    with PgQueuer.from_dsn(dsn, settings=Settings(pool_size=3)) as pgq, ThreadPoolExecutor(20) as threads:
        ids = [job_id for produced in [threads.submit(produce, pgq) for _ in range(20)] for job_id in produced.result()]
        assert 1 <= backends(dsn) <= 3
        assert len(set(ids)) == 200
        assert pgq.jobs.count() == {("work", "queued"): 200}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_parent_and_child_of_a_fork_both_go_on(dsn: str) -> None:
    script = """
import os, signal, sys, threading
from pgq_sync import PgQueuer
pgq = PgQueuer.from_dsn()
pgq.entrypoint("child")(lambda job: None)
pgq.enqueue("parent")
stop = threading.Event()
def produce():
    while not stop.is_set():
        pgq.enqueue("thread")
thread = threading.Thread(target=produce)
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs does not end well
        pgq.enqueue("child")
        pgq.drain()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0, "a child failed"
stop.set()
thread.join()
pgq.enqueue("parent")
counts = pgq.jobs.count()
print(counts["parent", "queued"], counts["child", "succeeded"], counts["thread", "queued"] > 0)
pgq.close()
"""
    assert run_script(script, PGQ_DSN=dsn) == "2 10 True\n"


def test_what_the_caller_gave_is_left_open(dsn: str) -> None:
    with ConnectionPool(dsn, min_size=1, open=True) as pool, psycopg.connect(dsn, autocommit=True) as connection:
        for pgq in (PgQueuer.from_psycopg_pool(pool), PgQueuer.from_psycopg_connection(connection)):
            pgq.entrypoint("work")(handler)
            with pgq:
                pgq.enqueue("work")
                assert pgq.drain().counts == {"succeeded": 1}
        assert not pool.closed
        connection.execute("select 1")


def test_in_memory_there_is_no_schema_and_without_an_entrypoint_no_worker() -> None:
    with pytest.raises(ConfigError, match="in-memory PgQueuer has no schema"):
        _ = PgQueuer.in_memory().schema
    with pytest.raises(ConfigError, match="no entrypoint is registered: decorate a function"):
        PgQueuer.in_memory().worker()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"entrypoints": ["work", "wrok"]}, r"entrypoints \['wrok'\] are not registered; known: work"),
        ({"max_jobs": 0}, "max_jobs=0: a whole number from 1 up"),
        ({"concurrency": 0}, "concurrency=0: a whole number from 1 up"),
        ({"batch_size": 0}, "batch_size=0: a whole number from 1 up"),
        ({"poll_intervall": 5}, "no setting 'poll_intervall'; did you mean 'poll_interval'"),
        ({"queues": "mail"}, "queues='mail'"),
        ({"queues": [""]}, "queues='' has 0 characters"),
        ({"name": ""}, "name='' has 0 characters"),
        ({"entrypoints": "work"}, "entrypoints"),
        ({"entrypoints": []}, r"entrypoints=\[\]: a list of names is accepted, or None for all"),
        ({"queues": []}, r"queues=\[\]: a list of names is accepted, or None for all"),
    ],
)
def test_a_worker_refuses_options_that_cannot_be_used(options: dict[str, Any], complaint: str) -> None:
    pgq = PgQueuer.in_memory(settings=Settings())
    pgq.entrypoint("work")(handler)
    with pytest.raises(ConfigError, match=complaint):
        pgq.worker(**options)
    with pytest.raises(TypeError, match=r"drain\(\) has its mode, and takes no mode='continuous'"):
        pgq.drain(mode="continuous")


def test_a_worker_starts_once_and_may_stop_at_any_time(either: PgQueuer) -> None:
    either.entrypoint("work")(handler)
    either.enqueue("work")
    assert either.worker().stop().counts == {}
    worker = either.worker()
    with worker:
        with pytest.raises(RuntimeError, match=r"starts once.*: make a new one with pgq\.worker\(\)"):
            worker.start()
        wait_until(lambda: either.jobs.count() == {("work", "succeeded"): 1})
    assert worker.stop().counts == {"succeeded": 1}
    with pytest.raises(RuntimeError, match="starts once"):
        worker.run()


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (PgQueuer.from_dsn, 5, "dsn must be a str or None, not int"),
        (PgQueuer.from_dsn, b"password=hunter2", "dsn must be a str or None, not bytes"),
        (PgQueuer.from_psycopg_pool, None, "pool must be a psycopg_pool.ConnectionPool, not NoneType"),
        (PgQueuer.from_psycopg_pool, AsyncConnectionPool, "pool must be a psycopg_pool.ConnectionPool, not type"),
        (PgQueuer.from_psycopg_connection, "password=hunter2", "connection must be a psycopg.Connection, .* not str"),
    ],
)
def test_what_no_connection_can_be_made_from_is_refused_at_once_and_not_shown(
    make: Callable[[Any], PgQueuer], given: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message) as refused:
        make(given)
    assert "hunter2" not in str(refused.value)


def test_a_script_that_closes_nothing_ends_without_waiting_for_its_pool(dsn: str) -> None:
    script = """
import atexit, sys, threading
from pgq_sync import PgQueuer

atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # it runs last
pgq = PgQueuer.from_dsn(sys.argv[1])
pgq.enqueue("work")
"""
    done = subprocess.run([sys.executable, "-c", script, dsn], timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['MainThread']\n", "")
