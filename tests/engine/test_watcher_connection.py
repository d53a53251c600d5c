"""A watcher's connection: how little it asks, and what happens when it is lost, blocked, deaf or refused."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from pgq_sync import Completion, CompletionWatcher, ConfigError, JobNotFound, NewJob, PgQueuer, SchemaError, Settings
from pgq_sync.engine import vigil
from pgq_sync.storage.names import Names
from tests.network.proxy import Proxy, proxied
from tests.storage.support import hand, query
from tests.waiting import PATIENCE, wait_until

NEVER = timedelta(days=1)
CUT = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'pgq-sync listener'
"""
SESSIONS = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgq-sync listener'"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every statement that watchers' threads send."""
    sent: list[bytes] = []
    execute = psycopg.Cursor.execute

    def noted(cursor: Any, statement: Any, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == "pgq-watcher":
            sent.append(statement)
        return execute(cursor, statement, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    return sent


@pytest.fixture
def told_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at again that was not told."""
    monkeypatch.setattr(vigil, "FIRST_AGAIN", 86_400.0)


def watched(pgq: PgQueuer, *ids: int) -> None:
    """Waits until the jobs are watched, as everybody can see."""
    wait_until(lambda: {row[0] for row in pgq_watch(pgq)}.issuperset(ids))


def pgq_watch(pgq: PgQueuer) -> list[tuple[Any, ...]]:
    with pgq.backend.connections.session() as session:
        return session.run("select job_id from pgq_watch")


def sessions(dsn: str) -> int:
    return int(query(dsn, SESSIONS)[0][0])


@pytest.mark.alone  # it looks some ten times a second, however slowly they end
def test_ten_thousand_jobs_that_end_in_many_small_batches_take_few_statements(pgq: PgQueuer, statements: list[bytes]) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(10_000))
    with CompletionWatcher(pgq) as watcher, hand(pgq.store, "work") as one:
        futures = [watcher.watch(job_id) for job_id in ids]
        watched(pgq, *ids)
        claims = one.claim(10_000)
        for start in range(0, 10_000, 25):
            one.settle(claims[start : start + 25])
        done, pending = concurrent.futures.wait(futures, PATIENCE)
    assert not pending
    assert {future.result().job_id for future in done} == set(ids)
    assert {future.result().status for future in done} == {"succeeded"}
    assert len(statements) < 100


def test_a_finish_is_told_without_any_look(pgq: PgQueuer, told_only: None) -> None:
    pgq.entrypoint("work")(lambda job: None)
    with CompletionWatcher(pgq, NEVER) as watcher, pgq.worker():
        for _ in range(20):
            watcher.watch(job_id := pgq.enqueue("later"))
            watched(pgq, job_id)
            with hand(pgq.store, "later") as one:
                one.settle(one.claim())
            assert watcher.wait_for(job_id, PATIENCE).status == "succeeded"


def test_hundreds_of_jobs_of_one_batch_are_told_without_any_look(pgq: PgQueuer, told_only: None) -> None:
    query_ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(1_000))
    with CompletionWatcher(pgq, NEVER) as watcher, hand(pgq.store, "work") as one:
        futures = [watcher.watch(job_id) for job_id in query_ids]
        watched(pgq, *query_ids)
        one.settle(one.claim())
        assert not concurrent.futures.wait(futures, PATIENCE).not_done


def test_every_end_is_told_without_any_look(pgq: PgQueuer, told_only: None) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(6))
    with CompletionWatcher(pgq, NEVER) as watcher, hand(pgq.store, "work") as one:
        futures = [watcher.watch(job_id) for job_id in ids]
        watched(pgq, *ids)
        pgq.jobs.cancel(ids[4:5])
        pgq.jobs.delete(ids[5:6])
        for claim, status in zip(one.claim(), ("succeeded", "failed", "cancelled", "held"), strict=True):
            one.settle(claim, status)
        statuses = [future.result(PATIENCE).status for future in futures]
    assert statuses == ["succeeded", "failed", "cancelled", "held", "cancelled", "deleted"]


def test_a_success_of_which_nothing_is_kept_is_told_without_any_look(pgq: PgQueuer, told_only: None) -> None:
    pgq.entrypoint("work", keep_history=False)(lambda job: None)
    with CompletionWatcher(pgq, NEVER) as watcher:
        future = watcher.watch(job_id := pgq.enqueue("work"))
        watched(pgq, job_id)
        pgq.drain()
        assert future.result(PATIENCE) == Completion(job_id=job_id, entrypoint=None, status="succeeded", attempts=None)


def test_a_finish_that_did_not_see_the_watcher_is_found_all_the_same(pgq: PgQueuer, dsn: str) -> None:
    job_id = pgq.enqueue("work")
    with closing(psycopg.connect(dsn)) as connection, CompletionWatcher(pgq, NEVER) as watcher:
        pgq.on(connection).jobs.cancel([job_id])  # its statement has ended before anybody watches, its transaction has not
        future = watcher.watch(job_id)
        watched(pgq, job_id)
        assert not future.done()
        connection.commit()
        assert future.result(PATIENCE).status == "cancelled"


def test_an_uncommitted_job_is_not_found_on_the_callers_connection_either(dsn: str) -> None:
    with (
        closing(psycopg.connect(dsn)) as connection,
        PgQueuer.from_psycopg_connection(connection, settings=Settings()) as pgq,
    ):
        job_id = pgq.enqueue("work")
        with pytest.raises(JobNotFound):
            pgq.wait(job_id, PATIENCE)
        connection.commit()
        with pytest.raises(TimeoutError):
            pgq.wait(job_id, 0.05)
        pgq.jobs.cancel([job_id])
        connection.commit()
        assert pgq.wait(job_id, PATIENCE).status == "cancelled"


def test_a_watcher_whose_connection_is_killed_goes_on(pgq: PgQueuer, dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(2))
    with CompletionWatcher(pgq, refresh_interval=2) as watcher:
        futures = [watcher.watch(job_id) for job_id in ids]
        watched(pgq, *ids)
        for job_id, future in zip(ids, futures, strict=True):
            query(dsn, CUT)
            pgq.jobs.cancel([job_id])
            assert future.result(2).status == "cancelled"
        assert watcher.wait_for(ids[0], PATIENCE).status == "cancelled"
    assert not caplog.records or {record.levelname for record in caplog.records} == {"WARNING"}


@contextmanager
def distant(dsn: str) -> Iterator[tuple[Proxy, PgQueuer]]:
    """An application behind a network with switches."""
    with proxied(dsn) as proxy, PgQueuer.from_dsn(proxy.dsn, settings=Settings()) as application:
        yield proxy, application


def test_while_the_database_is_away_nothing_is_lost_and_one_line_is_logged(
    dsn: str, pgq: PgQueuer, told_only: None, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(2))
    with distant(dsn) as (proxy, application), CompletionWatcher(application, NEVER) as watcher:
        one = watcher.watch(first)
        watched(pgq, first)
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: caplog.records)
        other = watcher.watch(second)
        pgq.jobs.cancel([first, second])
        with pytest.raises(TimeoutError):
            watcher.wait_for(first, 1)
        assert not one.done()
        assert not other.done()
        proxy.restore()
        assert (one.result(PATIENCE).status, other.result(PATIENCE).status) == ("cancelled", "cancelled")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a watcher of jobs lost the database" in caplog.text


def test_a_watcher_leaves_at_once_while_its_statement_waits(pgq: PgQueuer, dsn: str) -> None:
    job_id = pgq.enqueue("work")
    with closing(psycopg.connect(dsn)) as connection:
        connection.execute("lock table pgq_job in access exclusive mode")
        with CompletionWatcher(pgq) as watcher:
            future = watcher.watch(job_id)
            wait_until(lambda: query(dsn, "select pid from pg_stat_activity where wait_event_type = 'Lock'"))
            started = time.monotonic()
        assert time.monotonic() - started < 2
        assert future.cancelled()
        wait_until(lambda: sessions(dsn) == 0)


def test_a_watcher_leaves_at_once_while_the_network_is_silent(dsn: str, pgq: PgQueuer) -> None:
    job_id = pgq.enqueue("work")
    with distant(dsn) as (proxy, application), CompletionWatcher(application, refresh_interval=0.2) as watcher:
        future = watcher.watch(job_id)
        watched(pgq, job_id)
        proxy.swallow()
        wait_until(lambda: waits_for_an_answer(watcher))
        started = time.monotonic()
        watcher.close()
        assert time.monotonic() - started < 2
        assert future.cancelled()
        wait_until(lambda: "pgq-watcher" not in [thread.name for thread in threading.enumerate()])


def waits_for_an_answer(watcher: CompletionWatcher) -> bool:
    lookouts: list[Any] = [watched.vigil._lookout for watched in watcher._watched.values()]
    return [lookout._connection.info.transaction_status for lookout in lookouts] == [TransactionStatus.ACTIVE]


def test_nothing_is_left_behind(pgq: PgQueuer, dsn: str) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(100))
    pgq.jobs.cancel(ids[:50])
    for _ in range(3):
        with CompletionWatcher(pgq) as watcher:
            futures = [watcher.watch(job_id) for job_id in ids]
            with pytest.raises(JobNotFound):
                watcher.wait_for(999_999)
            assert len(concurrent.futures.wait(futures[:50], PATIENCE).done) == 50
            watched(pgq, *ids[50:])
    assert pgq_watch(pgq) == []
    wait_until(lambda: "pgq-watcher" not in [thread.name for thread in threading.enumerate()])
    wait_until(lambda: sessions(dsn) == 0)


def test_a_cancelled_future_ends_the_watch(pgq: PgQueuer) -> None:
    first, second = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(2))
    with CompletionWatcher(pgq, refresh_interval=0.1) as watcher:
        watcher.watch(first)
        future = watcher.watch(second)
        watched(pgq, first, second)
        future.cancel()
        wait_until(lambda: pgq_watch(pgq) == [(first,)])


def test_the_shared_connection_goes_when_nobody_waits(pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "IDLE", 0.2)
    job_id = pgq.enqueue("work")
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        waits = [pool.submit(pgq.wait, job_id) for _ in range(30)]
        watched(pgq, job_id)
        assert sessions(dsn) == 1
        pgq.jobs.cancel([job_id])
        assert {wait.result(PATIENCE).status for wait in waits} == {"cancelled"}
    wait_until(lambda: sessions(dsn) == 0)
    assert pgq.wait(job_id, PATIENCE).status == "cancelled"


def test_what_waiting_does_not_mend_is_told_to_those_who_wait(empty_dsn: str, dsn: str) -> None:
    with PgQueuer.from_dsn(empty_dsn, settings=Settings()) as pgq:
        for _ in range(2):
            with pytest.raises(SchemaError, match="pgq-sync install"):
                pgq.wait(1, PATIENCE)
        pgq.schema.install()
        with pytest.raises(JobNotFound):
            pgq.wait(1, PATIENCE)
    with PgQueuer.from_dsn(settings=Settings()) as nowhere, pytest.raises(ConfigError, match="no database is named"):
        nowhere.wait(1, PATIENCE)


@pytest.mark.parametrize("message", ["", "{}", '["ended", ["x"]]', '["paused", [1]]', 100 * "["])
def test_a_strangers_notification_harms_no_watcher(pgq: PgQueuer, dsn: str, message: str) -> None:
    job_id = pgq.enqueue("work")
    with CompletionWatcher(pgq, NEVER) as watcher:
        future = watcher.watch(job_id)
        watched(pgq, job_id)
        query(dsn, "select pg_notify(%s, %s)", [Names().channel + "_ended", message])
        query(dsn, "select pg_notify(%s, %s)", [Names().channel + "_ended", f'["ended", [{job_id}, 5]]'])
        assert not future.done()
        pgq.jobs.cancel([job_id])
        assert future.result(PATIENCE).status == "cancelled"
