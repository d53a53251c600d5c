"""What every store does, whichever it is: claims, outcomes, fences. One suite on PostgreSQL and in memory."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.models import Outcome, Settlement
from tests.storage.conftest import Timed
from tests.storage.support import hand

HOUR = timedelta(hours=1)


def test_claims_come_by_priority_then_time_then_id(timed: Timed) -> None:
    first = timed.producer.enqueue("work")
    second = timed.producer.enqueue("work")
    urgent = timed.producer.enqueue("work", priority=5)
    least = timed.producer.enqueue("work", priority=-5)
    timed.clock.move(seconds=10)
    late = timed.producer.enqueue("work", execute_after=timedelta(seconds=2))
    between = timed.producer.enqueue("work", execute_after=timedelta(seconds=1))
    timed.clock.move(seconds=10)

    with hand(timed.store, "work") as one:
        together = [claim.job.id for claim in one.claim(2)]
        alone = [one.claim_one().job.id for _ in range(4)]

    assert together + alone == [urgent, first, second, between, late, least]


def test_jobs_of_equal_priority_come_in_the_order_of_their_time_whatever_their_entrypoint(either: PgQueuer) -> None:
    ids = [either.enqueue(name) for name in ("b", "a", "b", "a")]

    with hand(either.store, "a", "b") as one:
        assert [claim.job.id for claim in one.claim()] == ids


def test_a_claim_over_several_lanes_takes_no_more_than_there_is_room_for(either: PgQueuer) -> None:
    jobs = [
        NewJob(entrypoint=name, priority=priority, queue=queue)
        for name in ("a", "b")
        for priority in (0, 1)
        for queue in ("default", "mail")
        for _ in range(5)
    ]
    ids = either.enqueue_many(jobs)

    with hand(either.store, "a", "b") as one:
        batches = [one.claim(7) for _ in range(7)]

    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 7, 5, 0]
    assert sorted(claim.job.id for batch in batches for claim in batch) == ids
    priorities = [claim.job.priority for batch in batches for claim in batch]
    assert priorities == sorted(priorities, reverse=True)


def test_a_claimed_job_knows_all_that_was_enqueued(either: PgQueuer) -> None:
    job_id = either.enqueue("work", b"\x00\xff'\\%s", priority=3, headers={"trace": ["ä", None]}, queue="mail", dedupe_key="k")

    with hand(either.store, "work") as one:
        job = one.claim_one().job

    assert (job.id, job.entrypoint, job.queue, job.priority, job.attempt) == (job_id, "work", "mail", 3, 1)
    assert (job.payload, job.headers, job.dedupe_key) == (b"\x00\xff'\\%s", {"trace": ["ä", None]}, "k")
    assert job.worker_id == one.worker.worker_id
    assert job.created_at <= job.execute_after <= job.claimed_at


def test_a_job_is_not_claimed_before_its_time(timed: Timed) -> None:
    for due in (HOUR, timed.clock.now + HOUR, (timed.clock.now + HOUR).astimezone(timezone(timedelta(hours=-9)))):
        timed.producer.enqueue("work", execute_after=due)
    at_once = timed.producer.enqueue("work")

    with hand(timed.store, "work") as one:
        assert [claim.job.id for claim in one.claim()] == [at_once]
        timed.clock.move(seconds=3599)
        assert one.claim() == []
        timed.clock.move(seconds=1)
        assert len(one.claim()) == 3


@pytest.mark.parametrize(
    "due", [timedelta(), -HOUR, timedelta.min, datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2, 1, 1, tzinfo=timezone.utc)]
)
def test_a_time_in_the_past_means_now(either: PgQueuer, due: timedelta | datetime) -> None:
    job_id = either.enqueue("work", execute_after=due)

    record = either.jobs.get(job_id)
    assert record is not None
    assert record.execute_after == record.created_at
    with hand(either.store, "work") as one:
        assert one.claim_one().job.id == job_id


def test_no_job_is_claimed_twice(either: PgQueuer) -> None:
    ids = either.enqueue_many(NewJob(entrypoint="work", priority=number % 3) for number in range(300))

    claimed: list[int] = []
    with hand(either.store, "work") as one, hand(either.store, "work") as other:
        while batch := [*one.claim(17), *other.claim(13)]:
            claimed += [claim.job.id for claim in batch]

    assert sorted(claimed) == ids


def test_a_worker_gets_only_what_it_serves(either: PgQueuer) -> None:
    wanted = either.enqueue("work", queue="mail")
    for entrypoint, queue in (("work", "default"), ("other", "mail"), ("Work", "mail"), ("work", "mail ")):
        either.enqueue(entrypoint, queue=queue, priority=9)

    with hand(either.store, "work", queues=("mail", "post")) as one:
        assert [claim.job.id for claim in one.claim()] == [wanted]
    with hand(either.store, "work") as every_queue:
        assert {claim.job.queue for claim in every_queue.claim()} == {"default", "mail "}


@pytest.mark.parametrize("thorough", [True, False])
def test_a_noisy_entrypoint_starves_nobody(either: PgQueuer, thorough: bool) -> None:
    noisy = ("a-noisy", "m-noisy", "z-noisy")
    either.enqueue_many(NewJob(entrypoint=name) for name in noisy for _ in range(2_000))
    either.enqueue_many(NewJob(entrypoint="quiet") for _ in range(20))

    with hand(either.store, *noisy, "quiet") as one:
        served = {claim.job.entrypoint for _ in range(5) for claim in one.claim(50, thorough=thorough)}

    assert served == {*noisy, "quiet"}


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_finished_job_is_in_history_with_all_there_is_to_know(either: PgQueuer, status: Any) -> None:
    job_id = either.enqueue("work", "data", headers={"a": 1}, dedupe_key="k", queue="mail", priority=4)
    error = {"kind": "ValueError", "message": "ä"}

    with hand(either.store, "work") as one:
        claim = one.claim_one()
        settled = one.settle(claim, status, result='{"answer": [42, null]}', error=json.dumps(error))

    assert [each.claim for each in settled.written] == [claim]
    assert not settled.lost
    assert not settled.blocked
    record = either.jobs.get(job_id)
    assert record is not None
    assert (record.status, record.attempts, record.result, record.errors) == (status, 1, {"answer": [42, None]}, [error])
    assert (record.payload, record.headers, record.dedupe_key) == (b"data", {"a": 1}, "k")
    assert (record.queue, record.priority, record.worker_id) == ("mail", 4, one.worker.worker_id)
    assert record.claimed_at == claim.job.claimed_at
    assert record.finished_at is not None
    assert record.finished_at >= claim.job.claimed_at
    assert either.jobs.count() == {("work", status): 1}


def test_a_success_that_is_not_to_be_kept_leaves_nothing(either: PgQueuer) -> None:
    forgotten, kept = either.enqueue("work"), either.enqueue("work")

    with hand(either.store, "work") as one:
        claims = one.claim()
        one.store.settle(
            one.worker.worker_id,
            [Settlement(claim, Outcome(status="succeeded", keep=claim.job.id == kept)) for claim in claims],
        )

    assert either.jobs.get(forgotten) is None
    assert either.jobs.count() == {("work", "succeeded"): 1}


def test_a_retried_job_waits_its_delay_and_its_attempts_and_errors_add_up(timed: Timed) -> None:
    job_id = timed.producer.enqueue("work")

    with hand(timed.store, "work") as one:
        for attempt in (1, 2):
            claim = one.claim_one()
            assert claim.job.attempt == attempt
            one.settle(claim, "retried", delay=timedelta(seconds=30), error=json.dumps({"attempt": attempt}))
            record = timed.store.operations().get(job_id)
            assert record is not None
            assert (record.status, record.attempts, record.worker_id, record.claimed_at) == ("queued", attempt, None, None)
            assert record.execute_after == timed.clock.now + timedelta(seconds=30)
            timed.clock.move(seconds=29)
            assert one.claim() == []
            timed.clock.move(seconds=1)
        one.settle(one.claim_one(), "failed", error='{"attempt": 3}')

    record = timed.store.operations().get(job_id)
    assert record is not None
    assert (record.status, record.attempts) == ("failed", 3)
    assert record.errors == [{"attempt": 1}, {"attempt": 2}, {"attempt": 3}]


def test_a_job_keeps_its_latest_hundred_errors(either: PgQueuer) -> None:
    job_id = either.enqueue("work")

    with hand(either.store, "work") as one:
        for attempt in range(1, 104):
            one.settle(one.claim_one(), "retried", error=json.dumps({"attempt": attempt}))

    record = either.jobs.get(job_id)
    assert record is not None
    assert [error["attempt"] for error in record.errors] == list(range(4, 104))


def test_a_held_job_is_not_claimed(either: PgQueuer) -> None:
    job_id = either.enqueue("work")

    with hand(either.store, "work") as one:
        one.settle(one.claim_one(), "held", error='{"reason": "look"}')
        assert one.claim() == []

    record = either.jobs.get(job_id)
    assert record is not None
    assert (record.status, record.attempts, record.errors) == ("held", 1, [{"reason": "look"}])
    assert (record.worker_id, record.finished_at) == (None, None)


def test_a_released_job_keeps_its_place_and_its_attempt_is_not_counted(timed: Timed) -> None:
    first = timed.producer.enqueue("work")
    timed.clock.move(seconds=1)
    second = timed.producer.enqueue("work")

    with hand(timed.store, "work") as one:
        claim = one.claim_one()
        timed.clock.move(minutes=5)
        one.settle(claim, "released")
        record = timed.store.operations().get(first)
        assert record is not None
        assert (record.status, record.attempts, record.execute_after) == ("queued", 0, claim.job.execute_after)
        assert [claim.job.id for claim in one.claim()] == [first, second]


def _lost(either: PgQueuer, job_id: int, worker_id: Any, claim: Any) -> None:
    """Every outcome under this claim is lost and changes nothing."""
    before = either.jobs.get(job_id)
    for status in ("succeeded", "failed", "cancelled", "retried", "held", "released"):
        outcome: Any = Outcome(status=status, error='{"late": true}')
        settled = either.store.settle(worker_id, [Settlement(claim, outcome)])
        assert [each.claim for each in settled.lost] == [claim]
        assert not settled.written
        assert either.jobs.get(job_id) == before


def test_an_outcome_under_another_fence_or_another_worker_is_lost(either: PgQueuer) -> None:
    job_id = either.enqueue("work")

    with hand(either.store, "work") as one:
        claim = one.claim_one()
        _lost(either, job_id, one.worker.worker_id, msgspec.structs.replace(claim, fence=claim.fence + 1))
        _lost(either, job_id, uuid4(), claim)
        assert one.settle(claim).written


def test_an_outcome_of_an_earlier_claim_is_lost(either: PgQueuer) -> None:
    job_id = either.enqueue("work")

    with hand(either.store, "work") as one, hand(either.store, "work") as other:
        earlier = one.claim_one()
        one.settle(earlier, "retried")
        _lost(either, job_id, one.worker.worker_id, earlier)
        later = other.claim_one()
        _lost(either, job_id, one.worker.worker_id, earlier)
        other.settle(later)
        _lost(either, job_id, one.worker.worker_id, earlier)

    assert later.fence != earlier.fence


def test_an_outcome_written_again_changes_nothing(either: PgQueuer) -> None:
    job_id = either.enqueue("work")

    with hand(either.store, "work") as one:
        claim = one.claim_one()
        one.settle(claim, "succeeded", result="1")
        before = either.jobs.get(job_id)
        again = one.settle(claim, "failed", result="2")

    # Not lost: the answer to the first time may have been.
    assert [each.claim for each in again.written] == [claim]
    assert either.jobs.get(job_id) == before
    assert either.jobs.count() == {("work", "succeeded"): 1}


def test_one_lost_outcome_spoils_no_other(either: PgQueuer) -> None:
    either.enqueue_many(NewJob(entrypoint="work") for _ in range(6))

    with hand(either.store, "work") as one, hand(either.store, "work") as other:
        claims = one.claim()
        one.settle(claims[2], "released")
        stolen = other.claim_one()
        settled = one.settle(claims)

    assert [each.claim for each in settled.written] == [claim for claim in claims if claim.job.id != stolen.job.id]
    assert [each.claim for each in settled.lost] == [claims[2]]
    assert either.jobs.count() == {("work", "succeeded"): 5, ("work", "running"): 1}
