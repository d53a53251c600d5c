"""Transactions that stay open for long: one that holds back vacuum, and a dump across the change of day."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg

from pgq_sync import Settings
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import Store
from tests.faults.measures import SECOND
from tests.faults.scale import SCALE
from tests.faults.servers import Server
from tests.faults.stage import Stage
from tests.storage.support import Hand, MovableClock, hand

ROUND = 10_000  # jobs
RETENTION = timedelta(days=2)


def test_a_held_back_vacuum_horizon(scene: Stage) -> None:
    scene.fleet.start("work", count=2)
    scene.enqueue(ROUND)
    scene.wait_until_done()
    before = enqueue_singly(scene)
    rounds = 0
    with closing(psycopg.connect(scene.server.dsn)) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from pgq_job")
        opened = time.monotonic()
        while rounds < SCALE.rounds or time.monotonic() - opened < SCALE.held:
            scene.enqueue(ROUND)
            scene.wait_until_done()
            rounds += 1
        after = enqueue_singly(scene)
        reader.execute("select 1")  # still open
        census = scene.conclude()
    assert census.counts == {"succeeded": len(scene.ids)}
    started = {run.job_id: run.started for run in scene.journal.runs()}
    fresh, late = (statistics.median(started[each] - at for each, at in ids.items()) / SECOND for ids in (before, after))
    # Not a benchmark: a claim that walks past the dead entries of all finished jobs takes tens of times as long.
    assert late < 4 * fresh + 0.01, (rounds, fresh, late)


def enqueue_singly(scene: Stage) -> dict[int, int]:
    """Enqueues some jobs, one after the other has ended; by id when, in nanoseconds."""
    asked_at = {}
    for _ in range(21):
        at = time.time_ns()
        asked_at[scene.enqueue(1)[0]] = at
        scene.wait_until_done()
    return asked_at


def test_a_dump_across_the_change_of_day(own_server: Server) -> None:
    clock = MovableClock()
    with store(own_server, clock) as days, dump(own_server):
        pruning = threading.Event()
        keeper = threading.Thread(target=prune, args=(days, pruning))
        with hand(days, "work") as worker:
            finish_some(own_server, worker, clock, 1)  # makes the partitions of these days
            keeper.start()
            try:
                seconds = []
                for _ in range(5):
                    clock.move(days=1)
                    seconds += finish_some(own_server, worker, clock, 25)
            finally:
                pruning.set()
                keeper.join()
    seconds.sort()
    assert seconds[int(0.99 * len(seconds))] < SCALE.finish, seconds[-10:]


def test_jobs_finish_after_ten_days_without_anybody_who_looks_after_history(own_server: Server) -> None:
    clock = MovableClock()
    with store(own_server, clock) as days, hand(days, "work") as worker:
        finish_some(own_server, worker, clock, 1)
        clock.move(days=10)
        with dump(own_server):
            assert finish_some(own_server, worker, clock, 1)[0] < 2
            assert max(finish_some(own_server, worker, clock, 20)) < SCALE.finish
    assert own_server.query("select count(*) from pgq_history") == [(22,)]
    assert own_server.query("select count(*) from pgq_job") == [(0,)]


@contextmanager
def store(server: Server, clock: MovableClock) -> Iterator[Store]:
    """A store whose rows have the clock's time."""
    made = PostgresStore(OwnPool(Settings(), server.dsn), Names(), clock)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def dump(server: Server) -> Iterator[psycopg.Connection[Any]]:
    """An open transaction that has locked history as pg_dump does: every partition that there is."""
    with closing(psycopg.connect(server.dsn)) as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute("lock table pgq_history in access share mode")
        yield connection


def prune(store: Store, stopping: threading.Event) -> None:
    """A keeper in a hurry."""
    while not stopping.wait(0.05):
        store.maintain(RETENTION)


def finish_some(server: Server, worker: Hand, clock: MovableClock, count: int) -> list[float]:
    """Enqueues, claims and finishes so many jobs, one after the other; the seconds that each finish took."""
    enqueue = "insert into pgq_job (entrypoint, execute_after, created_at) select 'work', %s, %s from generate_series(1, %s)"
    server.query(enqueue, [clock.now, clock.now, count])
    claims = worker.claim()
    assert len(claims) == count
    seconds = []
    for claim in claims:
        started = time.monotonic()
        settled = worker.settle(claim)
        seconds.append(time.monotonic() - started)
        assert [each.claim.job.id for each in settled.written] == [claim.job.id]
    return seconds
