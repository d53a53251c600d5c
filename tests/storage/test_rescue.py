"""What becomes of the jobs of a worker that dies, on both stores: they wait again, once, and its own word counts no more."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.counting import recorded_statements
from pgq_sync import JobRecord, NewJob, PgQueuer
from pgq_sync.models import Claim, Outcome, Rescued, Settlement, WorkerInfo
from pgq_sync.storage.store import Store
from tests.storage.conftest import Timed
from tests.storage.support import Hand, hand, wait_until_gone, worker
from tests.waiting import PATIENCE

STATUSES: tuple[Any, ...] = ("succeeded", "failed", "cancelled", "retried", "held", "released")


def named(name: str) -> WorkerInfo:
    return dataclasses.replace(worker("work"), name=name)


def enqueue(timed: Timed, count: int) -> list[int]:
    return [job_id for job_id in timed.producer.enqueue_many(NewJob(entrypoint="work") for _ in range(count)) if job_id]


def dies(timed: Timed, name: str = "victim", jobs: int = 1_000) -> tuple[WorkerInfo, list[Claim]]:
    """A worker that claims so many jobs and is never heard of again."""
    victim = named(name)
    timed.store.register(victim)
    with hand(timed.store, who=victim) as one:
        claims = one.claim(jobs)
    if timed.dsn:
        wait_until_gone(timed.dsn, victim.worker_id)
    return victim, claims


@contextmanager
def lives(timed: Timed, name: str = "rescuer") -> Iterator[Hand]:
    """A worker whose claimer is open."""
    alive = named(name)
    timed.store.register(alive)
    with hand(timed.store, who=alive) as one:
        yield one


def rescue(timed: Timed, rescuer: WorkerInfo, *, thorough: bool = False) -> list[Rescued]:
    """The rescuer beats and rescues."""
    timed.store.beat(rescuer)
    return list(timed.store.rescue(rescuer, thorough=thorough))


def record(timed: Timed, job_id: int) -> JobRecord:
    found = timed.store.operations().get(job_id)
    assert found is not None
    return found


def statuses(timed: Timed) -> dict[str, int]:
    return {status: jobs for (_, status), jobs in timed.store.operations().count().items()}


def refused(store: Store, worker_id: Any, claim: Claim) -> None:
    """No outcome under this claim is written, and none changes anything."""
    before = store.operations().get(claim.job.id)
    for status, again in itertools.product(STATUSES, (False, True)):
        settled = store.settle(worker_id, [Settlement(claim, Outcome(status=status, error='{"late": true}'))], again=again)
        assert [each.claim for each in settled.lost] == [claim], (status, again)
        assert not settled.written
        assert store.operations().get(claim.job.id) == before


def test_the_jobs_of_a_dead_worker_wait_again_and_those_of_others_run_on(timed: Timed) -> None:
    ids = enqueue(timed, 5)
    victim, claims = dies(timed, jobs=2)
    with lives(timed) as one:
        (own,) = one.claim(1)
        timed.clock.move(seconds=15)
        assert rescue(timed, one.worker) == [Rescued("victim", 2)]

        assert {claim.job.id for claim in claims} == set(ids[:2])
        for claim in claims:
            row = record(timed, claim.job.id)
            assert (row.status, row.attempts, row.worker_id, row.claimed_at) == ("queued", 0, None, None)
            assert row.execute_after == claim.job.execute_after
            (error,) = row.errors
            assert (error["type"], error["attempt"], error["worker_id"]) == ("WorkerDied", 1, str(victim.worker_id))
            assert "victim" in error["message"]
        mine = record(timed, own.job.id)
        assert (mine.status, mine.attempts, mine.worker_id, mine.errors) == ("running", 1, one.worker.worker_id, [])
        again = one.claim()

    assert {claim.job.id: (claim.rescues, claim.job.attempt) for claim in again} == {
        **dict.fromkeys(ids[:2], (1, 1)),
        **dict.fromkeys(ids[3:], (0, 1)),
    }


def test_a_dead_worker_is_forgotten_at_the_next_rescue_at_the_latest(timed: Timed) -> None:
    enqueue(timed, 1)
    dies(timed)
    with lives(timed) as one:
        timed.clock.move(seconds=15)
        rescue(timed, one.worker)
        rescue(timed, one.worker)
        assert [info.name for info in timed.store.workers()] == ["rescuer"]
        assert timed.store.beat(one.worker).overdue_in is None
        assert rescue(timed, one.worker, thorough=True) == []


def test_a_dead_worker_that_had_nothing_is_forgotten(timed: Timed) -> None:
    timed.store.register(named("idle"))
    with lives(timed) as one:
        timed.clock.move(seconds=15)
        assert rescue(timed, one.worker) == [Rescued("idle", 0)]
        assert [info.name for info in timed.store.workers()] == ["rescuer"]


def test_a_beat_tells_how_long_the_worker_was_silent(timed: Timed) -> None:
    who = named("beating")
    assert timed.store.beat(who).silence is None
    timed.clock.move(seconds=5)
    assert timed.store.beat(who).silence == 5
    assert timed.store.beat(who).silence == 0
    timed.store.deregister(who.worker_id)
    assert timed.store.beat(who).silence is None


def test_a_worker_is_not_dead_before_its_own_limit(timed: Timed) -> None:
    enqueue(timed, 1)
    victim, _ = dies(timed)
    with lives(timed) as one:
        timed.clock.move(seconds=14.9)
        assert timed.store.beat(one.worker).overdue_in == pytest.approx(0.1)
        assert rescue(timed, one.worker) == []
        # The limit is the silent one's: behind a pooler it allows itself more.
        timed.store.beat(dataclasses.replace(victim, liveness_limit=4 * victim.liveness_limit))
        timed.clock.move(seconds=59.9)
        assert rescue(timed, one.worker) == []
        timed.clock.move(seconds=0.1)
        assert timed.store.beat(one.worker).overdue_in == 0
        assert rescue(timed, one.worker) == [Rescued("victim", 1)]


def test_a_worker_whose_claimer_is_open_is_dead_only_after_ten_minutes_of_silence(timed: Timed) -> None:
    enqueue(timed, 1)
    with lives(timed, "mute") as mute, lives(timed) as one:
        mute.claim()
        for seconds in (15, 60, 524.9):
            timed.clock.move(seconds=seconds)
            assert rescue(timed, one.worker, thorough=True) == []
        timed.clock.move(seconds=0.1)
        assert rescue(timed, one.worker) == [Rescued("mute", 1)]


def test_a_rescuer_that_is_silent_itself_rescues_nobody(timed: Timed) -> None:
    enqueue(timed, 1)
    dies(timed)
    with lives(timed) as one:
        timed.clock.move(seconds=15)
        assert timed.store.rescue(one.worker, thorough=True) == []
        timed.store.beat(one.worker)
        timed.clock.move(seconds=14.9)
        assert timed.store.rescue(one.worker) == [Rescued("victim", 1)]


def test_a_rescuer_that_nobody_knows_rescues_nobody(timed: Timed) -> None:
    enqueue(timed, 1)
    dies(timed)
    timed.clock.move(seconds=15)
    assert timed.store.rescue(named("stranger"), thorough=True) == []
    assert statuses(timed) == {"running": 1}


def test_nobody_rescues_himself(timed: Timed) -> None:
    enqueue(timed, 1)
    with lives(timed) as one:
        one.claim()
        timed.clock.move(hours=1)
        assert rescue(timed, one.worker, thorough=True) == []
        assert statuses(timed) == {"running": 1}


def test_outcomes_of_rescued_claims_are_refused(timed: Timed) -> None:
    enqueue(timed, 1)
    victim, (claim,) = dies(timed)
    with lives(timed) as one:
        timed.clock.move(seconds=15)
        rescue(timed, one.worker)
        refused(timed.store, victim.worker_id, claim)  # while it waits

        (theirs,) = one.claim()
        refused(timed.store, victim.worker_id, claim)  # while another runs it
        one.settle(theirs, "retried")

        # The worker was not dead at all, and claims the job again.
        with hand(timed.store, who=victim) as back:
            (later,) = back.claim()
            refused(timed.store, victim.worker_id, claim)
            assert back.settle(later).written
        refused(timed.store, victim.worker_id, claim)  # when it is finished under the later claim


def test_a_worker_that_leaves_jobs_behind_is_dead_at_once(timed: Timed) -> None:
    enqueue(timed, 2)
    with lives(timed, "leaver") as leaver, lives(timed) as one:
        leaver.claim()
        timed.store.deregister(leaver.worker.worker_id, clean=False)
        overdue_in = timed.store.beat(one.worker).overdue_in
        assert overdue_in is not None
        assert overdue_in < 0
        # Although its session still lingers.
        assert rescue(timed, one.worker) == [Rescued("leaver", 2)]
    assert statuses(timed) == {"queued": 2}


def test_claims_of_workers_that_nobody_knows_are_found_by_a_thorough_rescue_alone(timed: Timed) -> None:
    enqueue(timed, 3)
    victim, _ = dies(timed, jobs=2)
    timed.store.deregister(victim.worker_id)
    with lives(timed) as one:
        one.claim()
        timed.clock.move(seconds=14.9)
        assert rescue(timed, one.worker, thorough=True) == []  # they may register in a moment
        timed.clock.move(seconds=0.1)
        assert rescue(timed, one.worker) == []
        assert rescue(timed, one.worker, thorough=True) == [Rescued(str(victim.worker_id), 2)]
        assert rescue(timed, one.worker, thorough=True) == []
    assert statuses(timed) == {"queued": 2, "running": 1}


def test_a_thorough_rescue_spares_workers_that_nobody_knows_while_their_claimer_is_open(timed: Timed) -> None:
    enqueue(timed, 1)
    with lives(timed, "unregistered") as unknown, lives(timed) as one:
        unknown.claim()
        timed.store.deregister(unknown.worker.worker_id)
        timed.clock.move(minutes=5)
        assert rescue(timed, one.worker, thorough=True) == []


def test_several_dead_workers_are_rescued_together(timed: Timed) -> None:
    enqueue(timed, 6)
    for number in (1, 2, 3):
        dies(timed, f"victim {number}", jobs=number)
    with lives(timed) as one:
        timed.clock.move(seconds=15)
        assert sorted(rescue(timed, one.worker), key=lambda each: each.worker) == [
            Rescued(f"victim {number}", number) for number in (1, 2, 3)
        ]


@pytest.mark.parametrize("seconds", [15, 601], ids=["silent", "given up"])
def test_of_two_rescuers_at_once_only_one_gets_each_job(timed: Timed, seconds: float) -> None:
    ids = enqueue(timed, 200)
    for _ in range(4):
        dies(timed, jobs=50)
    timed.clock.move(seconds=seconds)
    rescuers = [named(f"rescuer {number}") for number in range(4)]
    for each in rescuers:
        timed.store.register(each)
    start = threading.Barrier(len(rescuers))
    found: list[Rescued] = []

    def run(rescuer: WorkerInfo) -> None:
        start.wait(PATIENCE)
        found.extend(timed.store.rescue(rescuer))

    threads = [threading.Thread(target=run, args=[each]) for each in rescuers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert sum(each.jobs for each in found) == 200
    with lives(timed) as one:
        assert {claim.job.id: claim.rescues for claim in one.claim()} == dict.fromkeys(ids, 1)


def test_a_job_keeps_its_latest_hundred_errors_when_its_worker_dies(timed: Timed) -> None:
    (job_id,) = enqueue(timed, 1)
    with lives(timed) as one:
        for attempt in range(1, 101):
            one.settle(one.claim_one(), "retried", error=f'{{"attempt": {attempt}}}')
        dies(timed)
        timed.clock.move(seconds=15)
        rescue(timed, one.worker)
    errors = record(timed, job_id).errors
    assert [error["attempt"] for error in errors] == list(range(2, 102))
    assert errors[-1]["type"] == "WorkerDied"


def test_a_thorough_search_that_finds_nobody_is_one_statement(pgq: PgQueuer) -> None:
    me = worker("work")
    pgq.store.register(me)
    pgq.enqueue("work")
    with hand(pgq.store, who=me) as one, recorded_statements() as sent:
        assert one.claim()
        del sent[:]
        assert pgq.store.rescue(me, thorough=True) == []
    assert sent == ["forsaken"]
