"""The listener at moments that are hard to meet: a drain's last look, waits of weeks, claims in doubt."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from pgq_sync import Job, NewJob, PgQueuer, QueueExecutionMode, Worker
from pgq_sync.engine import slots
from pgq_sync.engine.completer import Completer
from pgq_sync.engine.listener import Listener
from pgq_sync.models import Claimed, Room, Settled
from pgq_sync.storage.claiming import Claimer
from tests.waiting import PATIENCE, wait_until

Claim = Callable[..., Claimed]


def intercept(worker: Worker, monkeypatch: pytest.MonkeyPatch, claim: Callable[[Claim, Room], Claimed]) -> None:
    """Has the worker's claimers ask `claim`, which gets the real one, unless they look thoroughly."""
    made = worker._listener._store.claimer

    @contextmanager
    def claimer(*arguments: Any) -> Iterator[Claimer]:
        with made(*arguments) as one:
            real = one.claim

            def asked(room: Room, *, thorough: bool = False) -> Claimed:
                return real(room, thorough=True) if thorough else claim(real, room)

            monkeypatch.setattr(one, "claim", asked)
            yield one

    monkeypatch.setattr(worker._listener._store, "claimer", claimer)


def test_a_drain_does_not_end_by_what_there_was_room_for_while_the_last_job_ran(
    either: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, finish = threading.Event(), threading.Event()
    monkeypatch.setattr(slots, "AHEAD", 1_000.0)

    @either.entrypoint("work")
    def work(job: Job) -> None:
        if job.payload == b"last":
            either.enqueue("limited")
            started.set()
            worker._listener.wake()
            assert finish.wait(PATIENCE)

    either.entrypoint("limited", concurrency_limit=1)(lambda job: None)
    either.enqueue_many(NewJob(entrypoint="work", priority=1) for _ in range(10))
    either.enqueue("work", "last")
    worker = either.worker(concurrency=1, mode=QueueExecutionMode.drain)

    def claim(real: Claim, room: Room) -> Claimed:
        claimed = real(room)
        if started.is_set() and not finish.is_set():
            assert (room.now, room.ahead > 0, len(claimed)) == (0, True, 0)
            finish.set()
            wait_until(lambda: worker._completer.idle)
        return claimed

    intercept(worker, monkeypatch, claim)
    assert worker.run().counts == {"succeeded": 12}


def test_a_limit_that_has_no_room_for_weeks_is_waited_for(either: PgQueuer) -> None:
    running, finish = threading.Semaphore(0), threading.Semaphore(0)

    @either.entrypoint("long")
    def long(job: Job) -> None:
        running.release()
        assert finish.acquire(timeout=PATIENCE)

    either.entrypoint("seldom", requests_per_second=1e-9)(lambda job: None)
    either.enqueue_many(NewJob(entrypoint="seldom") for _ in range(2))
    with either.worker(concurrency=1):
        wait_until(lambda: ("seldom", "succeeded") in either.jobs.count())
        either.enqueue_many(NewJob(entrypoint="long") for _ in range(3))
        for _ in range(3):
            assert running.acquire(timeout=PATIENCE)
            finish.release()
        wait_until(lambda: either.jobs.count().get(("long", "succeeded")) == 3)
    assert either.jobs.count() == {("seldom", "succeeded"): 1, ("seldom", "queued"): 1, ("long", "succeeded"): 3}


def test_a_worker_goes_on_whose_outcomes_are_written_just_when_it_finds_that_there_are_too_many(
    pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, woken, asked, written = (threading.Event() for _ in range(4))
    wake, settle, on_written = Listener.wake, Completer._settle, Listener.written

    def free(listener: Listener) -> None:
        wake(listener)
        if ran.is_set():
            woken.set()

    def held(completer: Completer, *batch: Any, **options: Any) -> Settled:
        assert asked.wait(PATIENCE)
        return settle(completer, *batch, **options)

    def told(listener: Listener, settlements: Any) -> None:
        on_written(listener, settlements)
        written.set()

    def overloaded(completer: Completer) -> bool:
        if not woken.is_set() or asked.is_set():
            return False
        asked.set()
        assert written.wait(PATIENCE)
        return True

    monkeypatch.setattr(Listener, "wake", free)
    monkeypatch.setattr(Listener, "written", told)
    monkeypatch.setattr(Completer, "_settle", held)
    monkeypatch.setattr(Completer, "overloaded", property(overloaded))
    pgq.entrypoint("work")(lambda job: ran.set())
    pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(2))
    with pgq.worker(concurrency=1, batch_size=1, poll_interval=timedelta(hours=1)):
        wait_until(lambda: pgq.jobs.count() == {("work", "succeeded"): 2})


def test_a_worker_that_stops_right_after_a_claim_in_doubt_is_left_to_be_looked_after(
    pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pgq.entrypoint("work")(lambda job: None)
    pgq.enqueue("work")
    worker = pgq.worker()

    def claim(real: Claim, room: Room) -> Claimed:
        claimed = real(room)
        if claimed:
            worker._threads["listener"].stop()
        return dataclasses.replace(claimed, in_doubt=bool(claimed))

    intercept(worker, monkeypatch, claim)
    worker.start()
    assert worker._threads["listener"].join(PATIENCE)
    worker.stop()
    # Somebody else finds it silent at once, and what it may have claimed.
    (left,) = pgq.store.workers()
    assert left.beat_at is not None
    assert left.beat_at.year == 1
