"""The movable clock: whatever has a time in its row comes when the clock is moved, and not before."""

from __future__ import annotations

import queue
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgq_sync import DatabaseRetry, Job, NewJob, PgQueuer, Retry, Schedule, testing
from pgq_sync.testing import MovableClock
from tests.entrypoints.support import record_of
from tests.waiting import PATIENCE, wait_until

START = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
SLOW: dict[str, Any] = {"poll_interval": timedelta(minutes=10)}  # of a worker that finds nothing by polling


def test_it_stands_still_and_goes_forward_only() -> None:
    clock = MovableClock(START)
    assert clock.now() == clock() == START
    assert clock.advance(1.5) == clock.now() == START + timedelta(seconds=1.5)
    assert clock.advance(DAY - timedelta(seconds=1.5)) == START + DAY
    assert clock.move_to((START + 2 * DAY).astimezone(timezone(timedelta(hours=5)))) == START + 2 * DAY
    assert clock.now().tzinfo is timezone.utc
    assert (clock.started_at, repr(clock)) == (START, "<MovableClock at 2031-05-19T12:00:00+00:00>")


@pytest.mark.parametrize(
    ("move", "complaint"),
    [
        (lambda clock: clock.advance(-1), "by=-1: the clock moves forward only"),
        (lambda clock: clock.advance(-DAY), "the clock moves forward only"),
        (lambda clock: clock.advance(float("nan")), "by=nan: a finite number of seconds"),
        (lambda clock: clock.advance("1"), "by='1': a timedelta or a number of seconds is accepted, not str"),
        (lambda clock: clock.advance(True), "by=True: a timedelta or a number"),
        (lambda clock: clock.move_to(START - DAY), "is before 2031-05-17T12:00:00.00:00: the clock moves forward only"),
        (lambda clock: clock.move_to(datetime(2032, 1, 1)), "has no time zone"),  # noqa: DTZ001
        (lambda clock: clock.move_to(5), "moment=5 must be an aware datetime, not int"),
        (lambda clock: MovableClock(datetime(2032, 1, 1)), "start=2032-01-01T00:00:00 has no time zone"),  # noqa: DTZ001
    ],
)
def test_it_refuses_what_is_no_way_forward(move: Any, complaint: str) -> None:
    clock = MovableClock(START)
    with pytest.raises((TypeError, ValueError), match=complaint):
        move(clock)
    assert clock.now() == START


def test_without_a_start_it_begins_with_the_stores_own_time(either: PgQueuer) -> None:
    before = either.store.operations().now()
    with testing.clock(either) as clock:
        assert before <= clock.now() == either.store.operations().now()
    assert either.store.operations().now() > clock.now()


def test_every_time_of_a_job_comes_from_it_and_then_from_the_database_again(either: PgQueuer) -> None:
    either.entrypoint("work")(lambda job: None)
    with testing.clock(either, START) as clock:
        job_id = either.enqueue("work", execute_after=timedelta(hours=1))
        clock.advance(DAY)
        assert either.drain().counts == {"succeeded": 1}
        record = record_of(either, job_id)
    assert (record.created_at, record.execute_after) == (START, START + timedelta(hours=1))
    assert (record.claimed_at, record.finished_at) == (START + DAY, START + DAY)
    assert record_of(either, either.enqueue("work")).created_at < START


def test_a_deferred_job_starts_when_its_time_has_come(either: PgQueuer) -> None:
    either.entrypoint("work")(lambda job: None)
    with testing.clock(either) as clock:
        either.enqueue("work", execute_after=DAY)
        clock.advance(DAY - timedelta(seconds=1))
        assert (either.drain().counts, testing.drain(either).counts) == ({}, {})
        clock.advance(1)
        assert testing.drain(either).counts == {"succeeded": 1}


def test_retries_wait_for_it(either: PgQueuer) -> None:
    attempts: list[int] = []

    @either.entrypoint("work", retry=DatabaseRetry(max_attempts=3, initial_delay=timedelta(minutes=1), backoff_multiplier=60))
    def work(job: Job) -> None:
        attempts.append(job.attempt)
        raise ValueError("no")

    with testing.clock(either) as clock:
        job_id = either.enqueue("work")
        assert testing.drain(either).counts == {"retried": 1}
        clock.advance(timedelta(minutes=1))
        assert testing.drain(either).counts == {"retried": 1}
        clock.advance(timedelta(minutes=4))
        assert testing.drain(either).counts == {}
        clock.advance(timedelta(minutes=1))
        assert testing.drain(either).counts == {"failed": 1}
        record = record_of(either, job_id)
    assert attempts == [1, 2, 3]
    assert record.finished_at == clock.now()


def test_a_running_worker_starts_what_becomes_due_by_the_move(either: PgQueuer) -> None:
    ran: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    @either.entrypoint("work")
    def work(job: Job) -> None:
        ran.put(job.payload)
        if job.payload == b"again" and job.attempt == 1:
            raise Retry(DAY)

    with testing.clock(either) as clock, either.worker(**SLOW) as worker:
        assert worker.listening.wait(PATIENCE)
        either.enqueue("work", "again")
        assert ran.get(timeout=PATIENCE) == b"again"
        wait_until(lambda: either.jobs.count() == {("work", "queued"): 1})
        either.enqueue("work", "deferred", execute_after=2 * DAY)
        clock.advance(DAY)
        assert ran.get(timeout=PATIENCE) == b"again"
        clock.advance(DAY)
        assert ran.get(timeout=PATIENCE) == b"deferred"


def test_an_idle_worker_is_woken(either: PgQueuer) -> None:
    """It has no other reason to look: it has claimed nothing yet."""
    ran: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    either.entrypoint("work")(lambda job: ran.put(job.payload))
    with testing.clock(either) as clock:
        either.enqueue("work", "deferred", execute_after=DAY)
        with either.worker(**SLOW) as worker:
            assert worker.listening.wait(PATIENCE)
            clock.advance(DAY)
            assert ran.get(timeout=PATIENCE) == b"deferred"


@pytest.mark.parametrize("by", [DAY, -DAY], ids=["ahead", "behind"])
def test_what_is_due_at_once_by_it_is_announced_to_a_running_worker(either: PgQueuer, by: timedelta) -> None:
    ran: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    either.entrypoint("work")(lambda job: ran.put(job.payload))
    either.entrypoint("other")(lambda job: ran.put(job.payload))
    start = either.store.operations().now() + by
    with either.worker(**SLOW) as worker, testing.clock(either, start):
        assert worker.listening.wait(PATIENCE)
        for payload in ("one", "two"):
            either.enqueue("work", payload)
            assert ran.get(timeout=PATIENCE) == payload.encode()
        either.enqueue_many([NewJob(entrypoint="work", payload="a"), NewJob(entrypoint="other", payload="b")])
        assert {ran.get(timeout=PATIENCE), ran.get(timeout=PATIENCE)} == {b"a", b"b"}
        either.enqueue("work", "keyed", dedupe_key="key")
        assert ran.get(timeout=PATIENCE) == b"keyed"


def test_its_end_wakes_workers_too(either: PgQueuer) -> None:
    ran: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    either.entrypoint("work")(lambda job: ran.put(job.payload))
    past = either.store.operations().now() - 10 * DAY
    with testing.clock(either, past):
        either.enqueue("work", "deferred", execute_after=DAY)
        either.enqueue("work", "now")
        worker = either.worker(**SLOW)
        worker.start()
        assert ran.get(timeout=PATIENCE) == b"now"
        wait_until(lambda: ("work", "succeeded") in either.jobs.count())
    assert ran.get(timeout=PATIENCE) == b"deferred"
    worker.stop()


def test_a_schedule_fires_by_it(either: PgQueuer) -> None:
    seen: list[datetime] = []
    either.schedule("report", "0 3 * * *")(lambda schedule: seen.append(schedule.due_at))
    with testing.clock(either, START) as clock:
        testing.tick(either)
        assert testing.drain(either).counts == {}
        clock.advance(DAY)
        testing.tick(either)
        assert testing.drain(either).counts == {"succeeded": 1}
        testing.tick(either)
        assert testing.drain(either).counts == {}
    assert seen == [datetime(2031, 5, 18, 3, tzinfo=timezone.utc)]


def test_a_schedule_that_no_scheduler_has_met_counts_from_the_clocks_start(either: PgQueuer) -> None:
    seen: list[datetime] = []
    either.schedule("report", "0 3 * * *")(lambda schedule: seen.append(schedule.due_at))
    with testing.clock(either, START) as clock:
        clock.advance(DAY)
        testing.tick(either)
        testing.drain(either)
    assert seen == [datetime(2031, 5, 18, 3, tzinfo=timezone.utc)]


def test_a_schedule_that_is_added_at_run_time_fires_too_where_the_code_declares_none(either: PgQueuer) -> None:
    seen: list[bytes | None] = []
    either.entrypoint("report")(lambda job: seen.append(job.payload))
    with testing.clock(either, START) as clock:
        either.schedules.add("nightly", "0 3 * * *", entrypoint="report", payload=b"all")
        clock.advance(DAY)
        testing.tick(either)
        assert testing.drain(either).counts == {"succeeded": 1}
    assert seen == [b"all"]


def test_without_a_clock_a_tick_fires_what_is_due_by_the_database(either: PgQueuer) -> None:
    either.entrypoint("other")(lambda job: None)
    testing.tick(either)  # nothing is scheduled
    either.schedule("report", "@yearly")(lambda schedule: None)
    testing.tick(either)
    assert testing.drain(either).counts == {}


def test_the_scheduler_of_a_running_worker_is_woken(either: PgQueuer) -> None:
    seen: queue.SimpleQueue[Schedule] = queue.SimpleQueue()
    either.schedule("report", "0 3 * * *")(seen.put)
    with testing.clock(either, START) as clock, either.worker(**SLOW) as worker:
        assert worker.listening.wait(PATIENCE)
        for day in (18, 19):
            clock.advance(DAY)
            assert seen.get(timeout=PATIENCE).due_at.day == day


def test_tokens_flow_by_it(either: PgQueuer) -> None:
    ran: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    either.entrypoint("work", requests_per_second=1 / 3600)(lambda job: ran.put(job.payload))
    with testing.clock(either) as clock:
        for payload in ("1", "2"):
            either.enqueue("work", payload)
        with either.worker(**SLOW):
            assert ran.get(timeout=PATIENCE) == b"1"
            wait_until(lambda: ("work", "succeeded") in either.jobs.count())
            (limit,) = either.limits.list()
            assert limit.tokens == pytest.approx(0)
            clock.advance(3600)
            assert ran.get(timeout=PATIENCE) == b"2"


def test_blocks_of_it_stand_in_each_other(either: PgQueuer) -> None:
    with testing.clock(either, START) as outer:
        with pytest.raises(ZeroDivisionError), testing.clock(either, START + DAY):
            assert either.store.operations().now() == START + DAY
            _ = 1 / 0
        assert either.store.operations().now() == outer.now() == START


def test_another_applications_time_is_its_own(either: PgQueuer) -> None:
    with testing.clock(either, START):
        assert PgQueuer.in_memory().store.operations().now() < START
