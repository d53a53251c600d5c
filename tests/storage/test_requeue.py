"""Putting jobs back: held ones under their own id, failed ones once and under a new one."""

from __future__ import annotations

import pytest

from pgq_sync import PgQueuer, SchemaError
from tests.storage.support import ask_too_late, ear, ended, hand, query, record


def test_a_held_job_is_put_back_under_its_own_id(either: PgQueuer) -> None:
    job_id = ended(either, "held", headers={"a": 1}, dedupe_key="k", priority=2)

    result = either.jobs.requeue([job_id])

    assert result.requeued == {job_id: job_id}
    assert (list(result.conflicts), list(result.unknown)) == ([], [])
    with hand(either.store, "work") as one:
        job = one.claim_one().job
    assert (job.id, job.attempt, job.payload, job.headers, job.dedupe_key) == (job_id, 1, b"data", {"a": 1}, "k")


def test_a_failed_job_is_put_back_under_a_new_id_that_names_the_old(either: PgQueuer) -> None:
    job_id = ended(either, "failed", headers={"a": 1}, priority=2, queue="mail")

    result = either.jobs.requeue([job_id])

    new_id = result.requeued[job_id]
    assert new_id != job_id
    old, new = record(either, job_id), record(either, new_id)
    assert (old.status, old.requeued_as) == ("failed", new_id)
    assert (new.status, new.requeued_from, new.requeued_as, new.attempts) == ("queued", job_id, None, 0)
    assert (new.payload, new.headers, new.priority, new.queue) == (b"data", {"a": 1}, 2, "mail")
    assert new.errors == old.errors
    assert new.created_at == new.execute_after
    assert (new.claimed_at, new.worker_id, new.finished_at) == (None, None, None)


@pytest.mark.parametrize("status", ["held", "failed"])
def test_attempts_go_on_where_they_are_not_reset(either: PgQueuer, status: str) -> None:
    job_id = ended(either, status)

    either.jobs.requeue([job_id], reset_attempts=False)

    with hand(either.store, "work") as one:
        assert one.claim_one().job.attempt == 2


def test_a_taken_dedupe_key_blocks_only_its_own_job(either: PgQueuer) -> None:
    blocked, free = ended(either, "failed", dedupe_key="taken"), ended(either, "failed", dedupe_key="free")
    holder = either.enqueue("work", dedupe_key="taken")

    result = either.jobs.requeue([blocked, free])

    assert list(result.requeued) == [free]
    assert list(result.conflicts) == [blocked]
    assert not result.unknown
    assert [each.id for each in either.jobs.find(status="queued")] == [result.requeued[free], holder]


def test_two_failed_jobs_of_one_key_cannot_both_be_put_back(either: PgQueuer) -> None:
    first, second = ended(either, "failed", dedupe_key="k"), ended(either, "failed", dedupe_key="k")

    result = either.jobs.requeue([first, second])

    assert (list(result.requeued), list(result.conflicts)) == ([first], [second])


def test_a_key_that_guarded_only_the_start_does_not_block_putting_back(either: PgQueuer) -> None:
    failed = ended(either, "failed", dedupe_key="k", dedupe_until="started")
    either.enqueue("work", dedupe_key="k")

    assert list(either.jobs.requeue([failed]).requeued) == [failed]


def test_what_cannot_be_put_back_as_a_whole_is_not_put_back_in_part(pgq: PgQueuer, dsn: str) -> None:
    both = [ended(pgq, "held"), ended(pgq, "failed")]
    query(dsn, "drop table pgq_cancel")

    with pytest.raises(SchemaError, match='relation "pgq_cancel" does not exist'):
        pgq.jobs.requeue(both)

    assert query(dsn, "select id, status from pgq_job") == [(both[0], "held")]
    assert record(pgq, both[1]).requeued_as is None


def test_what_is_neither_held_nor_failed_is_unknown(either: PgQueuer) -> None:
    succeeded, cancelled = ended(either, "succeeded"), ended(either, "cancelled")
    held = ended(either, "held")
    running = either.enqueue("work")
    with hand(either.store, "work") as one:
        one.claim()
    queued = either.enqueue("work")

    result = either.jobs.requeue([succeeded, queued, 2**63 - 1, held, running, cancelled, held])

    assert list(result.requeued) == [held]
    assert list(result.unknown) == [succeeded, queued, 2**63 - 1, running, cancelled]
    assert not result.conflicts


@pytest.mark.parametrize("becomes", ["queued", "succeeded", "failed", "cancelled", "deleted", "forgotten"])
def test_a_failed_job_is_put_back_once_whatever_becomes_of_the_new_one(either: PgQueuer, becomes: str) -> None:
    failed = ended(either, "failed")
    anew = either.jobs.requeue([failed]).requeued[failed]
    with hand(either.store, "work") as one:
        if becomes in ("succeeded", "failed"):
            one.settle(one.claim(), becomes)
        elif becomes == "forgotten":
            one.settle(one.claim(), "succeeded", keep=False)
        elif becomes != "queued":
            {"cancelled": either.jobs.cancel, "deleted": either.jobs.delete}[becomes]([anew])

    result = either.jobs.requeue([failed])

    assert (result.already, result.requeued) == ({failed: anew}, {})
    assert (list(result.conflicts), list(result.unknown)) == ([], [])
    assert len(either.jobs.find()) == (1 if becomes == "forgotten" else 2)


def test_the_new_job_may_fail_and_be_put_back_in_its_turn(either: PgQueuer) -> None:
    first = ended(either, "failed")
    second = either.jobs.requeue([first]).requeued[first]
    with hand(either.store, "work") as one:
        one.settle(one.claim(), "failed")

    result = either.jobs.requeue([first, second])

    assert result.already == {first: second}
    assert list(result.requeued) == [second]


def test_a_requeued_job_that_is_replaced_still_names_the_old(either: PgQueuer) -> None:
    failed = ended(either, "failed", dedupe_key="k")
    anew = either.jobs.requeue([failed]).requeued[failed]

    assert either.enqueue("work", dedupe_key="k", on_conflict="replace") == anew

    assert record(either, anew).requeued_from == failed
    assert record(either, failed).requeued_as == anew


def test_a_conflict_uses_nothing_up(either: PgQueuer) -> None:
    failed = ended(either, "failed", dedupe_key="k")
    holder = either.enqueue("work", dedupe_key="k")
    assert list(either.jobs.requeue([failed]).conflicts) == [failed]

    either.jobs.cancel([holder])

    assert list(either.jobs.requeue([failed]).requeued) == [failed]


def test_a_requeued_job_is_no_longer_asked_to_end(either: PgQueuer) -> None:
    job_id = ended(either, "held")
    ask_too_late(either.store, job_id)
    with hand(either.store, "work") as one:
        either.jobs.requeue([job_id])

        assert either.store.end_cancelled() == 0
        one.claim_one()
        assert either.store.cancel_requests([job_id]) == set()


def test_workers_hear_of_what_was_put_back(pgq: PgQueuer, dsn: str) -> None:
    held, failed = ended(pgq, "held"), ended(pgq, "failed", "other")

    with ear(dsn) as listening:
        pgq.jobs.requeue([held, failed])
        heard = listening.heard()
        pgq.jobs.requeue([held, failed])
        assert listening.heard() == []

    assert sorted("other" in message for message in heard) == [False, True]
    assert all('["default", ' in message for message in heard)
