"""The application's own PgQueuer in another place, for the length of a block."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import CompletionWatcher, Job, PgQueuer, Settings, testing
from pgq_sync.storage.store import Store
from pgq_sync.testing import in_memory, on_database
from pgq_sync.testing.databases import create_database, drop_database
from tests.waiting import PATIENCE, wait_until

NOWHERE = "host=/nonexistent dbname=production"


@pytest.fixture
def application() -> PgQueuer:
    """As a module of the application has it: its database must never be reached by a test."""
    pgq = PgQueuer.from_dsn(NOWHERE, settings=Settings(listen_dsn=NOWHERE))
    pgq.entrypoint("work")(lambda job: None)
    return pgq


@pytest.fixture(params=["memory", "database"])
def elsewhere(request: pytest.FixtureRequest, application: PgQueuer) -> AbstractContextManager[PgQueuer]:
    return in_memory(application) if request.param == "memory" else on_database(application, request.getfixturevalue("dsn"))


def test_within_the_block_its_functions_enqueue_and_run_there(
    application: PgQueuer, elsewhere: AbstractContextManager[PgQueuer]
) -> None:
    with elsewhere as pgq:
        assert pgq is application
        assert application.store.for_engine() is not None
        application.enqueue("work")
        testing.assert_enqueued(application, "work")
        assert application.drain().counts == {"succeeded": 1}
        application.enqueue("work")
        assert testing.drain(application).counts == {"succeeded": 1}
        assert application.jobs.count() == {("work", "succeeded"): 2}


def test_in_memory_each_block_begins_with_nothing(application: PgQueuer) -> None:
    for _ in range(2):
        with in_memory(application):
            assert testing.enqueued(application) == []
            application.enqueue("work")


def test_blocks_in_each_other_end_in_their_order(application: PgQueuer, dsn: str) -> None:
    own = application.backend
    with in_memory(application):
        application.enqueue("work", "outer")
        outer = application.store
        with pytest.raises(ZeroDivisionError), on_database(application, dsn):
            application.enqueue("work", "inner")
            with in_memory(application):
                assert testing.enqueued(application) == []
            assert testing.assert_enqueued(application, "work").payload == b"inner"
            _ = 1 / 0
        assert application.store is outer
        assert [job.payload for job in testing.enqueued(application)] == [b"outer"]
    assert application.backend is own


def test_what_was_made_before_is_there_again(dsn: str, server: str, template: str) -> None:
    other = create_database(server, template)
    with PgQueuer.from_dsn(dsn, settings=Settings()) as pgq:
        pgq.enqueue("work", "own")
        store = pgq.store
        with on_database(pgq, other):
            pgq.enqueue("work", "other")
            assert testing.assert_enqueued(pgq, "work").payload == b"other"
        assert pgq.store is store
        assert testing.assert_enqueued(pgq, "work", count=1)[0].payload == b"own"
    drop_database(server, other)


def test_settings_may_be_given(application: PgQueuer, dsn: str) -> None:
    with in_memory(application, settings=Settings(concurrency=3)):
        assert (application.settings.concurrency, application.worker().info.slots) == (3, 3)
    with on_database(application, dsn, settings=Settings(concurrency=4)):
        assert application.settings.concurrency == 4
    with on_database(application, dsn):
        assert application.settings == Settings()
    assert application.settings.listen_dsn == NOWHERE


def test_the_clock_is_the_applications_wherever_it_is(application: PgQueuer) -> None:
    with in_memory(application), testing.clock(application) as clock, in_memory(application):
        clock.advance(3600)
        assert application.store.operations().now() == clock.now()


def test_a_worker_that_still_runs_at_the_end_is_stopped_first(
    application: PgQueuer, elsewhere: AbstractContextManager[PgQueuer]
) -> None:
    """What its last job enqueues lands there, and not in the application's own database."""
    started, go_on = threading.Event(), threading.Event()
    children: list[Any] = []

    def let_go_when_it_stops(store: Store) -> None:
        wait_until(lambda: [worker.state for worker in store.workers()] == ["stopping"])
        go_on.set()

    @application.entrypoint("long")
    def long(job: Job) -> None:
        started.set()
        assert go_on.wait(PATIENCE)
        children.append(application.enqueue("child"))

    with elsewhere:
        store = application.store
        worker = application.worker(beat_interval=timedelta(seconds=0.05))
        worker.start()
        application.enqueue("long")
        assert started.wait(PATIENCE)
        threading.Thread(target=let_go_when_it_stops, args=(store,)).start()
    assert worker.stop().counts == {"succeeded": 1}
    assert len(children) == 1
    assert application.store is not store
    store.close()


def test_a_thread_that_goes_on_uses_what_is_there_then(dsn: str) -> None:
    within, after = threading.Event(), threading.Event()
    with PgQueuer.from_dsn(dsn, settings=Settings()) as pgq:

        def produce() -> None:
            pgq.enqueue("work", "within")
            within.set()
            assert after.wait(PATIENCE)
            pgq.enqueue("work", "after")

        thread = threading.Thread(target=produce)
        with in_memory(pgq):
            thread.start()
            assert within.wait(PATIENCE)
            assert testing.assert_enqueued(pgq, "work", count=1)[0].payload == b"within"
        after.set()
        wait_until(lambda: testing.enqueued(pgq))
        thread.join(PATIENCE)
        assert testing.assert_enqueued(pgq, "work", count=1)[0].payload == b"after"


def test_a_watcher_that_outlives_the_blocks_tells_of_the_jobs_of_each() -> None:
    pgq = PgQueuer.in_memory()
    pgq.entrypoint("echo", store_result=True)(lambda job: job.payload.decode() if job.payload else None)
    own = pgq.enqueue("echo", "own")
    with CompletionWatcher(pgq) as watcher:
        waits = watcher.watch(own)
        for name in ("first", "second"):
            with in_memory(pgq):
                assert pgq.enqueue("echo", name) == own  # ids begin anew
                testing.drain(pgq)
                assert watcher.wait_for(own, PATIENCE).result == name
        assert not waits.done()
        testing.drain(pgq)
        assert waits.result(PATIENCE).result == "own"
