"""Completion inside the handler's transaction: what it did in the database and the job's end, both or neither."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import Context, DatabaseRetry, Hold, Job, JobRecord, JobTimeout, PgQueuer, Retry, Settings
from pgq_sync.engine import watchdog
from tests.entrypoints.support import record_of, run_one
from tests.network.proxy import proxied
from tests.storage.support import query, wait_until_blocked_by
from tests.waiting import PATIENCE, wait_until

CONNECTED = "select pid from pg_stat_activity where application_name = 'pgq-sync handler' and datname = current_database()"
TAKE_OVER = "update pgq_job set worker_id = gen_random_uuid(), fence = 1 where id = %s"


@pytest.fixture
def effects(dsn: str) -> Callable[[], list[int]]:
    """The ids of the jobs whose work is in the database."""
    query(dsn, "create table effect (job_id bigint, xid xid8 default pg_current_xact_id())")
    return lambda: [job_id for (job_id,) in query(dsn, "select job_id from effect order by job_id")]


def work(job: Job, context: Context) -> None:
    context.connection.execute("insert into effect values (%s)", [job.id])


def run(pgq: PgQueuer, handler: Callable[[Job, Context], Any], **options: Any) -> JobRecord:
    return run_one(pgq, handler, transactional=True, **options)


def test_the_work_and_the_completion_are_one_transaction(pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]) -> None:
    record = run(pgq, work)

    assert (record.status, effects()) == ("succeeded", [record.id])
    assert query(dsn, "select xid::xid = pgq_history.xmin from effect, pgq_history") == [(True,)]


def test_they_are_counted_like_others(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    pgq.entrypoint("work", transactional=True)(work)
    pgq.entrypoint("other")(lambda job: None)
    for _ in range(20):
        pgq.enqueue("work")
        pgq.enqueue("other")
    assert pgq.drain().counts == {"succeeded": 40}
    assert len(effects()) == 20


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (ValueError("no"), "failed"),
        (SystemExit(), "failed"),
        (Retry(3600), "queued"),
        (Hold(), "held"),
        (psycopg.Rollback(), "failed"),
    ],
)
def test_whatever_a_handler_raises_undoes_its_work(
    pgq: PgQueuer, effects: Callable[[], list[int]], ending: BaseException, status: str
) -> None:
    pgq.entrypoint("child")(lambda job: None)

    def failing(job: Job, context: Context) -> None:
        work(job, context)
        context.enqueue("child")
        raise ending

    record = run(pgq, failing)
    assert (record.status, effects()) == (status, [])
    assert [each.entrypoint for each in pgq.jobs.find()] == ["work"]
    assert record.errors[0]["type"].endswith(type(ending).__name__)


def test_a_result_that_cannot_be_stored_undoes_the_work(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    def returning(job: Job, context: Context) -> object:
        work(job, context)
        return object()

    assert run(pgq, returning, store_result=True).status == "failed"
    assert effects() == []


def test_results_are_kept_as_ever(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    def returning(job: Job, context: Context) -> int:
        work(job, context)
        return 7

    assert run(pgq, returning, store_result=True).result == 7


def test_a_success_that_is_not_to_be_remembered_is_not(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    pgq.entrypoint("work", transactional=True, keep_history=False)(work)
    job_id = pgq.enqueue("work")
    assert pgq.drain().counts == {"succeeded": 1}
    assert (effects(), pgq.jobs.get(job_id)) == ([job_id], None)


def test_children_exist_from_the_commit_on(pgq: PgQueuer, dsn: str) -> None:
    """Nothing but the child is in this transaction, which enqueuing opens."""
    enqueued, go_on = threading.Event(), threading.Event()
    children: list[Job] = []
    pgq.entrypoint("child")(children.append)

    @pgq.entrypoint("parent", transactional=True)
    def parent(job: Job, context: Context) -> None:
        context.enqueue("child", dedupe_key="one")
        assert context.enqueue("child", dedupe_key="one", on_conflict="skip") is None
        enqueued.set()
        assert go_on.wait(PATIENCE)

    pgq.enqueue("parent")
    with pgq.worker():
        assert enqueued.wait(PATIENCE)
        assert pgq.jobs.count() == {("parent", "running"): 1}
        go_on.set()
        wait_until(lambda: pgq.jobs.count() == {("parent", "succeeded"): 1, ("child", "succeeded"): 1})
    assert len(children) == 1


def test_a_handler_that_uses_no_connection_takes_none(pgq: PgQueuer, dsn: str) -> None:
    pgq.entrypoint("idle", transactional=True)(lambda job: None)
    pgq.enqueue("idle")
    with pgq.worker():
        wait_until(lambda: pgq.jobs.count() == {("idle", "succeeded"): 1})
        assert query(dsn, CONNECTED) == []


def test_a_lost_claim_undoes_the_work_and_writes_nothing(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    def robbed(job: Job, context: Context) -> None:
        work(job, context)
        query(dsn, TAKE_OVER, [job.id])

    pgq.entrypoint("work", transactional=True)(robbed)
    job_id = pgq.enqueue("work")
    assert pgq.drain().counts == {"lost": 1}
    assert (effects(), record_of(pgq, job_id).status, record_of(pgq, job_id).errors) == ([], "running", [])
    assert [record.getMessage() for record in caplog.records if "no longer ours" in record.getMessage()]


def test_a_claim_that_is_lost_while_the_completion_waits_for_its_row_undoes_the_work(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]
) -> None:
    running, go_on = threading.Event(), threading.Event()

    @pgq.entrypoint("work", transactional=True)
    def waiting(job: Job, context: Context) -> None:
        work(job, context)
        running.set()
        assert go_on.wait(PATIENCE)

    job_id = pgq.enqueue("work")
    with pgq.worker() as worker, psycopg.connect(dsn) as rescuer:
        assert running.wait(PATIENCE)
        rescuer.execute(TAKE_OVER.encode(), [job_id])
        go_on.set()
        wait_until_blocked_by(dsn, rescuer.info.backend_pid)
        rescuer.commit()
        assert worker.stop().counts == {"lost": 1}
    assert effects() == []


def test_a_row_that_somebody_has_locked_is_waited_for(pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]) -> None:
    running, go_on = threading.Event(), threading.Event()

    @pgq.entrypoint("work", transactional=True)
    def waiting(job: Job, context: Context) -> None:
        work(job, context)
        running.set()
        assert go_on.wait(PATIENCE)

    job_id = pgq.enqueue("work")
    with pgq.worker() as worker, psycopg.connect(dsn) as somebody:
        assert running.wait(PATIENCE)
        somebody.execute("select from pgq_job where id = %s for update", [job_id])
        go_on.set()
        wait_until_blocked_by(dsn, somebody.info.backend_pid)
        somebody.rollback()
        wait_until(lambda: effects() == [job_id])
        assert worker.stop().counts == {"succeeded": 1}


def test_a_commit_that_succeeded_and_was_not_answered_counts(dsn: str, effects: Callable[[], list[int]]) -> None:
    with proxied(dsn) as proxy, PgQueuer.from_dsn(proxy.dsn, settings=Settings()) as pgq:
        answered: list[threading.Event] = []

        @pgq.entrypoint("work", transactional=True, retry=DatabaseRetry(initial_delay=timedelta()))
        def unlucky(job: Job, context: Context) -> None:
            work(job, context)
            answered.append(proxy.cut_after(b"COMMIT"))

        job_id = pgq.enqueue("work")
        pgq.drain()
        assert answered[0].wait(PATIENCE)
        record = record_of(pgq, job_id)
    assert (record.status, record.attempts, effects()) == ("succeeded", 1, [job_id])


@pytest.mark.parametrize(("retry", "attempts"), [(None, 1), (DatabaseRetry(max_attempts=2, initial_delay=timedelta()), 2)])
def test_a_commit_that_failed_is_a_failed_attempt(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]], retry: DatabaseRetry | None, attempts: int
) -> None:
    query(dsn, "alter table effect add constraint once unique (xid) deferrable initially deferred")

    def twice(job: Job, context: Context) -> None:
        work(job, context)
        work(job, context)

    record = run(pgq, twice, retry=retry)
    assert (record.status, record.attempts, effects()) == ("failed", attempts, [])
    assert record.errors[0]["type"] == "psycopg.errors.UniqueViolation"


def test_a_connection_that_was_lost_before_the_commit_is_a_failed_attempt(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]
) -> None:
    def cut(job: Job, context: Context) -> None:
        work(job, context)
        if job.attempt == 1:
            query(dsn, "select pg_terminate_backend(%s, 10000)", [context.connection.info.backend_pid])

    record = run(pgq, cut, retry=DatabaseRetry(initial_delay=timedelta()))
    assert (record.status, record.attempts, effects()) == ("succeeded", 2, [record.id])
    assert record.errors[0]["type"] == "psycopg.errors.AdminShutdown"


def test_a_handler_that_closes_its_connection_has_not_succeeded(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    def closing(job: Job, context: Context) -> None:
        work(job, context)
        context.connection.close()

    record = run(pgq, closing)
    assert (record.status, effects()) == ("failed", [])
    assert "the connection is closed" in record.errors[0]["message"]


def test_a_handler_that_went_on_after_an_error_in_its_transaction_has_not_succeeded(
    pgq: PgQueuer, effects: Callable[[], list[int]]
) -> None:
    def careless(job: Job, context: Context) -> None:
        work(job, context)
        with pytest.raises(psycopg.errors.DivisionByZero):
            context.connection.execute("select 1 / 0")

    record = run(pgq, careless)
    assert (record.status, effects(), record.errors[0]["type"]) == ("failed", [], "psycopg.errors.InFailedSqlTransaction")


def test_a_handler_neither_commits_nor_rolls_back_by_itself_but_may_nest(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    def nesting(job: Job, context: Context) -> None:
        for end in (context.connection.commit, context.connection.rollback):
            with pytest.raises(psycopg.ProgrammingError):
                end()
        with pytest.raises(ZeroDivisionError), context.connection.transaction():
            work(job, context)
            raise ZeroDivisionError
        with context.connection.transaction():
            work(job, context)

    record = run(pgq, nesting)
    assert (record.status, effects()) == ("succeeded", [record.id])


def test_a_day_without_a_partition_of_history_costs_no_transaction(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]
) -> None:
    for (name,) in query(dsn, "select inhrelid::regclass::text from pg_inherits where inhparent = 'pgq_history'::regclass"):
        query(dsn, f"drop table {name}")
    record = run(pgq, work)
    assert (record.status, effects()) == ("succeeded", [record.id])


def test_the_query_of_a_handler_whose_time_is_over_is_cancelled(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]
) -> None:
    pids: list[int] = []

    def slow(job: Job, context: Context) -> None:
        work(job, context)
        pids.append(context.connection.info.backend_pid)
        context.connection.execute("select pg_sleep(%s)", [10 * PATIENCE])

    started = time.monotonic()
    record = run(pgq, slow, timeout=0.1)

    assert time.monotonic() - started < PATIENCE
    assert (record.status, effects()) == ("failed", [])
    (error,) = record.errors
    assert error["type"] == "pgq_sync.errors.JobTimeout"
    assert "QueryCanceled" in error["traceback"] or "in slow" in error["traceback"]
    wait_until(lambda: (pids[0],) not in query(dsn, "select pid from pg_stat_activity"))


def test_a_connection_that_a_timeout_has_met_is_not_used_again(pgq: PgQueuer, effects: Callable[[], list[int]]) -> None:
    """Its cancel request may still be on the way, and would hit another job's statement."""
    pids: list[int] = []

    def in_time(job: Job, context: Context) -> None:
        pids.append(context.connection.info.backend_pid)
        work(job, context)

    def late(job: Job, context: Context) -> None:
        in_time(job, context)
        try:
            while True:
                time.sleep(0.001)  # bytecode now and then, until it is interrupted
        except JobTimeout:
            return

    pgq.entrypoint("in time", transactional=True, timeout=PATIENCE)(in_time)
    pgq.entrypoint("late", transactional=True, timeout=1)(late)
    for number, entrypoint in enumerate(("in time", "in time", "late", "in time")):
        pgq.enqueue(entrypoint, priority=-number)
    counts = pgq.drain(concurrency=1).counts

    assert pids[0] == pids[1] == pids[2] != pids[3]
    # The request to cancel may be as fast as the completion; then the transaction is undone.
    assert len(effects()) == counts["succeeded"] >= 3


def test_connections_are_kept_for_the_next_handlers_and_closed_with_the_worker(
    pgq: PgQueuer, dsn: str, effects: Callable[[], list[int]]
) -> None:
    pids: set[int] = set()

    @pgq.entrypoint("work", transactional=True)
    def noting(job: Job, context: Context) -> None:
        pids.add(context.connection.info.backend_pid)
        work(job, context)

    for _ in range(20):
        pgq.enqueue("work")
    pgq.drain(concurrency=2)
    assert len(pids) <= 2
    wait_until(lambda: query(dsn, CONNECTED) == [])


def test_a_job_that_was_put_back_while_its_handler_went_on_is_completed_by_nobody_else(
    pgq: PgQueuer, effects: Callable[[], list[int]]
) -> None:
    running, finish = threading.Event(), threading.Event()

    @pgq.entrypoint("work", transactional=True)
    def long(job: Job, context: Context) -> None:
        work(job, context)
        running.set()
        finish.wait(PATIENCE)

    job_id = pgq.enqueue("work")
    worker = pgq.worker()
    worker.start()
    slots = [thread for thread in threading.enumerate() if thread.name.startswith("pgq-slot")]
    assert running.wait(PATIENCE)
    assert worker.stop(timeout=0).requeued == 1
    finish.set()
    for thread in slots:
        thread.join(PATIENCE)
    assert (effects(), record_of(pgq, job_id).status) == ([], "queued")


def test_a_transaction_that_is_open_for_long_is_named_once(
    pgq: PgQueuer, effects: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "_LONG_TRANSACTION", 0.0)
    finish = threading.Event()

    @pgq.entrypoint("long", transactional=True)
    def long(job: Job, context: Context) -> None:
        work(job, context)
        assert finish.wait(PATIENCE)

    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if "has been open for" in record.getMessage()]

    job_id = pgq.enqueue("long")
    with caplog.at_level(logging.WARNING), pgq.worker() as worker:
        wait_until(warnings)
        worker._watchdog._look()
        finish.set()
    assert len(warnings()) == 1
    assert f"job {job_id} of long" in warnings()[0]


def test_only_transactional_entrypoints_have_a_connection(either: PgQueuer) -> None:
    record = run_one(either, lambda job, context: context.connection, accepts_context=True, timeout=PATIENCE)
    assert record.errors[0]["type"] == "RuntimeError"
    assert "'work' has no connection: declare it with transactional=True" in record.errors[0]["message"]


def test_in_memory_there_is_no_connection_but_the_rest_works() -> None:
    pgq = PgQueuer.in_memory(settings=Settings())
    children: list[Job] = []
    pgq.entrypoint("child")(children.append)

    @pgq.entrypoint("parent", transactional=True)
    def parent(job: Job, context: Context) -> None:
        context.enqueue("child")
        if job.payload:
            context.connection.execute("select 1")

    pgq.enqueue("parent")
    other = pgq.enqueue("parent", b"connects")
    assert pgq.drain().counts == {"succeeded": 3, "failed": 1}
    assert "jobs in memory have no connection" in record_of(pgq, other).errors[0]["message"]
