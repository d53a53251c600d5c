"""The end of an attempt's time: whatever a handler is doing, its job fails by JobTimeout, and nothing else is hit."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import tenacity

from pgq_sync import Cancelled, CompletionWatcher, Context, DatabaseRetry, Job, JobTimeout, NewJob, PgQueuer, Schedule
from pgq_sync.engine.guard import Guard
from tests.entrypoints.support import record_of, run_one
from tests.waiting import PATIENCE, wait_until

JOB_TIMEOUT = "pgq_sync.errors.JobTimeout"
AT_ONCE = DatabaseRetry(initial_delay=timedelta())
ROUNDS = 1_000 if os.environ.get("CI") == "true" else 10_000


def spin(job: Job) -> None:
    while True:
        pass


def test_a_loop_of_bytecode_is_ended(either: PgQueuer) -> None:
    started = time.monotonic()
    record = run_one(either, spin, timeout=0.1)

    assert time.monotonic() - started < PATIENCE
    assert (record.status, record.attempts) == ("failed", 1)
    (error,) = record.errors
    assert (error["type"], error["message"]) == (JOB_TIMEOUT, "the attempt took longer than its timeout of 0.1 s")
    assert "in spin" in error["traceback"]


def test_a_job_whose_time_was_over_is_held_where_failed_ones_are(either: PgQueuer) -> None:
    record = run_one(either, spin, timeout=timedelta(milliseconds=100), on_failure="hold")
    assert (record.status, record.errors[0]["type"]) == ("held", JOB_TIMEOUT)


def long_sleep(job: Job) -> None:
    time.sleep(0.5)  # no bytecode meanwhile: it is interrupted afterwards


def long_call(job: Job) -> None:
    hashlib.pbkdf2_hmac("sha512", b"password", b"salt", 300_000)


def long_wait(job: Job, context: Context) -> None:
    context.cancelled.wait(PATIENCE)


@pytest.mark.parametrize("handler", [long_sleep, long_call, long_wait])
def test_a_call_into_c_ends_first_and_the_job_fails_all_the_same(either: PgQueuer, handler: Callable[..., None]) -> None:
    record = run_one(either, handler, timeout=0.02)
    assert (record.status, record.errors[0]["type"]) == ("failed", JOB_TIMEOUT)


def test_a_job_within_its_time_succeeds(either: PgQueuer) -> None:
    assert run_one(either, lambda job: None, timeout=PATIENCE).status == "succeeded"


def test_exceptions_that_a_handler_catches_are_not_it(either: PgQueuer) -> None:
    def careless(job: Job) -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue

    assert run_one(either, careless, timeout=0.05).errors[0]["type"] == JOB_TIMEOUT


def test_a_handler_that_swallows_the_timeout_and_returns_has_succeeded(either: PgQueuer) -> None:
    def stubborn(job: Job) -> str:
        try:
            spin(job)
        except JobTimeout:
            return "the best I have"
        return "never"

    record = run_one(either, stubborn, timeout=0.05, store_result=True)
    assert (record.status, record.result, record.errors) == ("succeeded", "the best I have", [])


def test_an_error_after_the_deadline_is_taken_for_its_consequence(either: PgQueuer) -> None:
    def interrupted(job: Job) -> None:
        try:
            spin(job)
        finally:
            raise LookupError("half done")

    (error,) = run_one(either, interrupted, timeout=0.05).errors
    assert error["type"] == JOB_TIMEOUT
    assert "LookupError: half done" in error["traceback"]


@pytest.mark.parametrize("steering", [Cancelled("enough"), SystemExit(1)])
def test_what_a_handler_says_on_purpose_after_the_deadline_stands(either: PgQueuer, steering: BaseException) -> None:
    def polite(job: Job) -> None:
        try:
            spin(job)
        except JobTimeout:
            raise steering from None

    (error,) = run_one(either, polite, timeout=0.05).errors
    assert error["type"].endswith(type(steering).__name__)


def test_the_context_tells_the_deadline_and_that_it_has_come(either: PgQueuer) -> None:
    told: dict[str, Any] = {}

    def curious(job: Job, context: Context) -> None:
        told.update(deadline=context.deadline, at=datetime.now(timezone.utc), before=context.timed_out)
        context.check()
        try:
            context.cancelled.wait(PATIENCE)
            spin(job)
        except JobTimeout:
            # The exception comes first, the flag a moment later.
            told.update(cancelled=context.cancelled.wait(PATIENCE), after=context.timed_out)
        context.check()

    record = run_one(either, curious, timeout=0.3)

    assert timedelta() < told["deadline"] - told["at"] <= timedelta(seconds=0.3)
    assert (told["before"], told["cancelled"], told["after"]) == (False, True, True)
    assert "in check" in record.errors[0]["traceback"]
    assert record.errors[0]["type"] == JOB_TIMEOUT


def test_without_a_timeout_there_is_no_deadline_and_nothing_is_guarded(either: PgQueuer) -> None:
    told: list[Any] = []

    def free(job: Job, context: Context) -> None:
        context.check()
        told.extend([context.deadline, context.timed_out, type(context)])

    assert run_one(either, free).status == "succeeded"
    assert told == [None, False, Context]


def test_a_policy_gives_another_attempt(either: PgQueuer) -> None:
    def slow_at_first(job: Job) -> None:
        if job.attempt == 1:
            spin(job)

    record = run_one(either, slow_at_first, timeout=0.05, retry=AT_ONCE)
    assert (record.status, record.attempts) == ("succeeded", 2)
    assert [(error["attempt"], error["type"]) for error in record.errors] == [(1, JOB_TIMEOUT)]


@pytest.mark.parametrize(("worth", "attempts"), [(JobTimeout, 3), (LookupError, 1)])
def test_a_policy_is_asked_about_the_timeout_and_not_about_its_consequence(
    either: PgQueuer, worth: type[BaseException], attempts: int
) -> None:
    def interrupted(job: Job) -> None:
        try:
            spin(job)
        finally:
            raise LookupError("half done")

    retry = DatabaseRetry(max_attempts=3, initial_delay=timedelta(), retry=tenacity.retry_if_exception_type(worth))
    record = run_one(either, interrupted, timeout=0.02, retry=retry)
    assert (record.status, record.attempts) == ("failed", attempts)
    assert {error["type"] for error in record.errors} == {JOB_TIMEOUT}


def test_schedules_have_timeouts_too(either: PgQueuer) -> None:
    @either.schedule("tick", "0 0 1 1 *", timeout=0.05)
    def tick(schedule: Schedule) -> None:
        spin(schedule.job)

    job_id = either.enqueue("tick")
    either.drain()
    assert record_of(either, job_id).errors[0]["type"] == JOB_TIMEOUT


def test_a_deadline_waits_neither_for_a_later_one_nor_for_the_watchdogs_next_round(either: PgQueuer) -> None:
    lengths: dict[str, float] = {}

    def timed(job: Job) -> None:
        started = time.monotonic()
        try:
            while True:
                time.sleep(0.005)  # bytecode now and then, and the interpreter for the other threads
        finally:
            lengths[job.entrypoint] = time.monotonic() - started

    for seconds in (1.5, 0.05, 0.3):
        either.entrypoint(str(seconds), timeout=seconds)(timed)
        either.enqueue(str(seconds))
    assert either.drain().counts == {"failed": 3}
    assert lengths["0.05"] < 0.7  # within this second's round
    assert lengths["0.3"] < lengths["1.5"]


def test_timeouts_that_come_just_as_the_handler_ends_hit_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    pgq = PgQueuer.in_memory()
    timeout = 0.002

    @pgq.entrypoint("close", timeout=timeout)
    def close(job: Job) -> None:
        end = time.monotonic() + timeout + random.uniform(-0.0005, 0.0002)
        while time.monotonic() < end:
            pass

    pgq.enqueue_many(NewJob(entrypoint="close") for _ in range(ROUNDS))
    enough = time.monotonic() + PATIENCE / 2  # the jobs share one interpreter: on a busy machine fewer have to do
    with caplog.at_level(logging.ERROR), pgq.worker(concurrency=4) as worker:
        slots = {thread for thread in threading.enumerate() if thread.name.startswith("pgq-slot")}
        wait_until(lambda: worker._completer.counts.total() == ROUNDS or time.monotonic() > enough)
        assert all(thread.is_alive() for thread in slots)
    counts = {outcome: number for outcome, number in worker._completer.counts.items() if outcome != "released"}
    assert set(counts) == {"succeeded", "failed"}
    assert sum(counts.values()) + pgq.jobs.count().get(("close", "queued"), 0) == ROUNDS
    assert {record.errors[0]["type"] for record in pgq.jobs.find(status="failed", limit=ROUNDS)} == {JOB_TIMEOUT}
    assert caplog.records == []


@contextmanager
def firing() -> Iterator[Callable[[Guard], None]]:
    """A thread that fires each guard that it is given, as soon as it can get the interpreter."""
    guards: queue.SimpleQueue[Guard | None] = queue.SimpleQueue()

    def fire() -> None:
        while (guard := guards.get()) is not None:
            guard.fire()

    thread = threading.Thread(target=fire)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        yield guards.put
    finally:
        sys.setswitchinterval(before)
        guards.put(None)
        thread.join(PATIENCE)


def test_a_guard_that_is_fired_at_any_moment_raises_in_the_handler_or_not_at_all() -> None:
    ends = {"returned": 0, "timed out": 0}
    with firing() as fire:
        for _ in range(10_000):
            guard = Guard(PATIENCE)
            try:
                guard.run(functools.partial(busy, random.choice([5, 20, 1000]), fire, guard))
                ends["returned"] += 1
            except JobTimeout:
                ends["timed out"] += 1
            # Here it would land if it was not taken back.
            busy(10)
            assert not guard.while_armed(lambda thread: None)
    assert min(ends.values()) > 0


def busy(most: int, fire: Callable[[Guard], None] | None = None, guard: Guard | None = None) -> None:
    if fire is not None and guard is not None:
        fire(guard)
    for _ in range(random.randrange(most)):
        pass


class FiresAtDisarm:
    """The lock of a guard, at whose second use, to disarm it, another thread is faster and fires."""

    def __init__(self, guard: Guard) -> None:
        self._lock = threading.Lock()
        self._uses = 0
        self._guard = guard

    def __enter__(self) -> None:
        self._uses += 1
        if self._uses == 2:
            watchdog = threading.Thread(target=self._guard.fire)
            watchdog.start()
            watchdog.join()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_a_timeout_that_strikes_while_it_is_disarmed_changes_nothing_for_who_has_returned() -> None:
    guard = Guard(PATIENCE)
    guard._lock = FiresAtDisarm(guard)  # type: ignore[assignment]  # as far as a guard uses one

    assert guard.run(lambda: "result") == "result"
    assert guard.fired
    assert not guard.while_armed(lambda thread: None)


class FiresIn:
    """A lock, in one of whose methods another thread fires the guard, and does not come through."""

    def __init__(self, guard: Guard, method: str) -> None:
        self._guard = guard
        self._method = method
        self._begin, self._end = threading.Lock(), threading.Lock()
        self._begin.acquire()
        self._end.acquire()
        self._thread = threading.Thread(target=self._fire)
        self._thread.start()

    def _fire(self) -> None:
        self._begin.acquire()
        self._guard.fire()
        self._end.release()

    def _wait_in(self, method: str) -> None:
        if method == self._method:
            self._begin.release()
            self._end.acquire()

    def acquire(self) -> None: ...

    def release(self) -> None: ...

    def __enter__(self) -> None:
        self._wait_in("__enter__")

    def __exit__(self, *error: object) -> None:
        self._wait_in("__exit__")


@pytest.mark.parametrize("method", ["__enter__", "__exit__"])
def test_no_timeout_strikes_where_a_condition_takes_its_lock_or_gives_it_back(method: str) -> None:
    guard = Guard(PATIENCE)
    condition = threading.Condition(FiresIn(guard, method))  # type: ignore[arg-type]  # as far as it uses one

    def enter() -> str:
        with condition:
            return "done"

    assert guard.run(enter) == "done"
    assert not guard.fired


def test_timeouts_of_handlers_that_watch_jobs_leave_the_watcher_whole(caplog: pytest.LogCaptureFixture) -> None:
    pgq = PgQueuer.in_memory()
    ids = [pgq.enqueue("never served") for _ in range(5)]
    with CompletionWatcher(pgq, timedelta(days=1)) as watcher, firing() as fire:

        def watch(guard: Guard) -> None:
            busy(30, fire, guard)
            watcher.watch(random.choice(ids)).cancel()
            busy(30)

        for _ in range(10_000):
            guard = Guard(PATIENCE)
            with contextlib.suppress(JobTimeout):
                guard.run(functools.partial(watch, guard))
        futures = [watcher.watch(job_id) for job_id in ids]
        pgq.jobs.cancel(ids)
        assert {future.result(PATIENCE).status for future in futures} == {"cancelled"}
    assert caplog.records == []


class Slow(logging.Handler):
    """A log that takes its time: another thread holds its lock."""

    def emit(self, record: logging.LogRecord) -> None:
        pass


def test_a_handler_that_waits_for_the_log_leaves_no_lock_behind(either: PgQueuer) -> None:
    log = logging.getLogger("tests.slow")
    handler = Slow()
    log.addHandler(handler)
    log.propagate = False
    waiting = threading.Event()

    def chatty(job: Job) -> None:
        waiting.set()
        while True:
            log.error("again")
            busy(10_000)  # outside of the log, where the watchdog may find it

    either.entrypoint("chatty", timeout=0.5)(chatty)
    job_id = either.enqueue("chatty")
    handler.acquire()
    with either.worker() as worker:
        try:
            assert waiting.wait(PATIENCE)
            # It hangs in the log when its time is over, and the exception would strike as it gets the lock.
            wait_until(lambda: [slot.context.guard.is_over for slot in worker._slots.running()] == [True])  # type: ignore[union-attr]
        finally:
            handler.release()
        wait_until(lambda: record_of(either, job_id).status == "failed")
    free = threading.Thread(target=log.error, args=["free"], daemon=True)
    free.start()
    free.join(5.0)
    log.removeHandler(handler)
    assert not free.is_alive()
