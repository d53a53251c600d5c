"""What every store does for operators and the fleet: looking jobs up, beats, forgetting."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgq_sync import NewJob, PgQueuer
from pgq_sync.models import Peers, Recovered
from tests.storage.conftest import Timed
from tests.storage.support import hand, query, worker


def test_an_empty_batch_is_no_batch(either: PgQueuer) -> None:
    assert either.enqueue_many([]) == []
    with hand(either.store, "work") as one:
        assert one.settle([]).written == []


def test_jobs_are_found_by_status_entrypoint_and_queue_the_latest_first(either: PgQueuer) -> None:
    done = either.enqueue("work", queue="mail")
    with hand(either.store, "work") as one:
        one.settle(one.claim())
    waiting = [either.enqueue("work"), either.enqueue("other", queue="mail"), either.enqueue("work", queue="mail")]

    def found(**wanted: Any) -> list[int]:
        return [record.id for record in either.jobs.find(**wanted)]

    assert found() == [*reversed(waiting), done]
    assert found(limit=2) == [waiting[2], waiting[1]]
    assert found(status="succeeded") == [done]
    assert found(entrypoint="work") == [waiting[2], waiting[0], done]
    assert found(queue="mail", status="queued") == [waiting[2], waiting[1]]
    assert found(entrypoint="nobody") == []
    assert either.jobs.get(10**9) is None


def test_jobs_are_counted_by_entrypoint_and_status(either: PgQueuer) -> None:
    either.enqueue_many(NewJob(entrypoint=name) for name in ("a", "a", "b", "b", "b"))
    with hand(either.store, "a", "b") as one:
        claims = one.claim(4)
        one.settle(claims[0], "failed")
        one.settle(claims[1], "succeeded")
        one.settle(claims[2], "held")

    assert sum(either.jobs.count().values()) == 5
    assert {status for _, status in either.jobs.count()} == {"failed", "succeeded", "held", "running", "queued"}


def test_a_claim_that_its_worker_does_not_know_of_is_put_back(either: PgQueuer) -> None:
    either.enqueue_many(NewJob(entrypoint="work") for _ in range(4))

    with hand(either.store, "work") as one, hand(either.store, "work") as other:
        known, unknown, finished = one.claim(3)
        (theirs,) = other.claim()
        one.settle(finished)
        assert one.claimer.recover([known, finished]) == Recovered([finished])

        assert [claim.job.attempt for claim in other.claim()] == [1]
        assert [each.claim for each in one.settle([known, unknown]).lost] == [unknown]
        assert other.settle(theirs).written


def test_a_worker_is_known_from_its_first_beat_until_it_leaves(timed: Timed) -> None:
    who = worker("b", "a", queues=("mail",))

    timed.store.register(who)
    started = timed.clock.now
    timed.clock.move(seconds=5)
    timed.store.beat(who)

    (info,) = timed.store.workers()
    assert dataclasses.replace(info, started_at=None, beat_at=None) == who
    assert (info.started_at, info.beat_at) == (started, timed.clock.now)
    timed.store.deregister(who.worker_id)
    assert timed.store.workers() == []


def test_a_worker_that_was_forgotten_is_known_again_at_its_next_beat(timed: Timed) -> None:
    who = worker("work")

    assert timed.store.beat(who).peers == Peers(rank=0, count=1)
    assert [info.worker_id for info in timed.store.workers()] == [who.worker_id]


def test_a_stopping_worker_says_so(timed: Timed) -> None:
    who = worker("work")
    timed.store.register(who)

    timed.store.beat(dataclasses.replace(who, state="stopping"))

    assert [info.state for info in timed.store.workers()] == ["stopping"]


@pytest.mark.parametrize("timed", ["postgres"], indirect=True)
def test_a_beat_tells_the_place_among_those_that_serve_the_same(timed: Timed) -> None:
    same = sorted((worker("a", "b", queues=("mail",)) for _ in range(3)), key=lambda who: who.worker_id)
    others = [worker("a", queues=("mail",)), worker("a", "b"), worker("a", "b", queues=("mail", "post"))]
    for who in [*same, *others]:
        timed.store.register(who)

    assert [timed.store.beat(who).peers for who in same] == [Peers(rank, 3) for rank in range(3)]
    assert [timed.store.beat(who).peers for who in others] == [Peers(0, 1)] * 3

    timed.store.beat(dataclasses.replace(same[0], state="stopping"))
    assert timed.store.beat(same[1]).peers == Peers(0, 2)

    timed.clock.move(seconds=14)
    timed.store.beat(same[2])
    timed.clock.move(seconds=2)
    # The second one has been silent for 16 seconds: only the third counts.
    assert timed.store.beat(same[2]).peers == Peers(0, 1)


def test_history_is_forgotten_when_it_is_older_than_the_retention(timed: Timed) -> None:
    def finish(count: int) -> None:
        timed.producer.enqueue_many(NewJob(entrypoint="work") for _ in range(count))
        with hand(timed.store, "work") as one:
            one.settle(one.claim())

    finish(3)
    timed.clock.move(days=8)
    finish(2)
    timed.store.maintain(timedelta(days=9))
    assert timed.store.operations().count() == {("work", "succeeded"): 5}

    timed.clock.move(days=2)
    timed.store.maintain(timedelta(days=7))
    assert timed.store.operations().count() == {("work", "succeeded"): 2}

    finish(1)
    timed.clock.move(days=40)
    timed.store.maintain(timedelta(days=7))
    assert timed.store.operations().count() == {}


def test_a_locked_job_delays_its_own_outcome_and_no_other(pgq: PgQueuer, dsn: str) -> None:
    ids = pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(3))

    with hand(pgq.store, "work") as one, psycopg.connect(dsn) as somebody:
        claims = one.claim()
        somebody.execute("select from pgq_job where id = %s for update", [ids[1]])
        finished = one.settle([claims[0], claims[1]])
        returned = one.settle([claims[1], claims[2]], "retried")
        somebody.rollback()
        at_last = one.settle(finished.blocked[0].claim)

    assert [each.claim for each in finished.written] == [claims[0]]
    assert [each.claim for each in returned.written] == [claims[2]]
    assert [each.claim for each in finished.blocked] == [each.claim for each in returned.blocked] == [claims[1]]
    assert not finished.lost
    assert not returned.lost
    assert at_last.written
    assert query(dsn, "select id from pgq_job") == [(ids[2],)]
