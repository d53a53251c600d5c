"""Writing a completion on the caller's connection, whatever its driver, in the transaction that it is in."""

from __future__ import annotations

from typing import Any

import pytest

from pgq_sync import PgQueuer
from pgq_sync.models import Outcome, Settlement
from tests.entrypoints.support import record_of
from tests.storage.links import DRIVERS, linked
from tests.storage.support import hand, query

SUCCEEDED = Outcome(status="succeeded", result="7")


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize(("end", "status"), [("commit", "succeeded"), ("rollback", "running")])
def test_a_completion_ends_with_the_callers_transaction(pgq: PgQueuer, dsn: str, kind: str, end: str, status: str) -> None:
    job_id = pgq.enqueue("work")
    with hand(pgq.store, "work") as worker, linked(kind, dsn, autocommit=False) as link:
        settlement = Settlement(worker.claim_one(), SUCCEEDED)
        assert pgq.store.finish(link.given, settlement)
        assert record_of(pgq, job_id).status == "running"
        getattr(link, end)()
    assert record_of(pgq, job_id).status == status


@pytest.mark.parametrize("kind", DRIVERS)
def test_a_completion_of_a_claim_that_was_lost_writes_nothing(pgq: PgQueuer, dsn: str, kind: str) -> None:
    job_id = pgq.enqueue("work")
    with hand(pgq.store, "work") as worker, linked(kind, dsn, autocommit=False) as link:
        settlement = Settlement(worker.claim_one(), SUCCEEDED)
        query(dsn, "update pgq_job set fence = fence + 1")
        assert not pgq.store.finish(link.given, settlement)
        link.commit()
    assert record_of(pgq, job_id).status == "running"


def test_in_memory_it_is_written_at_once() -> None:
    pgq = PgQueuer.in_memory()
    job_id = pgq.enqueue("work")
    nowhere: Any = None
    with hand(pgq.store, "work") as worker:
        claim = worker.claim_one()
        assert pgq.store.finish(nowhere, Settlement(claim, SUCCEEDED))
        assert not pgq.store.finish(nowhere, Settlement(claim, SUCCEEDED))
    assert (record_of(pgq, job_id).status, record_of(pgq, job_id).result) == ("succeeded", 7)
