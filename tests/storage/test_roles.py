"""What the documented grants allow, and what they do not: roles that enqueue, that run jobs, that look after them or wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import CompletionWatcher, DuplicateJob, Hold, Job, NewJob, PgQueuer, Retry, SchemaError, Settings
from pgq_sync.models import DeclaredLimit
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.schema import grants
from tests.storage.roles import FORBIDDEN, Role, days, granted, login
from tests.storage.support import MovableClock, ask_too_late, ended, hand, query, worker
from tests.waiting import PATIENCE

LIMIT = timedelta(seconds=15)


@pytest.mark.parametrize("kind", ["producer", "worker"])
@pytest.mark.parametrize("mode", ["raise", "skip", "existing", "replace"])
def test_both_roles_enqueue_in_every_mode(empty_dsn: str, place: Settings, kind: str, mode: Any) -> None:
    with granted(empty_dsn, place, kind) as role:
        there = role.pgq.enqueue("work", "old", dedupe_key="k", execute_after=timedelta(seconds=1))
        plain = role.pgq.enqueue_many([NewJob(entrypoint="work") for _ in range(3)], on_conflict=mode)
        keyed = role.pgq.enqueue_many([NewJob(entrypoint="work", dedupe_key=key) for key in "ab"], on_conflict=mode)
        if mode == "raise":
            with pytest.raises(DuplicateJob):
                role.pgq.enqueue("work", "new", dedupe_key="k")
        else:
            got = role.pgq.enqueue("work", "new", dedupe_key="k", on_conflict=mode)
            assert got == (None if mode == "skip" else there)

    assert query(empty_dsn, f"select count(*) from {role.table('job')}") == [(len({there, *plain, *keyed}),)]


@pytest.mark.parametrize("kind", ["producer", "worker"])
def test_both_roles_enqueue_by_the_sql_function(empty_dsn: str, place: Settings, kind: str) -> None:
    with granted(empty_dsn, place, kind) as role:
        function = role.table("enqueue")
        query(role.dsn, f"select {function}('work')")
        ((job_id,),) = query(role.dsn, f"select {function}('work', dedupe_key => 'k')")
        for mode, expected in (("skip", None), ("existing", job_id), ("replace", job_id)):
            assert query(role.dsn, f"select {function}('w', dedupe_key => 'k', on_conflict => '{mode}')") == [(expected,)]

    assert query(empty_dsn, f"select count(*) from {role.table('job')}") == [(2,)]


def test_a_producer_enqueues_in_its_own_transaction(producer: Role) -> None:
    with closing(psycopg.connect(producer.dsn)) as connection:
        producer.pgq.on(connection).enqueue("work", "rolled back")
        connection.rollback()
        producer.pgq.on(connection).enqueue("work", "committed")
        connection.commit()

    assert query(producer.owner, f"select payload from {producer.table('job')}") == [(b"committed",)]


def test_a_producer_cannot_claim(producer: Role) -> None:
    producer.pgq.enqueue("work")

    with hand(producer.pgq.store, "work") as one, pytest.raises(FORBIDDEN):
        one.claim()

    assert query(producer.owner, f"select status, attempt from {producer.table('job')}") == [("queued", 0)]


@pytest.mark.parametrize(
    "statement",
    [
        "delete from {job}",
        "truncate {job}",
        "update {job} set worker_id = gen_random_uuid(), fence = 1",
        "select from {history}",
        "insert into {cancel} (job_id) values (1)",
        "insert into {limit} (entrypoint) values ('work')",
        "insert into {version} (version) values (2)",
        "select from {worker}",
        "select {maintain}()",
        "drop table {job}",
        "alter table {job} disable trigger all",
    ],
)
def test_a_producer_can_do_nothing_else(producer: Role, statement: str) -> None:
    producer.pgq.enqueue("work")

    with pytest.raises(FORBIDDEN):
        query(producer.dsn, producer.names.fill(statement))

    assert query(producer.owner, f"select count(*) from {producer.table('job')} where fence is null") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    ["drop table {job}", "alter table {job} add column extra int", "truncate {history}", "update {version} set version = 2"],
)
def test_a_worker_cannot_change_the_schema(runner: Role, statement: str) -> None:
    with pytest.raises(FORBIDDEN):
        query(runner.dsn, runner.names.fill(statement))
    with pytest.raises(FORBIDDEN):
        runner.pgq.schema.uninstall()


def test_a_worker_runs_jobs_of_every_outcome(runner: Role) -> None:
    pgq = runner.pgq

    @pgq.entrypoint("succeed", store_result=True)
    def succeed(job: Job) -> int:
        pgq.enqueue("child")
        return 42

    @pgq.entrypoint("child", keep_history=False)
    def child(job: Job) -> None:
        """Leaves nothing behind."""

    @pgq.entrypoint("fail")
    def fail(job: Job) -> None:
        raise LookupError("as expected")

    @pgq.entrypoint("retry")
    def retry(job: Job) -> None:
        if job.attempt == 1:
            raise Retry

    @pgq.entrypoint("hold")
    def hold(job: Job) -> None:
        raise Hold("look at this")

    succeeded, failed, retried, held = [pgq.enqueue(name, dedupe_key=name) for name in ("succeed", "fail", "retry", "hold")]
    report = pgq.drain()

    assert report.counts == {"succeeded": 3, "failed": 1, "retried": 1, "held": 1}
    records = [pgq.jobs.get(job_id) for job_id in (succeeded, failed, retried, held)]
    assert [record and record.attempts for record in records] == [1, 1, 2, 1]
    assert records[0] is not None
    assert records[0].result == 42
    ends = [("succeed", "succeeded"), ("fail", "failed"), ("retry", "succeeded"), ("hold", "held")]
    assert pgq.jobs.count() == dict.fromkeys(ends, 1)
    assert set(pgq.jobs.requeue([failed, held]).requeued) == {failed, held}
    assert pgq.store.workers() == []


def test_a_worker_gives_signs_of_life(runner: Role) -> None:
    who = worker("work")

    runner.pgq.store.register(who)
    assert runner.pgq.store.beat(who).peers.count == 1
    assert runner.pgq.store.rescue(who, thorough=True) == []
    assert [info.worker_id for info in runner.pgq.store.workers()] == [who.worker_id]
    runner.pgq.store.deregister(who.worker_id)
    assert runner.pgq.store.workers() == []


def test_a_worker_looks_after_limits_and_requests(runner: Role) -> None:
    pgq, limits = runner.pgq, runner.pgq.store.limits
    assert limits.declare([DeclaredLimit("work", 1)], ["other"]) == []
    assert len(limits.declare([DeclaredLimit("work", 2)], [])) == 1
    assert limits.records()[0].concurrency_limit == 2

    with hand(pgq.store, "work") as one:
        job_id = pgq.enqueue("work")
        claim = one.claim_one()
        pgq.jobs.cancel([job_id])
        assert pgq.store.cancel_requests([job_id]) == {job_id}
        one.settle(claim, "retried")
    ask_too_late(pgq.store, pgq.enqueue("work"))
    assert pgq.store.end_cancelled() == 1


def test_an_operator_looks_after_jobs_limits_and_schedules(operator: Role) -> None:
    pgq = operator.pgq
    with PgQueuer.from_dsn(operator.owner, settings=pgq.settings) as owners:
        queued = owners.enqueue("other")
        held, failed, doomed = (ended(owners, status) for status in ("held", "failed", "held"))
        running = owners.enqueue("work")
        with hand(owners.store, "work") as one:
            one.claim()

    assert [each.id for each in pgq.jobs.held()] == [doomed, held]
    assert set(pgq.jobs.requeue([held, failed]).requeued) == {held, failed}
    result = pgq.jobs.cancel([queued, running])
    assert (result.ended, result.asked) == ([queued], [running])
    assert pgq.jobs.delete([doomed, queued]).deleted == [doomed, queued]
    assert pgq.jobs.purge() == 2
    assert pgq.jobs.purge(status="failed") == 1
    assert pgq.limits.pause("work")
    assert pgq.limits.resume("work")
    assert pgq.limits.list() == []
    made = pgq.schedules.add("cleanup", "@daily", entrypoint="work")
    assert (pgq.schedules.pause("cleanup"), pgq.schedules.resume("cleanup")) == (1, 1)
    assert pgq.schedules.run_now("cleanup") > running
    assert pgq.schedules.list() == [made]
    assert pgq.schedules.remove("cleanup") == 1
    assert pgq.store.workers() == []


def test_an_operator_ends_jobs_on_a_day_that_has_no_partition_yet(operator: Role) -> None:
    with _on_a_clock(operator) as (store, _):
        query(operator.owner, f"insert into {operator.table('job')} (entrypoint) values ('work')")
        assert store.operations().cancel([1]).ended == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "update {job} set worker_id = gen_random_uuid(), fence = 1",
        "update {job} set payload = null",
        "update {history} set status = 'succeeded'",
        "truncate {history}",
        "update {version} set version = 2",
        "delete from {worker}",
        "drop table {job}",
    ],
)
def test_an_operator_can_do_nothing_else(operator: Role, statement: str) -> None:
    with pytest.raises(FORBIDDEN):
        query(operator.dsn, operator.names.fill(statement))
    with hand(operator.pgq.store, "work") as one, pytest.raises(FORBIDDEN):
        query(operator.owner, f"insert into {operator.table('job')} (entrypoint) values ('work')")
        one.claim()


def test_a_watcher_waits_for_jobs_and_is_told_by_everybody(onlooker: Role) -> None:
    pgq = onlooker.pgq
    with (
        PgQueuer.from_dsn(onlooker.owner, settings=pgq.settings) as owners,
        login(onlooker.owner, "worker") as (works, as_worker),
        login(onlooker.owner, "operator") as (operates, as_operator),
    ):
        query(onlooker.owner, grants(onlooker.names, worker=works, operator=operates))
        runners, operators = (PgQueuer.from_dsn(dsn, settings=pgq.settings) for dsn in (as_worker, as_operator))
        ids = [owners.enqueue("work") for _ in range(3)]
        with CompletionWatcher(pgq) as watcher, runners, operators, hand(runners.store, "work") as one:
            futures = [watcher.watch(job_id) for job_id in ids]
            operators.jobs.cancel(ids[2:])
            for claim, status in zip(one.claim(), ("succeeded", "held"), strict=True):
                one.settle(claim, status)
            assert [future.result(PATIENCE).status for future in futures] == ["succeeded", "held", "cancelled"]
            assert operators.jobs.delete(ids[2:]).deleted == ids[2:]
    assert query(onlooker.owner, f"select from {onlooker.table('watch')}") == []


@pytest.mark.parametrize(
    "statement",
    [
        "insert into {job} (entrypoint) values ('work')",
        "update {job} set status = 'held'",
        "delete from {job}",
        "delete from {history}",
        "delete from {progress}",
        "insert into {cancel} (job_id) values (1)",
        "select {maintain}()",
    ],
)
def test_a_watcher_can_do_nothing_else(onlooker: Role, statement: str) -> None:
    with pytest.raises(FORBIDDEN):
        query(onlooker.dsn, onlooker.names.fill(statement))


def test_who_may_not_wait_is_told_how_to_be_allowed(producer: Role) -> None:
    job_id = producer.pgq.enqueue("work")
    with pytest.raises(SchemaError, match=r"permission denied for .*: the user is .*sql grants"):
        producer.pgq.wait(job_id, PATIENCE)


@contextmanager
def _on_a_clock(role: Role) -> Iterator[tuple[PostgresStore, MovableClock]]:
    clock = MovableClock()
    store = PostgresStore(OwnPool(Settings(), role.dsn), role.names, clock)
    with closing(store):
        yield store, clock


def test_a_worker_makes_and_drops_days_of_history_without_the_right_to(runner: Role) -> None:
    with pytest.raises(FORBIDDEN):
        query(runner.dsn, f"create table {runner.table('history_20310517')} ()")

    with _on_a_clock(runner) as (store, clock):
        store.maintain(timedelta(days=7))
        assert days(runner) == [f"203105{day}" for day in range(16, 25)]
        clock.move(days=1)
        store.maintain(timedelta(days=7))
        assert days(runner) == [f"203105{day}" for day in range(16, 26)]
        clock.move(days=100)
        store.maintain(timedelta(days=7))

    assert days(runner)[0] == "20310825"
    assert len(days(runner)) == 9


def test_a_worker_finishes_on_a_day_that_has_no_partition_yet(runner: Role) -> None:
    job_id = runner.pgq.enqueue("work")

    with _on_a_clock(runner) as (store, clock), hand(store, "work") as one:
        claim = one.claim_one()
        clock.move(days=400)
        assert one.settle(claim).written

    record = runner.pgq.jobs.get(job_id)
    assert record is not None
    assert record.finished_at == clock.now
