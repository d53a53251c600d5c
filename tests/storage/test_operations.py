"""What every store does for operators: ending jobs, deleting them, and listing those that wait for a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.models import Claim, JobId
from pgq_sync.storage import operations
from tests.storage.conftest import Timed
from tests.storage.support import Hand, ask_too_late, ear, ended, hand, query, record

HOUR = timedelta(hours=1)
NOWHERE = JobId(10**9)


def _claimed(pgq: PgQueuer, one: Hand, **options: Any) -> Claim:
    """A new job that runs."""
    job_id = pgq.enqueue("work", **options)
    claim = one.claim_one()
    assert claim.job.id == job_id
    return claim


def _running(pgq: PgQueuer, one: Hand, **options: Any) -> JobId:
    return _claimed(pgq, one, **options).job.id


def test_jobs_that_wait_end_and_never_run(either: PgQueuer) -> None:
    held, queued, later = ended(either, "held"), either.enqueue("work"), either.enqueue("work", execute_after=HOUR)

    result = either.jobs.cancel([later, held, queued, later])

    assert result.ended == [later, held, queued]
    assert (result.asked, result.unknown) == ([], [])
    with hand(either.store, "work") as one:
        assert one.claim() == []
    waited = {"type": "Cancelled", "message": "it was cancelled while it waited"}
    for job_id, attempts, errors in ((queued, 0, [waited]), (later, 0, [waited]), (held, 1, [{"reason": "test"}, waited])):
        found = record(either, job_id)
        assert (found.status, found.attempts, found.errors) == ("cancelled", attempts, errors)
        assert (found.claimed_at, found.worker_id, found.result) == (None, None, None)
        assert found.finished_at is not None
    assert record(either, held).payload == b"data"


def test_running_jobs_are_asked_and_keep_what_they_have(either: PgQueuer) -> None:
    with hand(either.store, "work") as one:
        job_id = _running(either, one, dedupe_key="k")
        other = _running(either, one)

        for _ in range(2):
            result = either.jobs.cancel([job_id])
            assert (result.ended, result.asked, result.unknown) == ([], [job_id], [])

        assert record(either, job_id).status == "running"
        assert either.enqueue("work", dedupe_key="k", on_conflict="skip") is None
        assert either.store.cancel_requests([other, job_id, NOWHERE]) == {job_id}
        assert either.store.cancel_requests([]) == set()


def test_what_is_finished_or_was_never_there_is_unknown(either: PgQueuer) -> None:
    done = ended(either, "succeeded")
    queued = either.enqueue("work")

    result = either.jobs.cancel([NOWHERE, queued, done, 2**63 - 1])

    assert (result.ended, result.unknown) == ([queued], [NOWHERE, done, 2**63 - 1])
    assert record(either, done).status == "succeeded"
    assert either.jobs.cancel([]).ended == []


@pytest.mark.parametrize("operation", ["cancel", "delete", "purge"])
def test_the_key_of_a_job_that_was_ended_is_free(either: PgQueuer, operation: str) -> None:
    job_id = either.enqueue("work", dedupe_key="k")

    either.jobs.purge() if operation == "purge" else getattr(either.jobs, operation)([job_id])

    assert either.enqueue("work", dedupe_key="k") != job_id


@pytest.mark.parametrize("status", ["retried", "held", "released"])
def test_a_job_that_goes_back_although_it_was_asked_to_end_is_ended(either: PgQueuer, status: str) -> None:
    with hand(either.store, "work") as one:
        claim = _claimed(either, one, dedupe_key="k")
        job_id = claim.job.id
        either.jobs.cancel([job_id])
        assert either.store.end_cancelled() == 0
        assert record(either, job_id).status == "running"

        assert one.settle(claim, status, error='{"type": "Busy"}').written

        assert record(either, job_id).status == "cancelled"
        assert [error["type"] for error in record(either, job_id).errors] == ["Busy", "Cancelled"]
        assert either.store.end_cancelled() == 0
        assert either.store.cancel_requests([job_id]) == set()
        assert one.claim() == []


@pytest.mark.parametrize("status", ["queued", "held"])
def test_a_job_that_was_asked_to_end_just_after_it_went_back_is_ended(either: PgQueuer, status: str) -> None:
    job_id = either.enqueue("work") if status == "queued" else ended(either, "held")
    ask_too_late(either.store, job_id)

    assert either.store.end_cancelled() == 1
    assert either.store.end_cancelled() == 0

    assert record(either, job_id).status == "cancelled"
    assert record(either, job_id).errors[-1]["type"] == "Cancelled"
    assert either.store.cancel_requests([job_id]) == set()


def test_what_finished_jobs_were_asked_is_forgotten(either: PgQueuer) -> None:
    with hand(either.store, "work") as one:
        claim = _claimed(either, one)
        job_id = claim.job.id
        either.jobs.cancel([job_id])
        one.settle(claim, "succeeded")
        assert either.store.cancel_requests([job_id]) == {job_id}

    assert either.store.end_cancelled() == 0
    assert either.store.cancel_requests([job_id]) == set()
    assert record(either, job_id).status == "succeeded"


def test_workers_hear_of_a_request_once_it_is_committed(pgq: PgQueuer, dsn: str) -> None:
    with hand(pgq.store, "work") as one, ear(dsn) as listening:
        running = [_running(pgq, one) for _ in range(2)]
        pgq.enqueue("other")
        listening.heard()

        pgq.jobs.cancel(running)
        assert listening.heard() == ['[0, 0, [], "cancel"]']
        pgq.jobs.cancel([each.id for each in pgq.jobs.find(status="queued")])
        assert listening.heard() == []


def test_jobs_that_wait_go_to_history_as_deleted(either: PgQueuer) -> None:
    held, queued = ended(either, "held"), either.enqueue("work")

    result = either.jobs.delete([queued, held, queued])

    assert (result.deleted, result.refused, result.unknown) == ([queued, held], [], [])
    assert [record(either, each).status for each in (queued, held)] == ["deleted", "deleted"]
    assert record(either, held).errors == [{"reason": "test"}]
    with hand(either.store, "work") as one:
        assert one.claim() == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "deleted"])
def test_finished_jobs_are_removed_from_history(either: PgQueuer, status: str) -> None:
    if status == "deleted":
        job_id = either.enqueue("work")
        either.jobs.delete([job_id])
    else:
        job_id = ended(either, status)

    assert either.jobs.delete([job_id]).deleted == [job_id]
    assert either.jobs.get(job_id) is None
    assert either.jobs.delete([job_id]).unknown == [job_id]


def test_running_jobs_are_not_deleted(either: PgQueuer) -> None:
    with hand(either.store, "work") as one:
        running = _running(either, one)
        queued = either.enqueue("work")

        result = either.jobs.delete([running, NOWHERE, queued])

        assert (result.deleted, result.refused, result.unknown) == ([queued], [running], [NOWHERE])
        assert record(either, running).status == "running"


def test_held_jobs_are_listed_the_latest_first(either: PgQueuer) -> None:
    held = [ended(either, "held", entrypoint) for entrypoint in ("work", "other", "work")]
    either.enqueue("work")

    assert [each.id for each in either.jobs.held()] == held[::-1]
    assert [each.id for each in either.jobs.held(limit=1)] == [held[2]]
    assert [each.id for each in either.jobs.held(entrypoint="other")] == [held[1]]
    assert either.jobs.held(entrypoint="nobody") == []
    assert {each.status for each in either.jobs.held()} == {"held"}


@pytest.mark.parametrize("status", ["queued", "held", "succeeded", "failed", "cancelled", "deleted"])
def test_a_purge_takes_all_of_one_status(either: PgQueuer, status: Any) -> None:
    jobs = {each: ended(either, each) for each in ("held", "succeeded", "failed", "cancelled")}
    jobs["deleted"] = either.enqueue("work")
    either.jobs.delete([jobs["deleted"]])
    jobs["queued"] = either.enqueue("work")

    assert either.jobs.purge(status=status, plan=True) == 1
    assert len(either.jobs.find()) == 6
    assert either.jobs.purge(status=status) == 1
    assert either.jobs.purge(status=status) == 0

    gone = either.jobs.get(jobs[status])
    assert gone.status == "deleted" if status in ("queued", "held") and gone else gone is None
    assert {each for each in jobs if each != status} == {
        each for each, job_id in jobs.items() if (found := either.jobs.get(job_id)) and found.status == each
    }


def test_a_purge_takes_one_entrypoint_only(either: PgQueuer) -> None:
    either.enqueue_many(NewJob(entrypoint=name) for name in ("a", "b", "a"))

    assert either.jobs.purge("a", plan=True) == 2
    assert either.jobs.purge("a") == 2
    assert either.jobs.count() == {("a", "deleted"): 2, ("b", "queued"): 1}
    assert either.jobs.purge("nobody") == 0


def test_a_purge_takes_what_is_old_enough(timed: Timed) -> None:
    jobs = timed.store.operations()
    timed.producer.enqueue("work")
    timed.clock.move(minutes=30)
    timed.producer.enqueue("work")
    timed.clock.move(minutes=30)

    assert jobs.count_purgeable("queued", entrypoint=None, older_than=HOUR) == 1
    assert jobs.purge("queued", entrypoint=None, older_than=2 * HOUR) == 0
    assert jobs.purge("queued", entrypoint=None, older_than=HOUR) == 1
    assert jobs.purge("queued", entrypoint=None, older_than=timedelta()) == 1
    # They were enqueued at different times, and finished at the same.
    timed.clock.move(minutes=30)
    assert jobs.purge("deleted", entrypoint=None, older_than=HOUR) == 0
    timed.clock.move(minutes=30)
    assert jobs.count_purgeable("deleted", entrypoint=None, older_than=HOUR) == 2
    assert jobs.purge("deleted", entrypoint=None, older_than=HOUR) == 2


@pytest.mark.parametrize("number", [3, 4, 7])
def test_a_purge_goes_slice_by_slice(pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(operations, "SLICE", 4)
    pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(number))

    assert pgq.jobs.purge() == number
    assert query(dsn, "select count(distinct xmin::text) from pgq_history") == [(-(-number // 4),)]
    assert pgq.jobs.purge(status="deleted") == number
    assert pgq.jobs.count() == {}


def test_a_purge_leaves_what_comes_meanwhile(pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "SLICE", 1)
    pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(3))
    end = operations.PostgresOperations._end

    def enqueue_and_end(*arguments: Any) -> set[int]:
        pgq.enqueue("work")
        return end(*arguments)

    monkeypatch.setattr(operations.PostgresOperations, "_end", enqueue_and_end)
    assert pgq.jobs.purge() == 3
    assert pgq.jobs.count()["work", "queued"] > 0


MISUSES: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda pgq: pgq.jobs.cancel(7), TypeError, "ids=7 must be a list of job ids, not int"),
    (lambda pgq: pgq.jobs.cancel("7"), TypeError, "job id '7' must be an int, not str"),
    (lambda pgq: pgq.jobs.delete([True]), TypeError, "job id True must be an int"),
    (lambda pgq: pgq.jobs.delete([0]), ValueError, "job id 0 is out of range"),
    (lambda pgq: pgq.jobs.requeue([2**63]), ValueError, "is out of range"),
    (lambda pgq: pgq.jobs.held(limit=0), ValueError, "limit=0: a whole number from 1 to"),
    (lambda pgq: pgq.jobs.held(limit="5"), TypeError, "limit='5' must be an int, not str"),
    (lambda pgq: pgq.jobs.find(limit=True), TypeError, "limit=True must be an int"),
    (lambda pgq: pgq.jobs.find(limit=2**70), ValueError, "limit=1180591620717411303424: a whole number from 1 to 2,147,483,647"),
    (lambda pgq: pgq.jobs.find(entrypoint=3), TypeError, "entrypoint=3 must be a str, not int"),
    (lambda pgq: pgq.jobs.find(entrypoint="a\0b"), ValueError, "entrypoint='a\\x00b' contains a NUL character"),
    (lambda pgq: pgq.jobs.find(queue=""), ValueError, "queue='' has 0 characters"),
    (lambda pgq: pgq.jobs.held(entrypoint=b"a"), TypeError, "entrypoint=b'a' must be a str"),
    (lambda pgq: pgq.jobs.purge(entrypoint=3), TypeError, "entrypoint=3 must be a str, not int"),
    (lambda pgq: pgq.jobs.purge(status="running"), ValueError, "deleted is accepted; running ones end by `cancel`"),
    (lambda pgq: pgq.jobs.purge(status="lost"), ValueError, "status='lost': queued, held, succeeded"),
    (lambda pgq: pgq.jobs.purge(older_than=-HOUR), ValueError, "older_than=-1 day, 23:00:00: from 0 to 36,500 days"),
    (lambda pgq: pgq.jobs.purge(older_than=timedelta.max), ValueError, "from 0 to 36,500 days are accepted"),
    (lambda pgq: pgq.jobs.purge(older_than=7), TypeError, "older_than=7 must be a timedelta, not int"),
]


@pytest.mark.parametrize(("misuse", "error", "message"), MISUSES, ids=[message for _, _, message in MISUSES])
def test_what_cannot_be_meant_is_refused_and_nothing_done(
    either: PgQueuer, misuse: Callable[[PgQueuer], Any], error: type[Exception], message: str
) -> None:
    either.enqueue("work")
    with pytest.raises(error) as caught:
        misuse(either)
    assert message in str(caught.value)
    assert either.jobs.count() == {("work", "queued"): 1}
