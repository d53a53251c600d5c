"""Limits and pauses as claims obey them, on both stores: exactly, over the fleet, and at no other job's cost."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import NewJob
from pgq_sync.models import Claim, DeclaredLimit, Limit, Room
from tests.storage.conftest import Timed
from tests.storage.support import Hand, hand
from tests.waiting import wait_until

TINY = 1e-9  # requests per second: none comes while a test runs


def enqueue(timed: Timed, entrypoint: str, count: int, **options: Any) -> list[int]:
    jobs = (NewJob(entrypoint=entrypoint, **options) for _ in range(count))
    return [job_id for job_id in timed.producer.enqueue_many(jobs) if job_id]


def declare(timed: Timed, entrypoint: str = "limited", *numbers: Any) -> None:
    """What another worker has declared, which is how these tests' own ones know of it."""
    timed.store.limits.declare([DeclaredLimit(entrypoint, *numbers)], [])


def names(claims: list[Claim]) -> Counter[str]:
    return Counter(claim.job.entrypoint for claim in claims)


def test_two_workers_together_never_run_more_than_the_limit(timed: Timed) -> None:
    declare(timed, "limited", 3)
    enqueue(timed, "limited", 10)
    with hand(timed.store, "limited") as one, hand(timed.store, "limited") as other:
        running = [(one, claim) for claim in one.claim(2)] + [(other, claim) for claim in other.claim()]
        assert [owner for owner, _ in running] == [one, one, other]
        assert one.claim() == other.claim() == []
        for turn in (other, one, other, other, one, one, other):
            owner, ended = running.pop(0)
            owner.settle(ended)
            running.append((turn, turn.claim_one()))
            assert one.claim() == other.claim() == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "retried", "held", "released"])
def test_every_outcome_gives_the_place_back(timed: Timed, status: str) -> None:
    declare(timed, "limited", 1)
    enqueue(timed, "limited", 2)
    with hand(timed.store, "limited") as one:
        claims = one.claim()
        assert len(claims) == 1
        assert one.claim() == []
        one.settle(claims, status)
        assert len(one.claim()) == 1


def test_a_rescue_gives_the_place_back_and_what_is_lost_does_not_count(timed: Timed) -> None:
    declare(timed, "limited", 1)
    enqueue(timed, "limited", 2)
    with hand(timed.store, "limited") as silent, hand(timed.store, "limited") as one:
        timed.store.register(silent.worker)
        (claim,) = silent.claim()
        timed.clock.move(minutes=10)
        timed.store.register(one.worker)
        timed.store.rescue(one.worker)
        assert [again.job.id for again in one.claim()] == [claim.job.id]
        silent.settle(claim)
        assert one.claim() == silent.claim() == []


def test_tokens_are_spent_one_per_job_and_flow_in_at_the_rate(timed: Timed) -> None:
    declare(timed, "limited", 0, 2.0, 3.0)
    enqueue(timed, "limited", 20)
    with hand(timed.store, "limited") as one, hand(timed.store, "limited") as other:
        assert (len(one.claim(2)), len(other.claim())) == (2, 1)
        for milliseconds, jobs in [(499, 0), (1, 1), (499, 0), (501, 2), (999, 1), (1, 1), (60_000, 3), (0, 0)]:
            timed.clock.move(milliseconds=milliseconds)
            assert len([*one.claim(), *other.claim()]) == jobs


@pytest.mark.parametrize("rate", [0.3, 1 / 3, 0.7, 1.1, 7.3])
def test_rates_that_are_no_whole_numbers_are_kept_in_the_long_run(timed: Timed, rate: float) -> None:
    declare(timed, "limited", 0, rate, 2.0)
    enqueue(timed, "limited", 1_000)
    started, steps = timed.clock.now, random.Random(7)
    with hand(timed.store, "limited") as one:
        claimed = len(one.claim())
        for _ in range(150):
            # Never as long as it takes for a token, so that none overflows.
            timed.clock.move(seconds=steps.uniform(0, 0.9) / rate)
            claimed += len(one.claim())
    passed = (timed.clock.now - started).total_seconds()
    assert claimed == 2 + int(passed * rate)


def test_a_rate_without_a_burst_allows_one_seconds_worth_at_once(timed: Timed) -> None:
    declare(timed, "fast", 0, 5.0)
    declare(timed, "slow", 0, 0.5)
    enqueue(timed, "fast", 20)
    enqueue(timed, "slow", 20)
    with hand(timed.store, "fast", "slow") as one:
        assert names(one.claim()) == {"fast": 5, "slow": 1}


@pytest.mark.parametrize("rate", [1e10, 1e300])
def test_a_rate_beyond_counting_is_no_limit(timed: Timed, rate: float) -> None:
    declare(timed, "limited", 0, rate)
    enqueue(timed, "limited", 20)
    with hand(timed.store, "limited") as one:
        assert len(one.claim()) == 20


def test_a_clock_that_is_set_back_gives_no_tokens_away_and_takes_none(timed: Timed) -> None:
    declare(timed, "limited", 0, 1.0, 2.0)
    enqueue(timed, "limited", 2)
    with hand(timed.store, "limited") as one:
        assert len(one.claim()) == 2
        timed.clock.move(hours=-1)
        enqueue(timed, "limited", 10)
        assert one.claim() == []
        for _ in range(3):
            timed.clock.move(seconds=1)
            assert len(one.claim()) == 1
        timed.clock.move(hours=1)
        assert len(one.claim()) == 2


def test_both_limits_hold_together(timed: Timed) -> None:
    declare(timed, "limited", 2, 1.0, 3.0)
    enqueue(timed, "limited", 20)
    with hand(timed.store, "limited") as one:
        claims = one.claim()
        assert len(claims) == 2  # by the number that may run
        one.settle(claims)
        (third,) = one.claim()  # by the tokens
        timed.clock.move(seconds=10)
        assert len(one.claim()) == 1  # by the number again: the third still runs
        one.settle(third)
        assert len(one.claim()) == 1


def test_a_job_that_was_given_back_has_spent_its_token(timed: Timed) -> None:
    declare(timed, "limited", 0, 1.0, 2.0)
    enqueue(timed, "limited", 3)
    with hand(timed.store, "limited") as one:
        claims = one.claim()
        assert len(claims) == 2
        one.settle(claims[0], "released")
        one.settle(claims[1], "retried")
        assert one.claim() == []
        timed.clock.move(seconds=2)
        assert len(one.claim()) == 2


def test_limited_jobs_are_claimed_only_for_places_where_they_start_at_once(timed: Timed) -> None:
    declare(timed, "limited", 5)
    enqueue(timed, "limited", 10, priority=1)
    enqueue(timed, "plain", 10)
    with hand(timed.store, "limited", "plain") as one:
        assert names(one.claim(Room(8, 0))) == {"plain": 8}
        assert names(one.claim(Room(8, 2))) == {"limited": 2, "plain": 2}
        assert names(one.claim(Room(8, 8))) == {"limited": 3}


def test_a_reached_limit_keeps_no_other_job_waiting(timed: Timed) -> None:
    declare(timed, "one", 1)
    declare(timed, "two", 0, TINY)
    for name in ("one", "two", "plain"):
        enqueue(timed, name, 10)
    with hand(timed.store, "one", "two", "plain") as one:
        assert names(one.claim(4)) == {"one": 1, "two": 1, "plain": 2}
        assert names(one.claim()) == {"plain": 8}


def test_larger_priorities_come_first_among_limited_and_others(timed: Timed) -> None:
    declare(timed, "limited", 100)
    for priority in (3, 1):
        enqueue(timed, "limited", 2, priority=priority)
    for priority in (2, 0):
        enqueue(timed, "plain", 2, priority=priority)
    with hand(timed.store, "limited", "plain") as one:
        claimed = [one.claim_one().job.priority for _ in range(8)]
    assert claimed == [3, 3, 2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("now", [1, 5])
def test_limited_and_other_lanes_of_equal_priority_take_turns(timed: Timed, now: int) -> None:
    declare(timed, "limited", 100)
    enqueue(timed, "limited", 100)
    enqueue(timed, "plain", 100)
    with hand(timed.store, "limited", "plain") as one:
        shares = [names(one.claim(now)) for _ in range(8)]
    assert {name for share in shares[:2] for name in share} == {"limited", "plain"}
    total = sum(shares, Counter())
    assert min(total["limited"], total["plain"]) >= 2 * now


def test_all_lanes_of_a_limited_entrypoint_are_served(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgq_sync.storage.looks.BUSY_LOOK", 3600.0)
    monkeypatch.setattr("tests.storage.support.POLL_INTERVAL", timedelta(hours=1))
    declare(timed, "limited", 100)
    for queue in ("default", "mail"):
        for priority in (0, 7):
            enqueue(timed, "limited", 2, priority=priority, queue=queue)
    with hand(timed.store, "limited") as one:
        one.claimer.claim(Room(0), thorough=True)
        claims: list[Claim] = []
        while len(claims) < 8:
            # Never has it to wait for a poll: what a claim leaves for the next one is worth that at once.
            claims += (got := one.claim(100, thorough=False))
            assert got
            if len(claims) < 8:
                one.claimer.arm()
                one.claimer.wait()
    assert [claim.job.priority for claim in claims] == [7] * 4 + [0] * 4


def test_a_job_of_a_limited_lane_is_found_by_a_look_though_another_one_is_due_later(timed: Timed) -> None:
    declare(timed, "limited", 100)
    enqueue(timed, "limited", 1, execute_after=timedelta(hours=1))
    with hand(timed.store, "limited") as one:
        assert one.claim() == []
        (job_id,) = timed.producer.enqueue_many([NewJob(entrypoint="limited")], notify=False)
        assert [claim.job.id for claim in one.claim()] == [job_id]


def test_a_limit_that_is_lifted_or_widened_is_obeyed_at_once(timed: Timed) -> None:
    declare(timed, "limited", 0, TINY, 1.0)
    enqueue(timed, "limited", 10)
    with hand(timed.store, "limited") as one:
        assert len(one.claim(thorough=False)) == 1
        assert one.claim(thorough=False) == []
        timed.clock.move(seconds=1)
        declare(timed, "limited", 3)
        wait_until(lambda: len(one.claim(thorough=False)) == 2)
        timed.store.limits.declare([], ["limited"])
        wait_until(lambda: len(one.claim(thorough=False)) == 7)


def test_a_limit_that_is_declared_meanwhile_is_obeyed_whatever_a_worker_believes(timed: Timed) -> None:
    enqueue(timed, "limited", 10)
    with hand(timed.store, "limited") as one, hand(timed.store, "limited") as other:
        one.claimer.claim(Room(0), thorough=True)  # as far as it knows, nothing is limited
        other.claimer.claim(Room(0), thorough=True)
        declare(timed, "limited", 2)
        assert len([*one.claim(thorough=False), *other.claim(thorough=False)]) <= 2
        assert len([*one.claim(), *other.claim(), *one.claim(), *other.claim()]) <= 2
    assert timed.store.operations().count()["limited", "running"] == 2


def test_a_workers_own_limit_is_for_itself_alone(timed: Timed) -> None:
    own = {"limited": Limit(concurrency_limit=2, scope="worker")}
    enqueue(timed, "limited", 10)
    with hand(timed.store, "limited", limits=own) as one, hand(timed.store, "limited", limits=own) as other:
        claims = one.claim()
        assert (len(claims), len(other.claim()), one.claim()) == (2, 2, [])
        one.settle(claims[0])
        assert len(one.claim()) == 1
        assert one.claim() == other.claim() == []


def test_a_workers_own_rate_is_for_itself_alone(timed: Timed) -> None:
    own = {"limited": Limit(requests_per_second=TINY, burst=3.0, scope="worker")}
    enqueue(timed, "limited", 10)
    with hand(timed.store, "limited", limits=own) as one, hand(timed.store, "limited", limits=own) as other:
        assert (len(one.claim()), len(other.claim(2)), len(other.claim()), one.claim()) == (3, 2, 1, [])


def test_a_workers_own_limit_and_the_fleets_hold_together(timed: Timed) -> None:
    own = {"limited": Limit(concurrency_limit=2, scope="worker")}
    declare(timed, "limited", 3)  # by one that was started later
    enqueue(timed, "limited", 10)
    with hand(timed.store, "limited", limits=own) as one, hand(timed.store, "limited", limits=own) as other:
        assert (len(one.claim()), len(other.claim())) == (2, 1)


PAUSES: list[dict[str, str | None]] = [
    {"entrypoint": "work", "queue": None},
    {"entrypoint": None, "queue": "mail"},
    {"entrypoint": "work", "queue": "mail"},
]


@pytest.mark.parametrize("limit", [0, 1_000], ids=["unlimited", "limited"])
@pytest.mark.parametrize("pause", PAUSES, ids=["an entrypoint", "a queue", "one in the other"])
def test_what_is_paused_is_not_claimed_and_an_open_claimer_sees_it_at_once(
    timed: Timed, pause: dict[str, Any], limit: int
) -> None:
    declare(timed, "work", limit)
    for entrypoint in ("work", "other"):
        for queue in ("mail", "default"):
            enqueue(timed, entrypoint, 200, queue=queue)
    paused = {
        (entrypoint, queue)
        for entrypoint in ("work", "other")
        for queue in ("mail", "default")
        if pause["entrypoint"] in (None, entrypoint) and pause["queue"] in (None, queue)
    }
    with hand(timed.store, "work", "other") as one:
        assert lanes(one.claim(4)) != set()
        timed.store.limits.pause(**pause)
        # By the notification of it: no claim here looks everywhere.
        wait_until(lambda: paused.isdisjoint(rest(one)))
        timed.clock.move(seconds=1)
        enqueue(timed, "work", 1, queue="mail")
        assert paused.isdisjoint(rest(one))
        timed.store.limits.resume(**pause)
        wait_until(lambda: not paused.isdisjoint(rest(one)))


def lanes(claims: list[Claim]) -> set[tuple[str, str]]:
    return {(claim.job.entrypoint, claim.job.queue) for claim in claims}


def rest(one: Hand) -> set[tuple[str, str]]:
    """The lanes that the next four claims bring something of; it is put back."""
    claims = [claim for _ in range(4) for claim in one.claim(12, thorough=False)]
    one.settle(claims, "released")
    return lanes(claims)
