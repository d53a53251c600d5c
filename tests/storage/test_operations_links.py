"""Operations on the connections that applications hold: they join the transaction, whatever its driver, and leave it usable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from pgq_sync import NewJob, PgQueuer, Settings
from pgq_sync.storage import operations
from tests.storage.links import DRIVERS, KINDS, linked
from tests.storage.support import ask_too_late, ended, hand, query, record

FORGET_TODAY = """
    do $$ declare today regclass := 'pgq_history_' || to_char(now() at time zone 'UTC', 'YYYYMMDD'); begin
        execute format('drop table %s', today);
    end $$
"""


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_runs_on_every_connection(pgq: PgQueuer, dsn: str, kind: str, autocommit: bool) -> None:
    failed, held, doomed = ended(pgq, "failed"), ended(pgq, "held"), ended(pgq, "succeeded")
    running = pgq.enqueue("work")
    with hand(pgq.store, "work") as one, linked(kind, dsn, autocommit=autocommit) as link:
        one.claim()
        jobs = pgq.on(link.given).jobs
        queued = pgq.on(link.given).enqueue("other")

        assert [each.id for each in jobs.held()] == [held]
        requeued = jobs.requeue([failed, held]).requeued
        assert list(requeued) == [failed, held]
        cancelled = jobs.cancel([queued, running, requeued[failed]])
        assert (cancelled.ended, cancelled.asked) == ([queued, requeued[failed]], [running])
        deleted = jobs.delete([running, held, doomed])
        assert (deleted.deleted, deleted.refused) == ([held, doomed], [running])
        pgq.on(link.given).enqueue("other")
        assert jobs.purge("other", plan=True) == jobs.purge("other") == 1
        assert jobs.purge(status="cancelled") == 2
        link.commit()

    assert {each.id: each.status for each in pgq.jobs.find()} == {
        failed: "failed",
        held: "deleted",
        running: "running",
        max(each.id for each in pgq.jobs.find()): "deleted",
    }


@pytest.mark.parametrize("kind", DRIVERS)
def test_what_rolls_back_was_not_done(pgq: PgQueuer, dsn: str, kind: str) -> None:
    failed, held, queued = ended(pgq, "failed"), ended(pgq, "held"), pgq.enqueue("other")
    running = pgq.enqueue("work")
    with hand(pgq.store, "work") as one:
        one.claim()
        with linked(kind, dsn, autocommit=False) as link:
            jobs = pgq.on(link.given).jobs
            assert jobs.cancel([queued, running]).asked == [running]
            assert jobs.delete([held]).deleted == [held]
            assert jobs.requeue([failed]).requeued
            assert jobs.purge(status="failed") == 1
            link.rollback()

        assert pgq.store.cancel_requests([running]) == set()
        assert {each.id: each.status for each in pgq.jobs.find()} == {
            failed: "failed",
            held: "held",
            queued: "queued",
            running: "running",
        }
        assert record(pgq, failed).requeued_as is None


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("operation", ["cancel", "delete", "purge"])
def test_a_day_that_history_lacks_is_made_and_the_transaction_goes_on(
    pgq: PgQueuer, dsn: str, operation: Any, kind: str, autocommit: bool
) -> None:
    query(dsn, FORGET_TODAY)
    with linked(kind, dsn, autocommit=autocommit) as link:
        before = pgq.on(link.given).enqueue("before")
        job_id = pgq.on(link.given).enqueue("work")
        jobs = pgq.on(link.given).jobs
        if operation == "purge":
            assert jobs.purge("work") == 1
        else:
            getattr(jobs, operation)([job_id])
        assert link.run("select 7") == [(7,)]
        # Nobody waits for the end of this transaction: the day is there for everybody.
        other = pgq.enqueue("other")
        assert pgq.jobs.cancel([other]).ended == [other]
        link.commit()

    assert record(pgq, job_id).status == ("cancelled" if operation == "cancel" else "deleted")
    assert record(pgq, before).status == "queued"


@contextmanager
def _applications(dsn: str) -> Iterator[list[PgQueuer]]:
    """On what the caller owns: a pool of one connection, and one connection, none of them in autocommit."""
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool, closing(psycopg.connect(dsn)) as connection:
        settings = Settings(pool_size=1)
        owned = [
            PgQueuer.from_psycopg_pool(pool, settings=settings),
            PgQueuer.from_psycopg_connection(connection, settings=settings),
        ]
        with owned[0], owned[1], PgQueuer.from_dsn(dsn, settings=settings) as own:
            yield [*owned, own]
            connection.commit()


@pytest.mark.parametrize("number", [0, 1, 2], ids=["pool", "connection", "own pool"])
def test_one_connection_is_enough(dsn: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(operations, "SLICE", 2)
    with _applications(dsn) as applications:
        pgq = applications[number]
        ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(8))
        query(dsn, FORGET_TODAY)

        assert pgq.jobs.cancel(ids[:3]).ended == ids[:3]
        assert pgq.jobs.purge() == 5
        assert pgq.jobs.purge(status="deleted") == 5
        assert pgq.jobs.delete(ids[:1]).deleted == ids[:1]
        assert pgq.limits.pause("work")
        assert [each.entrypoint for each in pgq.limits.list()] == ["work"]

    assert query(dsn, "select id, status from pgq_history order by id") == [(each, "cancelled") for each in ids[1:3]]
    assert query(dsn, "select entrypoint from pgq_limit where paused_at is not null") == [("work",)]


def test_the_engine_too_makes_the_day_that_history_lacks(pgq: PgQueuer, dsn: str) -> None:
    job_id = pgq.enqueue("work")
    ask_too_late(pgq.store, job_id)
    query(dsn, FORGET_TODAY)

    assert pgq.store.end_cancelled() == 1
    assert record(pgq, job_id).status == "cancelled"


def test_so_it_does_for_a_job_that_ends_where_it_would_have_gone_back(pgq: PgQueuer, dsn: str) -> None:
    asked, other = pgq.enqueue("work"), pgq.enqueue("work")
    with hand(pgq.store, "work") as one:
        claims = one.claim()
        pgq.jobs.cancel([asked])
        query(dsn, FORGET_TODAY)
        assert len(one.settle(claims, "retried").written) == 2

    assert [record(pgq, each).status for each in (asked, other)] == ["cancelled", "queued"]


@pytest.mark.parametrize("kind", DRIVERS)
def test_another_error_passes_unchanged_and_leaves_the_transaction_usable(pgq: PgQueuer, dsn: str, kind: str) -> None:
    queued = pgq.enqueue("work")
    query(dsn, "alter table pgq_history add constraint nothing check (status <> 'cancelled')")
    with linked(kind, dsn, autocommit=False) as link:
        before = pgq.on(link.given).enqueue("before")
        with pytest.raises(Exception, match="violates check constraint") as caught:
            pgq.on(link.given).jobs.cancel([queued])
        assert link.run("select 7") == [(7,)]
        link.commit()

    assert not type(caught.value).__module__.startswith("pgq_sync")
    assert [record(pgq, each).status for each in (before, queued)] == ["queued", "queued"]


@pytest.mark.parametrize("kind", DRIVERS)
def test_a_job_reads_alike_on_every_connection(pgq: PgQueuer, dsn: str, kind: str) -> None:
    pgq.entrypoint("work", store_result=True)(lambda job: {"answer": [1, None]})
    pgq.entrypoint("bad")(lambda job: 1 / 0)
    ids = [pgq.enqueue(name, b"\x00\xff", headers={"a": {"b": [1]}}) for name in ("work", "bad", "waits")]
    pgq.drain()
    with linked(kind, dsn, autocommit=True) as link:
        for job_id in ids:
            read = pgq.on(link.given).jobs.get(job_id)
            assert read == pgq.jobs.get(job_id)
            assert read is not None
            assert read.headers == {"a": {"b": [1]}}
