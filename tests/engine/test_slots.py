"""How far ahead of its slots a worker claims: far while jobs are short, not at all when they are long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pgq_sync import Context
from pgq_sync.engine.slots import MOST, Slots
from pgq_sync.models import Claim, Claimed, Outcome, Settlement
from tests.engine.test_completer import claim
from tests.waiting import PATIENCE, wait_until

SUCCEEDED = Outcome(status="succeeded")


def claims(*numbers: int) -> Claimed:
    return Claimed(plain=[claim(number) for number in range(*numbers)])


@contextmanager
def running(run: Callable[[Claim], None], **options: Any) -> Iterator[tuple[Slots, list[Settlement]]]:
    done: list[Settlement] = []
    ended = threading.Event()

    def attempt(each: Claim, entered: Callable[[Context], None]) -> Outcome:
        run(each)
        return SUCCEEDED

    slots = Slots(4, attempt, done.append, lambda: None, **options)
    slots.start()
    yield slots, done
    slots.close(ended.set)
    assert ended.wait(PATIENCE)


def test_nothing_is_claimed_ahead_before_anything_is_known() -> None:
    with running(lambda each: None) as (slots, _):
        assert slots.room().ahead == 4


def test_short_jobs_are_claimed_far_ahead() -> None:
    with running(lambda each: None) as (slots, done):
        slots.hand(claims(100))
        wait_until(lambda: len(done) == 100)
        assert slots.room().ahead == MOST


def test_batch_size_caps_a_claim() -> None:
    with running(lambda each: None, batch_size=7) as (slots, done):
        slots.hand(claims(100))
        wait_until(lambda: len(done) == 100)
        assert slots.room().ahead == 7


def test_while_every_slot_runs_a_long_job_there_is_no_room_and_the_surplus_is_given_back() -> None:
    long, finish = threading.Semaphore(0), threading.Event()

    def run(each: Claim) -> None:
        if each.job.id >= 100:
            long.release()
            assert finish.wait(PATIENCE)

    with running(run) as (slots, done):
        slots.hand(claims(100))
        wait_until(lambda: len(done) == 100)
        slots.hand(claims(100, 150))
        for _ in range(4):
            assert long.acquire(timeout=PATIENCE)
        given_back: list[Claim] = []

        def all_given_back() -> bool:
            given_back.extend(slots.give_back())
            return len(given_back) == 46

        # The longer they run, the fewer may wait; in the end none.
        wait_until(all_given_back)
        assert slots.room().ahead <= 0
        finish.set()
    assert len(done) == 104


def test_what_is_taken_back_never_starts_and_makes_room() -> None:
    started, finish = threading.Semaphore(0), threading.Event()

    def run(each: Claim) -> None:
        started.release()
        assert finish.wait(PATIENCE)

    with running(run) as (slots, done):
        slots.hand(claims(10))
        for _ in range(4):
            assert started.acquire(timeout=PATIENCE)
        assert {each.job.id for each in slots.take_back()} == set(range(4, 10))
        finish.set()
    assert {each.claim.job.id for each in done} == set(range(4))


def test_what_idle_slots_are_about_to_take_is_not_given_back() -> None:
    slots = Slots(4, lambda each, entered: SUCCEEDED, lambda settlement: None, lambda: None)  # its threads are still asleep
    slots.hand(claims(6))
    assert len(slots.give_back()) == 2
    assert slots.give_back() == []
