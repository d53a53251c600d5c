"""The options of `pgq-sync worker`, and how it says that it cannot start."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer, Settings
from tests.cli.console import Console

APPLICATION = """
import sys, threading
from pgq_sync import PgQueuer
pgq = PgQueuer.from_dsn()
together = threading.Barrier(3)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # at once, so that threads do not share lines

@pgq.entrypoint("fetch")
def fetch(job):
    say("fetched", job.payload)

@pgq.entrypoint("send", queue="mail")
def send(job):
    say("sent", job.payload)

@pgq.entrypoint("meet")
def meet(job):
    together.wait(10)

@pgq.schedule("cleanup", "@hourly")
def cleanup(schedule):
    pass
"""
DRAIN = ("worker", "shop:pgq", "--mode", "drain")


@pytest.fixture
def shop(console: Console) -> Console:
    console.write("shop.py", APPLICATION)
    return console


def set_version(dsn: str, version: int) -> None:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute("update pgq_version set version = %s", [version])


def test_a_drain_ends_when_nothing_is_left_to_do_now(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint="fetch", payload=str(number)) for number in range(20))
    pgq.enqueue("fetch", execute_after=timedelta(hours=1))

    done = shop.run(*DRAIN)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == sorted(f"fetched b'{number}'" for number in range(20))
    assert done.stderr.splitlines()[-1] == "done: 20 succeeded"
    assert pgq.jobs.count() == {("fetch", "succeeded"): 20, ("fetch", "queued"): 1}


def test_a_drain_of_nothing_ends_at_once(shop: Console) -> None:
    assert shop.run(*DRAIN).stderr.splitlines()[-1] == "done: no jobs"


def test_it_stops_after_so_many_jobs(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint="fetch") for _ in range(5))
    done = shop.run("worker", "shop:pgq", "--max-jobs", "3")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "done: 3 succeeded")
    assert pgq.jobs.count() == {("fetch", "succeeded"): 3, ("fetch", "queued"): 2}


@pytest.mark.parametrize(
    ("options", "served"),
    [
        ((), ["fetched b'default'", "fetched b'other'", "sent b'mail'"]),
        (("--queue", "mail"), ["sent b'mail'"]),
        (("-q", "mail", "-q", "other"), ["fetched b'other'", "sent b'mail'"]),
        (("--entrypoint", "fetch"), ["fetched b'default'", "fetched b'other'"]),
        (("-e", "fetch", "-e", "send"), ["fetched b'default'", "fetched b'other'", "sent b'mail'"]),
        (("-e", "fetch", "-q", "mail"), []),
    ],
)
def test_it_serves_the_queues_and_entrypoints_that_are_named(
    shop: Console, pgq: PgQueuer, options: tuple[str, ...], served: list[str]
) -> None:
    for entrypoint, queue in (("fetch", "default"), ("fetch", "other"), ("send", "mail")):
        pgq.enqueue(entrypoint, queue, queue=queue)
    assert sorted(shop.output(*DRAIN, *options).splitlines()) == served


def test_as_many_jobs_run_at_once_as_are_asked_for(shop: Console, pgq: PgQueuer) -> None:
    pgq.enqueue_many(NewJob(entrypoint="meet") for _ in range(3))
    shop.output(*DRAIN, "--concurrency", "3")
    assert pgq.jobs.count() == {("meet", "succeeded"): 3}


def test_options_come_before_the_environment_and_the_environment_before_the_defaults(shop: Console) -> None:
    for options, environment, slots in (
        ((), {}, 10),
        ((), {"PGQ_CONCURRENCY": "4"}, 4),
        (("--concurrency", "3"), {"PGQ_CONCURRENCY": "4"}, 3),
    ):
        assert f"started: {slots} slots" in shop.run(*DRAIN, *options, **environment).stderr


def test_the_database_may_be_told_by_options(shop: Console, dsn: str) -> None:
    where = ("--dsn", dsn, "--prefix", "shop_", "--schema", "jobs")
    nowhere = {"PGQ_DSN": "host=/nonexistent", "PGQ_PREFIX": "other_"}
    shop.output("install", *where, **nowhere)
    shop.output("enqueue", "fetch", "hello", *where, **nowhere)
    assert shop.output(*DRAIN, *where, **nowhere) == "fetched b'hello'\n"
    with PgQueuer.from_dsn(dsn, settings=Settings(prefix="shop_", schema="jobs")) as pgq:
        assert pgq.jobs.count() == {("fetch", "succeeded"): 1}


def test_a_worker_has_the_name_that_it_is_given(shop: Console) -> None:
    assert "worker the red one started" in shop.run(*DRAIN, "--name", "the red one").stderr


def test_the_log_is_as_loud_as_asked_for(shop: Console) -> None:
    assert shop.run(*DRAIN, "--log-level", "error").stderr == "done: no jobs\n"
    assert " INFO pgq_sync.engine worker " in shop.run(*DRAIN).stderr


@pytest.mark.parametrize(("option", "declared"), [("--scheduler", 1), ("--no-scheduler", 0)])
def test_schedules_are_taken_care_of_unless_declined(shop: Console, pgq: PgQueuer, dsn: str, option: str, declared: int) -> None:
    pgq.enqueue("fetch")
    shop.output("worker", "shop:pgq", "--max-jobs", "1", option)
    with closing(psycopg.connect(dsn)) as connection:
        assert connection.execute("select count(*) from pgq_schedule").fetchone() == (declared,)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--concurrency", "0"), "--concurrency='0': a whole number from 1 up is accepted"),
        (("--concurrency", "many"), "--concurrency='many': a whole number is accepted"),
        (("--batch-size", "0"), "--batch-size='0': a whole number from 1 up is accepted"),
        (("--poll-interval", "soon"), "--poll-interval='soon': a duration such as 30, 2.5, 500ms"),
        (("--poll-interval", "0"), "--poll-interval='0': a positive duration is accepted"),
        (("--shutdown-timeout", "99999999999d"), "--shutdown-timeout='99999999999d': a duration such as"),
        (("--entrypoint", "fletch"), "entrypoints ['fletch'] are not registered; known: fetch, send, meet, cleanup"),
        (("--queue", ""), "queues='' has 0 characters: 1 to 200 are accepted"),
        (("--name", ""), "name='' has 0 characters: 1 to 200 are accepted"),
        (("--dsn", "no dsn"), "--dsn: the DSN cannot be parsed: write postgresql://"),
        (("--prefix", "9"), "--prefix='9': a name of letters, digits and underscores"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_one_line(shop: Console, options: tuple[str, ...], complaint: str) -> None:
    assert complaint in shop.refused(*DRAIN, *options, code=2)


@pytest.mark.parametrize("options", [("--mode", "fast"), ("--max-jobs", "0"), ("--log-level", "loud"), ("--nonsense",)])
def test_an_option_that_does_not_exist_is_refused_with_the_usage(shop: Console, options: tuple[str, ...]) -> None:
    done = shop.run("worker", "shop:pgq", *options)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: pgq-sync worker ")
    assert options[0] in done.stderr.splitlines()[-1]


def test_a_variable_that_cannot_be_used_is_refused_in_one_line(shop: Console) -> None:
    assert shop.refused(*DRAIN, code=2, PGQ_CONCURENCY="3").endswith("did you mean 'concurrency'?")
    assert "PGQ_DSN: the DSN cannot be parsed" in shop.refused(*DRAIN, code=2, PGQ_DSN="no dsn")
    assert "PGQ_NOTIFY='maybe'" in shop.refused(*DRAIN, code=2, PGQ_NOTIFY="maybe")


def test_without_a_database_it_says_how_to_name_one(shop: Console) -> None:
    complaint = shop.refused(*DRAIN, code=2, PGQ_DSN="")
    for way in ("PGQ_DSN", "DATABASE_URL", "PGHOST", "--embedded"):
        assert way in complaint


def test_on_an_empty_database_it_names_the_command_to_run(empty_console: Console) -> None:
    empty_console.write("shop.py", APPLICATION)
    complaint = empty_console.refused(*DRAIN, code=1)
    assert complaint.startswith("there are no pgq_* tables")
    assert complaint.endswith("run `pgq-sync install`")


@pytest.mark.parametrize(("version", "command"), [(99, "`pip install -U pgq-sync`"), (0, "`pgq-sync upgrade`")])
def test_on_a_schema_of_another_version_it_names_the_command_to_run(shop: Console, dsn: str, version: int, command: str) -> None:
    set_version(dsn, version)
    complaint = shop.refused(*DRAIN, code=1)
    assert complaint.startswith(f"the schema has version {version}, this pgq-sync ")
    assert complaint.endswith(command)


def test_a_server_that_cannot_be_reached_ends_it_without_a_traceback_and_without_the_password(shop: Console) -> None:
    done = shop.run(*DRAIN, PGQ_DSN="postgresql://ann:s3cret@127.0.0.1:1/app")
    assert done.returncode == 1
    assert done.stderr.startswith("pgq-sync: connection failed")
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr
