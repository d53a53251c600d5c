"""At most one unfinished job per dedupe key: every way to deal with a conflict, on both stores, without rivals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import DuplicateJob, NewJob, PgQueuer
from pgq_sync.models import JobRecord
from tests.storage.conftest import Timed
from tests.storage.support import ask_too_late, hand


def _record(pgq: PgQueuer, job_id: int | None) -> JobRecord:
    assert job_id is not None
    record = pgq.jobs.get(job_id)
    assert record is not None
    return record


def _payloads(pgq: PgQueuer) -> dict[int, bytes | None]:
    return {record.id: record.payload for record in pgq.jobs.find(limit=1_000)}


def _new(*pairs: tuple[str | None, str]) -> list[NewJob]:
    return [NewJob(entrypoint="work", dedupe_key=key, payload=payload) for key, payload in pairs]


def test_raise_names_the_key_and_the_job_that_has_it(either: PgQueuer) -> None:
    job_id = either.enqueue("work", "first", dedupe_key="k")

    with pytest.raises(DuplicateJob) as caught:
        either.enqueue("other", "second", dedupe_key="k", queue="mail")

    assert (caught.value.key, caught.value.job_id) == ("k", job_id)
    assert str(job_id) in str(caught.value)
    assert "'k'" in str(caught.value)
    assert _payloads(either) == {job_id: b"first"}


def test_skip_gives_none_and_existing_gives_the_job_that_is_there(either: PgQueuer) -> None:
    job_id = either.enqueue("work", "first", dedupe_key="k")

    assert either.enqueue("other", "second", dedupe_key="k", on_conflict="skip") is None
    assert either.enqueue("other", "second", dedupe_key="k", on_conflict="existing") == job_id
    assert _payloads(either) == {job_id: b"first"}


@pytest.mark.parametrize("mode", ["raise", "skip", "existing", "replace"])
def test_a_free_key_is_taken_in_every_mode(either: PgQueuer, mode: Any) -> None:
    job_id = either.enqueue("work", dedupe_key="k", on_conflict=mode)

    assert _record(either, job_id).dedupe_key == "k"


@pytest.mark.parametrize("mode", ["raise", "skip", "existing", "replace"])
def test_jobs_without_a_key_never_conflict(either: PgQueuer, mode: Any) -> None:
    alone = [either.enqueue("work", on_conflict=mode) for _ in range(2)]
    batch = either.enqueue_many(_new((None, "a"), ("k", "b"), (None, "c")), on_conflict=mode)

    assert len({*alone, *batch}) == 5
    assert None not in batch


def test_keys_that_differ_in_case_or_space_are_different_keys(either: PgQueuer) -> None:
    ids = [either.enqueue("work", dedupe_key=key) for key in ("k", "K", "k ", " k", "ķ", "x" * 2_000)]

    assert len(set(ids)) == 6


@pytest.mark.parametrize("status", ["queued", "held"])
def test_replace_gives_a_waiting_job_everything_of_the_new_one(timed: Timed, status: str) -> None:
    job_id = timed.producer.enqueue("work", "old", dedupe_key="k", priority=9, headers={"old": 1})
    if status == "held":
        with hand(timed.store, "work") as one:
            one.settle(one.claim_one(), "held", error='{"reason": "look"}')
    timed.clock.move(minutes=1)

    replaced = timed.producer.enqueue(
        "other",
        "new",
        dedupe_key="k",
        priority=2,
        execute_after=timedelta(hours=1),
        headers={"new": 2},
        queue="mail",
        on_conflict="replace",
    )

    assert replaced == job_id
    record = timed.store.operations().get(job_id)
    assert record is not None
    assert (record.status, record.entrypoint, record.payload, record.queue) == ("queued", "other", b"new", "mail")
    assert (record.priority, record.headers, record.attempts, record.errors) == (2, {"new": 2}, 0, [])
    assert record.execute_after == timed.clock.now + timedelta(hours=1)
    with hand(timed.store, "work", "other") as one:
        assert one.claim() == []
        timed.clock.move(hours=1)
        assert [claim.job.payload for claim in one.claim()] == [b"new"]
        assert one.claim() == []


def test_replace_makes_a_deferred_job_due(timed: Timed) -> None:
    job_id = timed.producer.enqueue("work", "old", dedupe_key="k", execute_after=timedelta(days=1))

    timed.producer.enqueue("work", "new", dedupe_key="k", on_conflict="replace")

    with hand(timed.store, "work") as one:
        job = one.claim_one().job
    assert (job.id, job.payload, job.attempt) == (job_id, b"new", 1)


def test_replace_forgets_that_the_old_job_was_asked_to_end(timed: Timed) -> None:
    job_id = timed.producer.enqueue("work", "old", dedupe_key="k")
    with hand(timed.store, "work") as one:
        claim = one.claim_one()
        one.settle(claim, "retried")
        ask_too_late(timed.store, job_id)

        assert timed.producer.enqueue("work", "new", dedupe_key="k", on_conflict="replace") == job_id

        assert timed.store.end_cancelled() == 0
        assert one.claim_one().job.payload == b"new"
        assert timed.store.cancel_requests([job_id]) == set()


def test_replace_leaves_a_running_job_alone(either: PgQueuer) -> None:
    job_id = either.enqueue("work", "old", dedupe_key="k", priority=3)

    with hand(either.store, "work") as one:
        claim = one.claim_one()
        before = either.jobs.get(job_id)
        assert either.enqueue("work", "new", dedupe_key="k", on_conflict="replace") is None
        assert either.jobs.get(job_id) == before
        assert one.settle(claim).written


def test_a_key_that_guards_until_the_end_is_taken_while_its_job_runs_and_free_afterwards(either: PgQueuer) -> None:
    job_id = either.enqueue("work", dedupe_key="k")

    with hand(either.store, "work") as one:
        claim = one.claim_one()
        with pytest.raises(DuplicateJob) as caught:
            either.enqueue("work", dedupe_key="k")
        assert caught.value.job_id == job_id
        one.settle(claim)

    assert either.enqueue("work", dedupe_key="k") != job_id


@pytest.mark.parametrize("status", ["retried", "held"])
def test_a_key_that_guards_until_the_end_survives_an_attempt(either: PgQueuer, status: str) -> None:
    job_id = either.enqueue("work", dedupe_key="k")
    with hand(either.store, "work") as one:
        one.settle(one.claim_one(), status)

    assert either.enqueue("work", dedupe_key="k", on_conflict="existing") == job_id


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_every_end_frees_the_key(either: PgQueuer, status: str) -> None:
    job_id = either.enqueue("work", dedupe_key="k")
    with hand(either.store, "work") as one:
        one.settle(one.claim_one(), status)

    assert either.enqueue("work", dedupe_key="k") != job_id


def test_a_key_that_guards_until_the_start_is_free_when_the_job_is_claimed(either: PgQueuer) -> None:
    running = either.enqueue("work", dedupe_key="k", dedupe_until="started")
    with pytest.raises(DuplicateJob):
        either.enqueue("work", dedupe_key="k", dedupe_until="started")

    with hand(either.store, "work") as one:
        claim = one.claim_one()
        following = either.enqueue("work", dedupe_key="k", dedupe_until="started")
        with pytest.raises(DuplicateJob) as caught:
            either.enqueue("work", dedupe_key="k", dedupe_until="started")
        one.settle(claim, "retried")

    assert caught.value.job_id == following
    assert {record.id: record.status for record in either.jobs.find()} == {running: "queued", following: "queued"}


def test_replacing_changes_how_long_the_key_guards(either: PgQueuer) -> None:
    either.enqueue("work", dedupe_key="k")
    either.enqueue("work", dedupe_key="k", dedupe_until="started", on_conflict="replace")

    with hand(either.store, "work") as one:
        one.claim_one()
        assert either.enqueue("work", dedupe_key="k")


def test_raise_refuses_a_batch_that_uses_a_key_twice(either: PgQueuer) -> None:
    with pytest.raises(DuplicateJob) as caught:
        either.enqueue_many(_new(("a", "1"), (None, "2"), ("b", "3"), ("a", "4")))

    assert (caught.value.key, caught.value.job_id) == ("a", None)
    assert _payloads(either) == {}


def test_raise_enqueues_nothing_of_a_batch_with_one_conflict(either: PgQueuer) -> None:
    job_id = either.enqueue("work", "there", dedupe_key="m")

    with pytest.raises(DuplicateJob) as caught:
        either.enqueue_many(_new((None, "1"), ("a", "2"), ("m", "3"), ("z", "4")))

    assert (caught.value.key, caught.value.job_id) == ("m", job_id)
    assert _payloads(either) == {job_id: b"there"}


def test_the_first_of_a_batch_wins_with_skip(either: PgQueuer) -> None:
    either.enqueue("work", "there", dedupe_key="m")

    ids = either.enqueue_many(_new(("z", "1"), ("a", "2"), ("z", "3"), ("m", "4"), (None, "5"), ("a", "6")), on_conflict="skip")

    first, second, *rest = ids
    assert rest[0] is rest[1] is rest[3] is None
    assert [_record(either, job_id).payload for job_id in (first, second, rest[2])] == [b"1", b"2", b"5"]
    assert sorted(_payloads(either).values(), key=str) == [b"1", b"2", b"5", b"there"]


def test_existing_gives_the_same_id_to_every_job_of_one_key(either: PgQueuer) -> None:
    there = either.enqueue("work", "there", dedupe_key="m")

    ids = either.enqueue_many(_new(("z", "1"), ("m", "2"), ("z", "3"), ("m", "4"), (None, "5")), on_conflict="existing")

    assert ids[1] == ids[3] == there
    assert ids[0] == ids[2] != there
    assert _payloads(either) == {there: b"there", ids[0]: b"1", ids[4]: b"5"}


def test_the_last_of_a_batch_wins_with_replace(either: PgQueuer) -> None:
    there = either.enqueue("work", "there", dedupe_key="m")
    either.enqueue("running", "runs", dedupe_key="r")

    with hand(either.store, "running") as one:
        running = one.claim_one().job.id
        ids = either.enqueue_many(
            _new(("z", "1"), ("m", "2"), ("r", "3"), ("z", "4"), ("m", "5"), (None, "6"), ("r", "7")), on_conflict="replace"
        )

    assert ids[1] == ids[4] == there
    assert ids[2] is ids[6] is None
    assert ids[0] == ids[3]
    assert _payloads(either) == {there: b"5", running: b"runs", ids[0]: b"4", ids[5]: b"6"}


@pytest.mark.parametrize("mode", ["skip", "existing", "replace"])
def test_a_large_batch_meets_itself_across_its_slices(either: PgQueuer, mode: Any) -> None:
    keys = [f"k{number % 9_000}" for number in range(12_000)]

    ids = either.enqueue_many(
        (NewJob(entrypoint="work", dedupe_key=key, payload=str(n)) for n, key in enumerate(keys)), on_conflict=mode
    )

    assert either.jobs.count() == {("work", "queued"): 9_000}
    for first, again in ((0, 9_000), (2_000, 11_000)):  # within a slice, and across two
        assert ids[again] == (None if mode == "skip" else ids[first])
        assert _record(either, ids[first]).payload == str(again if mode == "replace" else first).encode()


def test_raise_in_a_late_slice_enqueues_nothing_at_all(either: PgQueuer) -> None:
    keys = [*(f"k{number}" for number in range(11_000)), "k3"]

    with pytest.raises(DuplicateJob) as caught:
        either.enqueue_many(NewJob(entrypoint="work", dedupe_key=key) for key in keys)

    assert caught.value.key == "k3"
    assert either.jobs.count() == {}
