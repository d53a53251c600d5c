"""Operations on the connections that applications hold: they join the transaction, whatever its driver, and leave it usable."""

from __future__ import annotations

from typing import Any

import pytest

from pgq_sync import PgQueuer
from tests.storage.links import DRIVERS, KINDS, linked
from tests.storage.support import ended, hand, query, record

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


def test_the_engine_too_makes_the_day_that_history_lacks(pgq: PgQueuer, dsn: str) -> None:
    job_id = pgq.enqueue("work")
    with hand(pgq.store, "work") as one:
        claim = one.claim_one()
        pgq.jobs.cancel([job_id])
        one.settle(claim, "retried")
    query(dsn, FORGET_TODAY)

    assert pgq.store.end_cancelled() == 1
    assert record(pgq, job_id).status == "cancelled"


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
