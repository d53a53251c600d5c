"""`pgq-sync listen`: what wakes the workers, as it happens."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer, Settings
from tests.cli.console import Console, Running


@contextmanager
def listening(console: Console, *options: str) -> Iterator[tuple[Running, str]]:
    """A listener that hears what comes from now on, and its channel."""
    with console.start("listen", *options) as running:
        line = running.stderr.wait_for("listening on ")
        yield running, line.split()[-1]


def test_a_notification_is_printed_as_a_line_of_json(console: Console, pgq: PgQueuer) -> None:
    with listening(console, "--count", "1") as (running, _):
        pgq.enqueue("fetch", priority=3, queue="mail")
        heard = json.loads(running.stdout.wait_for("fetch"))
        assert running.ended() == 0

    assert heard["jobs"] == 1
    (lane,) = heard["lanes"]
    assert (lane["queue"], lane["entrypoint"], lane["priority"]) == ("mail", "fetch", 3)
    assert len(running.stdout.all) == 1


def test_it_ends_after_so_many_notifications(console: Console, pgq: PgQueuer) -> None:
    with listening(console, "--count", "2") as (running, _):
        pgq.enqueue("silent", notify=False)
        pgq.enqueue_many(NewJob(entrypoint="first") for _ in range(100))
        pgq.enqueue("second")
        assert running.ended() == 0
    heard = [json.loads(line) for line in running.stdout.all]
    assert [(each["jobs"], each["lanes"][0]["entrypoint"]) for each in heard] == [(100, "first"), (1, "second")]


def test_it_hears_the_installation_that_is_named(console: Console, dsn: str) -> None:
    console.output("install", "--prefix", "shop_")
    with listening(console, "--count", "1", "--prefix", "shop_") as (running, _):
        for prefix in ("pgq_", "shop_"):
            with PgQueuer.from_dsn(dsn, settings=Settings(prefix=prefix)) as pgq:
                pgq.enqueue(f"for_{prefix}")
        assert running.ended() == 0
    assert "for_shop_" in str(running.stdout)
    assert "for_pgq_" not in str(running.stdout)


def test_it_ends_after_the_time_that_is_given(console: Console) -> None:
    done = console.run("listen", "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (0, "")


def test_what_somebody_else_notifies_does_not_end_it(console: Console, pgq: PgQueuer, dsn: str) -> None:
    with listening(console) as (running, channel):
        with closing(psycopg.connect(dsn, autocommit=True)) as connection:
            connection.execute("select pg_notify(%s, 'hello')", [channel])
        pgq.enqueue("fetch")
        running.stdout.wait_for("fetch")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_an_interrupt_ends_it_without_a_traceback(console: Console) -> None:
    with listening(console) as (running, _):
        running.signal(signal.SIGINT)
        assert running.ended() in (0, 130)
    assert "Traceback" not in str(running.stderr)


def test_a_count_or_time_out_of_range_is_refused(offline: Console) -> None:
    assert offline.run("listen", "--count", "0").returncode == 2
    assert offline.run("listen", "--timeout", "-1").returncode == 2
