"""Operations against claims, finishes and each other: nobody waits who need not, and what comes between is seen."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.storage import operations
from pgq_sync.storage.database import Params
from tests.storage.links import DRIVERS, linked
from tests.storage.rivals import CLAIM, RETRY, interrupted, while_it_waits
from tests.storage.support import ended, hand, query, record, waiting
from tests.waiting import PATIENCE, wait_until


@pytest.mark.parametrize("claim", ["commits", "rolls back"])
@pytest.mark.parametrize("kind", DRIVERS)
def test_a_job_that_is_claimed_while_we_wait_for_it_is_asked(pgq: PgQueuer, dsn: str, kind: str, claim: str) -> None:
    job_id, other = pgq.enqueue("work"), pgq.enqueue("work")
    with closing(psycopg.connect(dsn)) as claiming, linked(kind, dsn, autocommit=False) as link:
        claiming.execute(CLAIM, [job_id])
        with while_it_waits(dsn, claiming, claiming.commit if claim == "commits" else claiming.rollback):
            result = pgq.on(link.given).jobs.cancel([job_id, other])
        link.commit()

    if claim == "commits":
        assert (result.ended, result.asked, result.unknown) == ([other], [job_id], [])
        assert pgq.store.cancel_requests([job_id, other]) == {job_id}
    else:
        assert (result.ended, result.asked) == ([job_id, other], [])


@pytest.mark.parametrize("claim", ["commits", "rolls back"])
def test_a_job_that_is_claimed_while_we_wait_for_it_is_not_deleted(pgq: PgQueuer, dsn: str, claim: str) -> None:
    job_id, other = pgq.enqueue("work"), pgq.enqueue("work")
    with closing(psycopg.connect(dsn)) as claiming:
        claiming.execute(CLAIM, [job_id])
        with while_it_waits(dsn, claiming, claiming.commit if claim == "commits" else claiming.rollback):
            result = pgq.jobs.delete([job_id, other])

    if claim == "commits":
        assert (result.deleted, result.refused, result.unknown) == ([other], [job_id], [])
        assert record(pgq, job_id).status == "running"
    else:
        assert (result.deleted, result.refused) == ([job_id, other], [])


@pytest.mark.parametrize("operation", ["cancel", "delete", "requeue"])
def test_a_job_that_somebody_else_ends_while_we_wait_for_it_is_unknown(pgq: PgQueuer, dsn: str, operation: str) -> None:
    job_id = ended(pgq, "held")
    with closing(psycopg.connect(dsn)) as ending:
        pgq.on(ending).jobs.delete([job_id])
        with while_it_waits(dsn, ending, ending.commit):
            result = getattr(pgq.jobs, operation)([job_id])

    if operation == "delete":
        # It went to history as deleted, and is there no longer.
        assert (result.deleted, pgq.jobs.get(job_id)) == ([job_id], None)
    else:
        assert result.unknown == [job_id]
        assert record(pgq, job_id).status == "deleted"


@pytest.mark.parametrize("operation", ["cancel", "delete"])
def test_a_job_that_goes_back_between_two_statements_is_ended(pgq: PgQueuer, dsn: str, operation: str) -> None:
    job_id = pgq.enqueue("work")
    query(dsn, CLAIM, [job_id])

    def put_back(name: str, params: Params) -> None:
        if name in ("ask_running", "unfinished"):
            query(dsn, RETRY, [job_id])

    with interrupted(dsn, put_back) as jobs:
        result: Any = getattr(jobs, operation)([job_id])

    assert (result.ended if operation == "cancel" else result.deleted) == [job_id]
    assert record(pgq, job_id).status == ("cancelled" if operation == "cancel" else "deleted")


@pytest.mark.parametrize("operation", ["cancel", "delete"])
def test_a_job_that_is_never_seen_where_it_is_looked_for_does_not_keep_us_for_ever(
    pgq: PgQueuer, dsn: str, operation: str
) -> None:
    job_id, rounds = pgq.enqueue("work"), []

    def change_sides(name: str, params: Params) -> None:
        if name == "end_waiting":
            rounds.append(query(dsn, CLAIM, [job_id]))
        elif name in ("ask_running", "unfinished"):
            query(dsn, RETRY, [job_id])

    with interrupted(dsn, change_sides) as jobs:
        result: Any = getattr(jobs, operation)([job_id])

    assert len(rounds) == 10
    if operation == "cancel":
        assert result.asked == [job_id]
        assert pgq.store.end_cancelled() == 1
        assert record(pgq, job_id).status == "cancelled"
    else:
        assert result.refused == [job_id]
        assert record(pgq, job_id).status == "queued"


def test_a_request_that_is_not_committed_yet_delays_no_finish(pgq: PgQueuer, dsn: str) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(3))
    with hand(pgq.store, "work") as one, closing(psycopg.connect(dsn)) as operator:
        claims = one.claim()
        assert pgq.on(operator).jobs.cancel(ids).asked == ids

        assert len(one.settle(claims[:2]).written) == 2
        assert one.settle(claims[2], "retried").written
        assert pgq.store.end_cancelled() == 0
        operator.commit()

        # Put back before the request was committed.
        assert pgq.store.end_cancelled() == 1
    assert [record(pgq, each).status for each in ids] == ["succeeded", "succeeded", "cancelled"]
    assert query(dsn, "select count(*) from pgq_cancel") == [(0,)]


def test_jobs_that_are_about_to_be_ended_are_not_claimed(pgq: PgQueuer, dsn: str) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(3))
    with hand(pgq.store, "work") as one, closing(psycopg.connect(dsn)) as operator:
        pgq.on(operator).jobs.cancel(ids[:1])
        pgq.on(operator).jobs.delete(ids[1:2])

        assert [claim.job.id for claim in one.claim()] == ids[2:]
        operator.rollback()
        assert [claim.job.id for claim in one.claim()] == ids[:2]


def test_every_job_is_either_run_or_ended_while_workers_claim_what_we_cancel(pgq: PgQueuer) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work", priority=number % 3) for number in range(1200))
    barrier = threading.Barrier(4)

    def work() -> set[int]:
        with hand(pgq.store, "work") as one:
            barrier.wait(PATIENCE)
            ran: set[int] = set()
            while claims := one.claim(7):
                ran |= {claim.job.id for claim in claims}
                settled = one.settle(claims)
                while settled.blocked:
                    settled = one.settle(each.claim for each in settled.blocked)
                assert not settled.lost
            return ran

    with ThreadPoolExecutor(3) as threads:
        working = [threads.submit(work) for _ in range(3)]
        barrier.wait(PATIENCE)
        results = [pgq.jobs.cancel(ids[start : start + 40]) for start in range(0, len(ids), 40)]
        ran = set().union(*(each.result() for each in working))

    ended_jobs = {each for result in results for each in result.ended}
    assert (ran | ended_jobs, ran & ended_jobs) == (set(ids), set())
    assert {each for result in results for each in (*result.asked, *result.unknown)} == ran
    assert pgq.store.end_cancelled() == 0
    assert {each: number for each, number in pgq.jobs.count().items() if number} == {
        key: number for key, number in {("work", "cancelled"): len(ended_jobs), ("work", "succeeded"): len(ran)}.items() if number
    }


@pytest.mark.parametrize("locked", ["pgq_job", "pgq_cancel"])
def test_who_looks_after_requests_waits_for_nobody(pgq: PgQueuer, dsn: str, locked: str) -> None:
    ids = [pgq.enqueue("work"), pgq.enqueue("work")]
    query(dsn, "insert into pgq_cancel select id from pgq_job")
    with closing(psycopg.connect(dsn)) as somebody:
        column = "id" if locked == "pgq_job" else "job_id"
        somebody.execute(f"select from {locked} where {column} = {ids[0]} for update".encode())

        assert pgq.store.end_cancelled() == 1
        somebody.rollback()
        assert pgq.store.end_cancelled() == 1
    assert query(dsn, "select count(*) from pgq_cancel") == [(0,)]


def test_an_operation_and_a_replacement_never_wait_for_each_other(pgq: PgQueuer, dsn: str) -> None:
    # By their ids the jobs come in the opposite order to that of their keys.
    ids = [pgq.enqueue("work", dedupe_key=key) for key in ("z", "a")]
    with closing(psycopg.connect(dsn)) as holder, ThreadPoolExecutor(2) as threads:
        holder.execute("select from pgq_job where dedupe_key = 'a' for update")
        jobs = [NewJob(entrypoint="new", dedupe_key=key) for key in "az"]
        replacing = threads.submit(lambda: pgq.enqueue_many(jobs, on_conflict="replace"))
        wait_until(lambda: waiting(dsn) == 1)
        cancelling = threads.submit(pgq.jobs.cancel, ids)
        wait_until(lambda: waiting(dsn) == 2)
        holder.rollback()

        assert sorted(map(int, filter(None, replacing.result()))) == ids
        assert cancelling.result().ended == ids


def test_several_statements_lock_in_one_order_too(pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "SLICE", 2)
    keys = ["d", None, "c", "a", None, "b"]
    ids = [pgq.enqueue("work", dedupe_key=key) for key in keys]
    slices: list[list[str | None]] = []

    def note(name: str, params: Params) -> None:
        if name == "end_waiting":
            slices.append([keys[ids.index(each)] for each in params["ids"]])

    with interrupted(dsn, note) as jobs:
        assert jobs.cancel(ids[::-1]).ended == ids[::-1]

    assert slices == [["a", "b"], ["c", "d"], [None, None]]


@pytest.mark.parametrize("operation", ["cancel", "delete"])
def test_a_list_of_any_length_is_done_all_or_not_at_all(pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch, operation: Any) -> None:
    monkeypatch.setattr(operations, "SLICE", 3)
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(10))
    end, calls = operations.PostgresOperations._end, []

    def break_off(*arguments: Any) -> set[int]:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return end(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(operations.PostgresOperations, "_end", break_off)
        getattr(pgq.jobs, operation)(ids)
    assert pgq.jobs.count() == {("work", "queued"): 10}

    result = getattr(pgq.jobs, operation)([*ids, *ids])
    assert (result.ended if operation == "cancel" else result.deleted) == ids


def test_a_purge_leaves_what_somebody_else_is_about_to_change(pgq: PgQueuer, dsn: str) -> None:
    queued, done = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(3)), [ended(pgq, "failed", "other") for _ in "ab"]
    with closing(psycopg.connect(dsn)) as somebody:
        somebody.execute(CLAIM, [queued[1]])
        pgq.on(somebody).jobs.requeue([done[0]])

        assert pgq.jobs.purge() == 2
        assert pgq.jobs.purge(status="failed") == 1
        somebody.commit()

    assert record(pgq, queued[1]).status == "running"
    assert record(pgq, done[0]).requeued_as is not None


@pytest.mark.parametrize("operation", ["cancel", "delete", "requeue"])
@pytest.mark.parametrize("kind", DRIVERS)
def test_under_repeatable_read_what_changed_after_the_snapshot_is_a_serialization_failure(
    pgq: PgQueuer, dsn: str, kind: str, operation: str
) -> None:
    job_id = ended(pgq, "held")
    with linked(kind, dsn, autocommit=False) as link:
        link.run("set transaction isolation level repeatable read")
        link.run("select 1")
        query(dsn, CLAIM, [job_id])
        with pytest.raises(Exception, match="could not serialize access") as caught:
            getattr(pgq.on(link.given).jobs, operation)([job_id])
        assert link.run("select 7") == [(7,)]
        link.rollback()

    assert not type(caught.value).__module__.startswith("pgq_sync")
    assert record(pgq, job_id).status == "running"
