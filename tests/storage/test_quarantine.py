"""Jobs whose workers have died twice, on both stores: claimed one by one, for a place of their own, and else like any other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgq_sync.models import Claim, DeclaredLimit, Room
from tests.storage.conftest import Timed
from tests.storage.support import hand, wait_until_gone, worker

ALONE = Room(10, 10, quarantine=True)
TAKEN = Room(10, 10, quarantine=False)  # one of them runs already


def rescued(timed: Timed, times: int, *entrypoints: str, priority: int = 0) -> list[int]:
    """New jobs, one of each entrypoint, that have cost so many workers their life."""
    ids: list[int] = [timed.producer.enqueue(entrypoint, priority=priority) for entrypoint in entrypoints]
    rescuer = worker(*entrypoints)
    for _ in range(times):
        victim = worker(*entrypoints)
        timed.store.register(victim)
        with hand(timed.store, who=victim) as one:
            claimed = 0
            while claimed < len(ids):
                claimed += len(one.claim(ALONE))
        if timed.dsn:
            wait_until_gone(timed.dsn, victim.worker_id)
        timed.clock.move(seconds=15)
        timed.store.beat(rescuer)
        assert sum(dead.jobs for dead in timed.store.rescue(rescuer)) == len(ids)
    return ids


def ids(claims: list[Claim]) -> list[int]:
    return [claim.job.id for claim in claims]


def test_a_job_whose_worker_has_died_once_is_claimed_like_any_other(timed: Timed) -> None:
    jobs = rescued(timed, 1, "work", "work", "other")
    with hand(timed.store, "work", "other") as one:
        claims = one.claim(Room(10, 0))
    assert sorted(ids(claims)) == jobs
    assert {claim.rescues for claim in claims} == {1}


@pytest.mark.parametrize("times", [2, 3])
def test_a_job_whose_workers_have_died_twice_is_claimed_for_a_place_of_its_own_alone(timed: Timed, times: int) -> None:
    jobs = rescued(timed, times, "work", "work", "other")
    timed.clock.move(seconds=1)
    innocent = timed.producer.enqueue("work")
    with hand(timed.store, "work", "other") as one:
        assert ids(one.claim(TAKEN)) == [innocent]
        assert one.claim(Room(10, 0, quarantine=True)) == []
        claims = [one.claim(ALONE) for _ in range(4)]
    assert [len(each) for each in claims] == [1, 1, 1, 0]
    assert sorted(job_id for each in claims for job_id in ids(each)) == jobs
    assert {claim.rescues for each in claims for claim in each} == {times}


@pytest.mark.parametrize("status", ["released", "retried"])
def test_a_suspect_that_is_put_back_is_found_as_soon_as_it_is_told_of(timed: Timed, status: str) -> None:
    (suspect,) = rescued(timed, 2, "work")
    with hand(timed.store, "work") as one, hand(timed.store, "work") as other:
        claims = one.claim(ALONE)
        assert other.claim(ALONE) == []
        one.settle(claims, status)
        other.claimer.wait()
        assert ids(other.claim(ALONE, thorough=False)) == [suspect]


def test_jobs_in_quarantine_do_not_keep_the_others_of_their_entrypoint_waiting(timed: Timed) -> None:
    (suspect,) = rescued(timed, 2, "work")
    others = [timed.producer.enqueue("work") for _ in range(20)]
    with hand(timed.store, "work") as one:
        assert sorted(ids(one.claim(Room(30, 30, quarantine=True)))) == [suspect, *others]


def test_a_suspect_of_larger_priority_comes_first_and_one_of_smaller_priority_last(timed: Timed) -> None:
    (urgent,) = rescued(timed, 2, "urgent", priority=5)
    (least,) = rescued(timed, 2, "least", priority=-5)
    plain = timed.producer.enqueue("plain")
    with hand(timed.store, "urgent", "least", "plain") as one:
        assert [ids(one.claim(Room(1, 1, quarantine=True))) for _ in range(3)] == [[urgent], [plain], [least]]


def test_a_suspect_is_not_claimed_before_its_time_nor_while_it_is_paused(timed: Timed) -> None:
    (suspect,) = rescued(timed, 2, "work")
    with hand(timed.store, "work") as one:
        timed.store.limits.pause(entrypoint="work", queue=None)
        assert one.claim(ALONE) == []
        timed.store.limits.resume(entrypoint="work", queue=None)
        (claim,) = one.claim(ALONE)
        one.settle(claim, "retried", delay=timed.clock.now - timed.clock.now.replace(hour=0))
        assert one.claim(ALONE) == []
        timed.clock.move(hours=24)
        (again,) = one.claim(ALONE)
    assert (claim.job.id, again.job.id, again.rescues, again.job.attempt) == (suspect, suspect, 2, 2)


def test_a_suspect_obeys_its_entrypoints_limits(timed: Timed) -> None:
    rescued(timed, 2, "limited", "limited")
    timed.clock.move(seconds=1)
    innocent = timed.producer.enqueue("limited")
    timed.store.limits.declare([DeclaredLimit("limited", 1, 1.0, 2.0)], [])
    with hand(timed.store, "limited") as one:
        running = one.claim(ALONE)
        assert len(running) == 1
        assert one.claim(ALONE) == []
        one.settle(running)
        running = one.claim(ALONE)
        assert len(running) == 1
        one.settle(running)
        assert one.claim(ALONE) == []  # both tokens are spent
        timed.clock.move(seconds=1)
        running += one.claim(ALONE)
        assert len(running) == 2
        if running[-1].job.id != innocent:
            one.settle(running[-1])
            timed.clock.move(seconds=1)
            assert ids(one.claim(ALONE)) == [innocent]


def test_a_suspect_whose_entrypoint_is_limited_is_counted_by_the_limit(timed: Timed) -> None:
    rescued(timed, 2, "limited")
    timed.store.limits.declare([DeclaredLimit("limited", 1)], [])
    with hand(timed.store, "limited") as one, hand(timed.store, "limited") as other:
        (suspect,) = one.claim(ALONE)
        timed.producer.enqueue("limited")
        assert other.claim() == []
        one.settle(suspect)
        assert len(other.claim()) == 1


def test_a_suspect_that_waits_for_its_limit_keeps_no_other_one_waiting(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.storage.support.POLL_INTERVAL", timedelta(hours=1))
    rescued(timed, 2, "limited", priority=1)
    (other,) = rescued(timed, 2, "free")
    timed.store.limits.declare([DeclaredLimit("limited", 1)], [])
    running = timed.producer.enqueue("limited")
    with hand(timed.store, "limited") as one, hand(timed.store, "limited", "free") as another:
        assert ids(one.claim(TAKEN)) == [running]
        claims: list[Claim] = []
        for _ in range(3):
            another.claimer.arm()
            claims += another.claim(ALONE, thorough=False)
            if not claims:
                another.claimer.wait()
    assert ids(claims) == [other]


def test_a_suspect_that_is_requeued_by_a_person_is_one_no_longer(timed: Timed) -> None:
    (suspect,) = rescued(timed, 2, "work")
    with hand(timed.store, "work") as one:
        one.settle(one.claim(ALONE), "held")
        timed.store.operations().requeue([suspect])
        (claim,) = one.claim(TAKEN)
        assert (claim.job.id, claim.rescues) == (suspect, 0)
