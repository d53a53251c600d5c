"""What the database does for watchers: what it costs those who end jobs, and what becomes of dead watchers' rows."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgq_sync import CompletionWatcher, NewJob, PgQueuer, Settings
from pgq_sync.models import Claim, JobId, Outcome, Settlement
from pgq_sync.storage.connections import OwnPool, connect
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.waker import Waker
from tests.storage.support import MovableClock, ended, hand, query
from tests.storage.test_plans import OneConnection
from tests.waiting import PATIENCE, wait_until

DAYS = timedelta(days=7)
OTHERS = """
    insert into pgq_watch (job_id, watcher_id) select n, gen_random_uuid() from generate_series(1000000, 1100000) as n
"""


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def store(dsn: str, clock: MovableClock) -> Iterator[PostgresStore]:
    with closing(PostgresStore(OwnPool(Settings(), dsn), Names(), clock)) as one:
        yield one


def test_what_dead_watchers_leave_is_swept_and_what_living_ones_renew_stays(
    store: PostgresStore, dsn: str, clock: MovableClock
) -> None:
    query(dsn, "select pgq_enqueue('work') from generate_series(1, 4)")
    waker, living = Waker(), uuid4()
    with store.lookout(uuid4(), waker) as dead, store.lookout(living, waker) as lookout:
        assert dead.register([1, 2]) == {1, 2}
        assert lookout.register([2, 3]) == {2, 3}
        clock.move(minutes=50)
        store.maintain(DAYS)
        assert query(dsn, "select count(*) from pgq_watch") == [(4,)]
        lookout.register([2, 3, 4])
        clock.move(minutes=50)
        store.maintain(DAYS)
        assert query(dsn, "select job_id, watcher_id from pgq_watch order by 1") == [(n, living) for n in (2, 3, 4)]
    waker.close()


def test_to_register_again_soon_writes_nothing(store: PostgresStore, dsn: str, clock: MovableClock) -> None:
    query(dsn, "select pgq_enqueue('work') from generate_series(1, 2)")
    waker = Waker()
    with store.lookout(uuid4(), waker) as lookout:
        lookout.register([1, 2])
        before = query(dsn, "select ctid, xmin, xmax, watched_at from pgq_watch order by 1")
        clock.move(minutes=9)
        lookout.register([1, 2])
        assert query(dsn, "select ctid, xmin, xmax, watched_at from pgq_watch order by 1") == before
        clock.move(minutes=2)
        lookout.register([1, 2])
        assert query(dsn, "select distinct watched_at from pgq_watch") == [(clock.now,)]
    waker.close()


def test_unknown_and_finished_jobs_leave_no_row(store: PostgresStore, dsn: str) -> None:
    query(dsn, "select pgq_enqueue('work')")
    store.operations().cancel([1])
    waker = Waker()
    with store.lookout(uuid4(), waker) as lookout:
        assert lookout.register([1, 5]) == set()
        assert query(dsn, "select count(*) from pgq_watch") == [(0,)]
        looked = lookout.look([1, 5])
        assert ([each.job_id for each in looked.ended], list(looked.nowhere)) == ([1], [5])
    waker.close()


@pytest.fixture(params=["force_generic_plan", "force_custom_plan", "auto"])
def connection(request: pytest.FixtureRequest, dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """One of the engine's kind, on which each statement is prepared."""
    query(dsn, "alter table pgq_watch set (autovacuum_enabled = off)")
    with closing(connect(dsn, "test")) as one:
        one.prepare_threshold = 0
        one.execute(f"set plan_cache_mode to {request.param}".encode())
        yield one


@pytest.mark.parametrize("watched", ["nobody", "others", "others, since a moment"])
def test_who_ends_jobs_reads_no_more_of_the_watched_ones_than_concerns_him(
    connection: psycopg.Connection[Any], dsn: str, watched: str
) -> None:
    if watched == "others":
        query(dsn, OTHERS)
    store = PostgresStore(OneConnection(connection), Names())
    query(dsn, "select pgq_enqueue('work') from generate_series(1, 1000)")
    with hand(PostgresStore(OwnPool(Settings(), dsn), Names()), "work") as one:
        for turn in range(10):
            if turn == 7 and watched == "others, since a moment":
                query(dsn, OTHERS)
            claims = one.claim(30)
            halves: tuple[tuple[Any, list[Claim]], ...] = (("succeeded", claims[:15]), ("held", claims[15:]))
            for status, part in halves:
                settlements = [Settlement(claim, Outcome(status=status)) for claim in part]
                assert read_by(connection, partial(store.settle, one.worker.worker_id, settlements)) == (0, 0)


def test_a_read_would_be_counted(connection: psycopg.Connection[Any], dsn: str) -> None:
    query(dsn, OTHERS)
    assert read_by(connection, lambda: connection.execute("select count(*) from pgq_watch where watched_at < now()")) != (0, 0)


def read_by(connection: psycopg.Connection[Any], act: Any) -> tuple[int, int]:
    """How often a transaction reads the whole table of watched jobs, and how many of its rows."""
    counters = """
        select coalesce(seq_scan, 0), coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
        from pg_stat_xact_user_tables where relname = 'pgq_watch'
    """
    connection.execute("begin")
    act()
    ((scans, rows),) = connection.execute(counters, prepare=False).fetchall()
    connection.execute("commit")
    return scans, rows


@contextmanager
def listening(dsn: str, channel: str) -> Iterator[list[str]]:
    """What is notified on a channel meanwhile; complete only after the block."""
    heard: list[str] = []
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.add_notify_handler(lambda notification: heard.append(notification.payload))
        connection.execute(f'listen "{channel}"'.encode())
        yield heard
        query(dsn, "select pg_notify(%s, 'end')", [channel])
        wait_until(lambda: connection.execute("select 1") and "end" in heard)
        heard.remove("end")


def test_only_ends_of_watched_jobs_are_told_once_a_statement_and_to_no_worker(pgq: PgQueuer, dsn: str) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(10))
    channel = Names().channel
    with hand(pgq.store, "work") as one, listening(dsn, channel) as workers, listening(dsn, channel + "_ended") as watchers:
        claims = one.claim()
        one.settle(claims[:2])
        with CompletionWatcher(pgq) as watcher, CompletionWatcher(pgq) as another:
            futures = [watcher.watch(job_id) for job_id in ids[2:5]] + [another.watch(ids[2])]
            wait_until(lambda: query(dsn, "select count(*) from pgq_watch") == [(4,)])
            one.settle(claims[2:])
            assert not concurrent.futures.wait(futures, PATIENCE).not_done
        assert query(dsn, "select count(*) from pgq_watch") == [(0,)]
    assert watchers == [f'["ended", [{ids[2]}, {ids[3]}, {ids[4]}]]']
    assert workers == []


ENDS: dict[str, tuple[str, Callable[[PgQueuer, JobId], object]]] = {
    "held": ("queued", lambda pgq, job_id: settle(pgq, "held")),
    "failed": ("queued", lambda pgq, job_id: settle(pgq, "failed")),
    "cancelled": ("queued", lambda pgq, job_id: pgq.jobs.cancel([job_id])),
    "deleted": ("queued", lambda pgq, job_id: pgq.jobs.delete([job_id])),
    "purged": ("queued", lambda pgq, job_id: pgq.jobs.purge()),
    "removed": ("failed", lambda pgq, job_id: pgq.jobs.delete([job_id])),
    "purged from history": ("failed", lambda pgq, job_id: pgq.jobs.purge(status="failed")),
}


def settle(pgq: PgQueuer, status: str) -> None:
    with hand(pgq.store, "work") as one:
        one.settle(one.claim(), status)


@pytest.mark.parametrize("end", ENDS)
def test_every_end_is_told(pgq: PgQueuer, dsn: str, end: str) -> None:
    """A watcher that looks now and then would find them all; it is to learn of them at once."""
    status, act = ENDS[end]
    job_id = pgq.enqueue("work") if status == "queued" else ended(pgq, status)
    query(dsn, "insert into pgq_watch (job_id, watcher_id) values (%s, gen_random_uuid())", [job_id])
    with listening(dsn, Names().channel + "_ended") as watchers:
        act(pgq, job_id)
    assert watchers == [f'["{"removed" if status == "failed" else "ended"}", [{job_id}]]']


def test_an_attempt_that_is_tried_again_is_no_end(pgq: PgQueuer, dsn: str) -> None:
    job_id = pgq.enqueue("work")
    query(dsn, "insert into pgq_watch (job_id, watcher_id) values (%s, gen_random_uuid())", [job_id])
    with listening(dsn, Names().channel + "_ended") as watchers:
        settle(pgq, "retried")
    assert watchers == []
