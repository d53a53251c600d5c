"""Limited jobs beside others: they get their turn, start right after their claim, and keep no slot when nothing comes of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from pgq_sync import Context, Job, NewJob, PgQueuer
from pgq_sync.engine.slots import Slots
from pgq_sync.models import Claim, Claimed, Outcome
from tests.engine.test_completer import claim
from tests.engine.test_slots import claims
from tests.network.proxy import proxied
from tests.storage.support import record
from tests.waiting import PATIENCE, wait_until

NO_POLL = timedelta(hours=1)
SHORT = 0.002  # seconds that a job takes


def now() -> datetime:
    return datetime.now(timezone.utc)


def enqueue(pgq: PgQueuer, entrypoint: str, count: int, payload: bytes | None = None) -> list[int]:
    return list(pgq.enqueue_many(NewJob(entrypoint=entrypoint, payload=payload) for _ in range(count)))


@pytest.mark.alone  # 300 jobs are 60 ms
def test_limited_jobs_get_their_turn_beside_ten_thousand_short_ones(either: PgQueuer) -> None:
    starts: list[datetime] = []  # of the others
    limited: list[tuple[datetime, datetime]] = []  # claimed, started

    @either.entrypoint("short")
    def short(job: Job) -> None:
        starts.append(now())
        time.sleep(SHORT)  # what the job takes

    @either.entrypoint("limited", concurrency_limit=2)
    def note(job: Job) -> None:
        limited.append((job.claimed_at, now()))

    enqueue(either, "short", 10_000)
    with either.worker(poll_interval=NO_POLL):
        wait_until(lambda: len(starts) > 1_000)  # by now a thousand at a time are claimed ahead
        for number in range(10):
            either.enqueue("limited")
            wait_until(lambda number=number: len(limited) > number)  # type: ignore[misc]
        assert len(starts) < 10_000

    # What was claimed ahead of them has not come before them.
    overtaken = [sum(claimed < start < started for start in starts) for claimed, started in limited]
    assert max(overtaken) < 300, overtaken


def test_nothing_limited_is_claimed_while_long_jobs_have_all_slots(either: PgQueuer) -> None:
    running, finish, done = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    @either.entrypoint("long")
    def long(job: Job) -> None:
        running.release()
        assert finish.acquire(timeout=PATIENCE)

    either.entrypoint("limited", concurrency_limit=5)(lambda job: done.set())
    enqueue(either, "long", 2)
    with either.worker(concurrency=2, poll_interval=NO_POLL):
        for _ in range(2):
            assert running.acquire(timeout=PATIENCE)
        job_id = either.enqueue("limited")
        freed = now()
        finish.release()
        assert done.wait(PATIENCE)
        finish.release()
    claimed_at = record(either, job_id).claimed_at
    assert claimed_at is not None
    assert claimed_at > freed


@pytest.mark.parametrize("after", [1, 5, 20])
def test_a_worker_stops_at_any_moment_while_limited_jobs_wait_for_slots(either: PgQueuer, after: int) -> None:
    done = itertools.count(1)
    enough = threading.Event()

    @either.entrypoint("short")
    def short(job: Job) -> None:
        time.sleep(SHORT)  # what the job takes

    @either.entrypoint("limited", concurrency_limit=2)
    def limited(job: Job) -> None:
        if next(done) >= after:
            enough.set()

    enqueue(either, "short", 5_000)
    enqueue(either, "limited", 200)
    worker = either.worker(concurrency=3)
    worker.start()
    assert enough.wait(PATIENCE)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    report = worker.stop()
    assert set(report.counts) <= {"succeeded", "released"}
    assert "running" not in {status for _, status in either.jobs.count()}
    assert either.store.workers() == []


def test_what_was_claimed_ahead_goes_on_while_the_database_is_away(pgq: PgQueuer, dsn: str) -> None:
    limited = threading.Semaphore(0)
    with proxied(dsn) as proxy, PgQueuer.from_dsn(proxy.dsn) as far:

        @far.entrypoint("short")
        def short(job: Job) -> None:
            time.sleep(SHORT)  # what the job takes

        far.entrypoint("limited", concurrency_limit=1)(lambda job: limited.release())
        enqueue(pgq, "short", 5_000)
        enqueue(pgq, "limited", 5_000)
        with far.worker(concurrency=1) as worker:
            for _ in range(3):
                for _ in range(5):
                    assert limited.acquire(timeout=PATIENCE)
                proxy.refuse()
                proxy.cut()
                # Nothing is claimed or finished now: what the worker holds, it runs. In the database there may be more that
                # is claimed for it, by a statement whose answer the cut has swallowed.
                wait_until(lambda: not worker._slots._waiting.qsize() and not worker._slots.running())
                proxy.restore()


SUCCEEDED = Outcome(status="succeeded")


@contextmanager
def reserved() -> Iterator[tuple[Slots, list[int], threading.Event]]:
    """One slot that runs job 0 until the event is set, and is then wanted for a limited job, though job 1 waits for it."""
    done: list[int] = []
    running, finish, ended = threading.Event(), threading.Event(), threading.Event()

    def attempt(each: Claim, entered: Callable[[Context], None]) -> Outcome:
        running.set()
        assert finish.wait(PATIENCE)
        return SUCCEEDED

    slots = Slots(1, attempt, lambda settlement: done.append(settlement.claim.job.id), lambda: None)
    slots.start()
    slots.hand(claims(2))
    assert running.wait(PATIENCE)
    slots.reserve()
    yield slots, done, finish
    slots.close(ended.set)
    assert ended.wait(PATIENCE)


def kept(slots: Slots, finish: threading.Event) -> None:
    """Waits until the slot keeps itself free."""
    assert slots.room().now == 0
    finish.set()
    wait_until(lambda: slots.room().now == 1)


def test_a_slot_that_is_wanted_waits_for_the_limited_job_and_runs_it_before_what_was_claimed_ahead() -> None:
    with reserved() as (slots, done, finish):
        kept(slots, finish)
        assert done == [0]
        slots.hand(Claimed(careful=[claim(7)], plain=[claim(8)]))
        wait_until(lambda: len(done) == 4)
    assert done == [0, 7, 1, 8]


def test_a_slot_that_waits_goes_on_when_nothing_limited_could_be_claimed() -> None:
    with reserved() as (slots, done, finish):
        kept(slots, finish)
        slots.hand(Claimed())
        wait_until(lambda: done == [0, 1])


def test_a_slot_that_is_wanted_no_more_does_not_wait() -> None:
    with reserved() as (slots, done, finish):
        slots.hand(Claimed())  # what the listener does too when it loses the database
        finish.set()
        wait_until(lambda: done == [0, 1])


def test_a_slot_that_waits_ends_when_the_slots_are_closed() -> None:
    with reserved() as (slots, done, finish):
        kept(slots, finish)
        assert [each.job.id for each in slots.take_back()] == [1]
    assert done == [0]


def test_limited_jobs_beyond_the_slots_that_wait_come_before_what_is_claimed_ahead() -> None:
    with reserved() as (slots, done, finish):
        kept(slots, finish)
        slots.take_back()
        slots.hand(Claimed(careful=[claim(7), claim(8)], plain=[claim(9)]))
        wait_until(lambda: len(done) == 4)
    assert done == [0, 7, 8, 9]
