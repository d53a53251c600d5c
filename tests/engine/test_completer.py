"""Writing outcomes: batches, a store that is away, an outcome that spoils its batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from pgq_sync import Job, JobId, NewJob, PgQueuer, StoreUnavailable
from pgq_sync.engine.completer import MOST, Completer
from pgq_sync.models import Claim, Outcome, Settled, Settlement
from pgq_sync.storage.postgres import PostgresStore
from tests.storage.support import hand
from tests.waiting import PATIENCE, wait_until

WORKER = uuid4()
NOW = datetime.now(timezone.utc)


def claim(number: int, fence: int = 1, *, entrypoint: str = "any", priority: int = 0) -> Claim:
    return Claim(Job(JobId(number), "default", entrypoint, None, None, priority, 1, NOW, NOW, NOW, None, WORKER), fence)


class RecordingStore:
    """Notes what is settled, and does with it what the test says."""

    def __init__(self, behave: Callable[[Sequence[Settlement]], Settled] | None = None) -> None:
        self.batches: list[list[Settlement]] = []
        self.again: list[bool] = []
        self._behave = behave or (lambda settlements: Settled(written=settlements))

    def settle(self, worker_id: UUID, settlements: Sequence[Settlement], *, again: bool = False) -> Settled:
        self.again.append(again)
        settled = self._behave(settlements)
        self.batches.append(list(settlements))
        return settled


@contextmanager
def running(store: RecordingStore, written: list[Settlement] | None = None) -> Iterator[Completer]:
    completer = Completer(store, WORKER, (written if written is not None else []).extend)
    thread = threading.Thread(target=completer.run, args=[threading.Event()])
    thread.start()
    yield completer
    completer.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_what_waits_is_written_in_one_batch() -> None:
    first, go_on = threading.Event(), threading.Event()

    def slow(settlements: Sequence[Settlement]) -> Settled:
        first.set()
        assert go_on.wait(PATIENCE)
        return Settled(written=settlements)

    store = RecordingStore(slow)
    with running(store) as completer:
        claims = [claim(number) for number in range(500)]
        completer.expect(claims)
        completer.put(Settlement(claims[0], Outcome(status="succeeded")))
        assert first.wait(PATIENCE)
        for each in claims[1:]:
            completer.put(Settlement(each, Outcome(status="succeeded")))
        go_on.set()
    assert [len(batch) for batch in store.batches] == [1, 499]
    assert completer.counts == {"succeeded": 500}
    assert completer.idle


def test_one_outcome_that_cannot_be_stored_costs_only_itself() -> None:
    def picky(settlements: Sequence[Settlement]) -> Settled:
        if any(each.claim.job.id == 7 and each.outcome.status == "succeeded" for each in settlements):
            raise ValueError("cannot be stored: \x00")
        return Settled(written=settlements)

    store = RecordingStore(picky)
    with running(store) as completer:
        claims = [claim(number) for number in range(20)]
        completer.expect(claims)
        for each in claims:
            completer.put(Settlement(each, Outcome(status="succeeded")))
    written = {each.claim.job.id: each.outcome for batch in store.batches for each in batch}
    assert {number for number, outcome in written.items() if outcome.status == "succeeded"} == set(range(20)) - {7}
    assert written[JobId(7)].status == "failed"
    assert "cannot be stored" in (written[JobId(7)].error or "")


def test_outcomes_wait_for_a_store_that_is_away() -> None:
    tries = 0

    def away(settlements: Sequence[Settlement]) -> Settled:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable("gone")
        return Settled(written=settlements)

    store = RecordingStore(away)
    with running(store) as completer:
        completer.expect([claim(1)])
        completer.put(Settlement(claim(1), Outcome(status="succeeded")))
    assert completer.counts == {"succeeded": 1}


def test_what_may_be_written_already_is_written_as_such() -> None:
    def lost_once(settlements: Sequence[Settlement]) -> Settled:
        if len(store.again) == 1:
            raise StoreUnavailable("the answer never came")
        return Settled(written=settlements)

    store = RecordingStore(lost_once)
    with running(store) as completer:
        completer.expect([claim(1)])
        completer.put(Settlement(claim(1), Outcome(status="succeeded")))
    assert store.again == [False, True]


def test_a_batch_that_the_store_never_manages_is_written_in_parts() -> None:
    def overloaded(settlements: Sequence[Settlement]) -> Settled:
        if len(settlements) > 5:
            raise StoreUnavailable("statement timeout")
        return Settled(written=settlements)

    store = RecordingStore(overloaded)
    with running(store) as completer:
        completer.expect([claim(number) for number in range(20)])
        for number in range(20):
            completer.put(Settlement(claim(number), Outcome(status="succeeded")))
    assert completer.counts == {"succeeded": 20}
    assert all(len(batch) <= 5 for batch in store.batches)


def test_the_parts_of_a_batch_may_be_written_already() -> None:
    def away(settlements: Sequence[Settlement]) -> Settled:
        if len(settlements) == 4:
            raise StoreUnavailable("the answer never came")
        return Settled(written=settlements)

    def picky(settlements: Sequence[Settlement]) -> Settled:
        if len(settlements) == 4:
            raise ValueError("one of them cannot be stored, after others were")
        return Settled(written=settlements)

    for behave in (away, picky):
        store = RecordingStore(behave)
        completer = Completer(store, WORKER, lambda settlements: None)
        completer.expect([claim(number) for number in range(4)])
        for number in range(4):
            completer.put(Settlement(claim(number), Outcome(status="succeeded")))
        completer.close()
        completer.run(threading.Event())
        assert store.again[-2:] == [True, True]


def test_a_success_that_is_not_kept_is_none_the_less_for_a_neighbour_that_cannot_be_stored(pgq: PgQueuer) -> None:
    pgq.entrypoint("work")(lambda job: None)
    forgotten, spoilt = pgq.enqueue("work"), pgq.enqueue("work")
    with hand(pgq.store, "work") as one:
        claims = {each.job.id: each for each in one.claim()}
        completer = Completer(pgq.store, one.worker.worker_id, lambda settlements: None)
        completer.expect(list(claims.values()))
        completer.put(Settlement(claims[forgotten], Outcome(status="succeeded", keep=False)))
        completer.put(Settlement(claims[spoilt], Outcome(status="retried", delay=timedelta.max)))
        completer.close()
        completer.run(threading.Event())
    assert completer.counts == {"succeeded": 1, "failed": 1}


def test_claims_that_others_took_over_before_they_started_are_dropped_and_counted() -> None:
    store = RecordingStore()
    with running(store) as completer:
        completer.expect([claim(1), claim(2)])
        completer.abandon([claim(1)])
        assert not completer.holds(claim(1))
        completer.put(Settlement(claim(1), Outcome(status="succeeded")))
        completer.put(Settlement(claim(2), Outcome(status="succeeded")))
    assert completer.counts == {"lost": 1, "succeeded": 1}


def test_of_two_outcomes_for_one_claim_the_first_counts() -> None:
    store = RecordingStore()
    with running(store) as completer:
        completer.expect([claim(1)])
        completer.put(Settlement(claim(1), Outcome(status="retried")))
        completer.put(Settlement(claim(1), Outcome(status="succeeded")))
    assert completer.counts == {"retried": 1}


def test_an_outcome_whose_job_was_claimed_again_is_lost() -> None:
    store = RecordingStore()
    written: list[Settlement] = []
    outcomes = [
        Settlement(claim(1, fence=1), Outcome(status="succeeded")),
        Settlement(claim(1, fence=2), Outcome(status="failed")),
    ]
    with running(store, written) as completer:
        assert not completer.expect([claim(1, fence=1)])
        assert completer.expect([claim(1, fence=2)]) == [claim(1, fence=1)]
        for each in outcomes:
            completer.put(each)
            completer.put(each)
    assert store.batches == [outcomes[1:]]
    # Both are over: what counts jobs that run counts neither any more.
    assert written == outcomes
    assert completer.counts == {"failed": 1, "lost": 1}
    assert completer.idle


def test_a_job_that_was_put_back_may_be_claimed_again_before_that_is_known_to_be_written() -> None:
    again = claim(1, fence=2)

    def claimed_meanwhile(settlements: Sequence[Settlement]) -> Settled:
        if settlements[0].outcome.status == "retried":
            completer.expect([again])
        return Settled(written=settlements)

    with running(RecordingStore(claimed_meanwhile)) as completer:
        completer.expect([claim(1, fence=1)])
        completer.put(Settlement(claim(1, fence=1), Outcome(status="retried")))
        wait_until(lambda: completer.counts["retried"] == 1)
        assert completer.held() == [again]
        completer.put(Settlement(claim(1, fence=1), Outcome(status="succeeded")))
        completer.put(Settlement(again, Outcome(status="succeeded")))
    assert completer.counts == {"retried": 1, "succeeded": 1}


def test_a_blocked_outcome_is_tried_again_while_others_are_written() -> None:
    free = threading.Event()

    def one_blocked(settlements: Sequence[Settlement]) -> Settled:
        blocked = [] if free.is_set() else [each for each in settlements if each.claim.job.id == 1]
        return Settled(written=[each for each in settlements if each not in blocked], blocked=blocked)

    store = RecordingStore(one_blocked)
    with running(store) as completer:
        completer.expect([claim(1), claim(2)])
        completer.put(Settlement(claim(1), Outcome(status="succeeded")))
        completer.put(Settlement(claim(2), Outcome(status="succeeded")))
        wait_until(lambda: completer.counts["succeeded"] == 1)
        assert not completer.idle
        free.set()
    assert completer.counts == {"succeeded": 2}


def test_while_no_outcome_can_be_written_a_worker_claims_no_more_than_a_few_batches(
    pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, throttled, settle = threading.Event(), threading.Event(), PostgresStore.settle

    def held(store: PostgresStore, *batch: Any, **options: Any) -> Settled:
        assert go_on.wait(PATIENCE)
        return settle(store, *batch, **options)

    def overloaded(completer: Completer) -> bool:
        if over := bool(is_overloaded(completer)):
            throttled.set()
        return over

    is_overloaded = Completer.overloaded.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(PostgresStore, "settle", held)
    monkeypatch.setattr(Completer, "overloaded", property(overloaded))
    ran: list[JobId] = []
    pgq.entrypoint("work")(lambda job: ran.append(job.id))
    pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(6_000))
    with pgq.worker():
        wait_until(lambda: throttled.is_set() and len(ran) == pgq.jobs.count()["work", "running"])
        assert len(ran) <= 4 * MOST
        go_on.set()
        wait_until(lambda: pgq.jobs.count() == {("work", "succeeded"): 6_000})
    assert len(set(ran)) == len(ran) == 6_000
