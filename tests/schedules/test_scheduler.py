"""The scheduler's thread in running workers: it is on time, hears of changes, asks little, and outlives what goes wrong."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from pgq_sync import Job, PgQueuer, Schedule, StoreUnavailable
from pgq_sync.engine.scheduler import Scheduler
from pgq_sync.storage.database import PsycopgSession
from pgq_sync.storage.memory.schedules import MemorySchedules
from pgq_sync.storage.notifications import parse
from pgq_sync.storage.schedules import PostgresSchedules
from tests.storage.support import ear, query
from tests.waiting import PATIENCE, wait_until

EACH_SECOND = "* * * * * *"
INSERT = """
    insert into pgq_schedule (name, entrypoint, expression, next_at)
    values ('unsaid', 'work', '* * * * * *', date_trunc('second', now()) + interval '1 second')
"""


class Ticks:
    """The jobs of "work", as they come."""

    def __init__(self, pgq: PgQueuer) -> None:
        self._came: queue.SimpleQueue[Job] = queue.SimpleQueue()
        pgq.entrypoint("work")(self._came.put)

    def next(self, timeout: float = PATIENCE) -> datetime:
        """For which time the next one came."""
        job = self._came.get(timeout=timeout)
        assert job.headers is not None
        return datetime.fromisoformat(job.headers["pgq_schedule"]["due_at"])

    def last(self) -> datetime:
        """Until when to take what may have been on its way as its schedule was stopped."""
        try:
            self._came.get(timeout=0.5)
        except queue.Empty:
            pass
        return datetime.now(timezone.utc)

    def none_before(self, until: datetime) -> None:
        """Whether nothing comes until then."""
        with pytest.raises(queue.Empty):
            self._came.get(timeout=(until - datetime.now(timezone.utc)).total_seconds())


@pytest.fixture
def ticks(either: PgQueuer) -> Ticks:
    return Ticks(either)


def _log(into: queue.SimpleQueue[tuple[datetime, float]]) -> Callable[[Schedule], None]:
    return lambda schedule: into.put((schedule.due_at, time.time() - schedule.due_at.timestamp()))


@pytest.mark.alone
def test_every_second_fires_thirty_times_in_thirty_seconds(either: PgQueuer) -> None:
    came: queue.SimpleQueue[tuple[datetime, float]] = queue.SimpleQueue()
    either.schedule("each second", EACH_SECOND)(_log(came))
    with either.worker(), either.worker():
        first, late = came.get(timeout=PATIENCE)
        seen = [came.get(timeout=PATIENCE) for _ in range(30)]
    assert [due for due, _ in seen] == [first + timedelta(seconds=each + 1) for each in range(30)]
    assert max(late, *(late for _, late in seen)) < 1


def test_what_is_added_at_run_time_fires_at_its_next_time(either: PgQueuer, ticks: Ticks) -> None:
    with either.worker(concurrency=1) as worker:
        worker.listening.wait(PATIENCE)
        added = datetime.now(timezone.utc)
        either.schedules.add("customer 7", EACH_SECOND, entrypoint="work", payload=b"7")
        first = ticks.next()
        assert first - added < timedelta(seconds=2)
        assert ticks.next() == first + timedelta(seconds=1)


def test_pauses_and_the_end_of_them_are_seen_within_a_second(either: PgQueuer, ticks: Ticks) -> None:
    either.schedules.add("often", EACH_SECOND, entrypoint="work")
    with either.worker():
        ticks.next()
        assert either.schedules.pause("often") == 1
        ticks.none_before(ticks.last() + timedelta(seconds=3.5))

        resumed = datetime.now(timezone.utc)
        assert either.schedules.resume("often") == 1
        following = ticks.next()
        assert resumed - timedelta(seconds=0.1) < following < resumed + timedelta(seconds=1.1)  # none of the pause is missed

        assert either.schedules.remove("often") == 1
        ticks.none_before(ticks.last() + timedelta(seconds=3.5))


def test_a_run_beside_its_times_is_at_once_and_leaves_them_alone(either: PgQueuer, ticks: Ticks) -> None:
    before = either.schedules.add("yearly", "@yearly", entrypoint="work")
    either.schedules.pause("yearly")
    with either.worker() as worker:
        worker.listening.wait(PATIENCE)
        either.schedules.run_now("yearly")
        assert abs(ticks.next() - datetime.now(timezone.utc)) < timedelta(seconds=1)
    (after,) = either.schedules.list()
    assert (after.next_at, after.last_at) == (before.next_at, None)
    assert after.paused_at is not None


def test_a_worker_fires_what_it_serves_whoever_has_added_it(either: PgQueuer, ticks: Ticks) -> None:
    either.entrypoint("other")(lambda job: None)
    either.schedules.add("other", EACH_SECOND)
    either.schedules.add("elsewhere", EACH_SECOND, entrypoint="work", queue="elsewhere")
    either.schedules.add("gone", EACH_SECOND)
    either.schedules.add("here", EACH_SECOND, entrypoint="work")
    with either.worker(entrypoints=["work"], queues=["default"]):
        ticks.next()
        ticks.next()
    assert {each.name for each in either.schedules.list() if each.last_at} == {"here"}


@pytest.mark.parametrize(("grace", "jobs"), [(timedelta(seconds=5), 0), (timedelta(minutes=1), 1)], ids=["missed", "late"])
def test_how_late_a_tick_may_be_is_a_setting(pgq: PgQueuer, dsn: str, grace: timedelta, jobs: int) -> None:
    pgq.entrypoint("yearly")(lambda job: None)
    pgq.schedules.add("yearly", "@yearly", on_missed="skip")
    query(dsn, "update pgq_schedule set next_at = now() - interval '30 s'")
    with pgq.worker(misfire_grace=grace):
        wait_until(lambda: pgq.schedules.list()[0].next_at > datetime.now(timezone.utc))
    assert len(pgq.jobs.find()) == jobs


def test_a_worker_leaves_at_once_while_its_scheduler_sleeps(either: PgQueuer) -> None:
    either.schedule("yearly", "@yearly")(lambda schedule: None)
    with either.worker() as worker:
        worker.listening.wait(PATIENCE)
        began = time.monotonic()
    assert time.monotonic() - began < 3


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What the schedulers' looks have returned."""
    returned: list[float | None] = []
    for kind in (PostgresSchedules, MemorySchedules):
        monkeypatch.setattr(kind, "tick", _noting(kind.tick, returned))
    return returned


def _noting(tick: Callable[..., Any], returned: list[float | None]) -> Callable[..., Any]:
    def noting(*arguments: Any) -> float | None:
        returned.append(tick(*arguments))
        return returned[-1]

    return noting


def test_without_schedules_nothing_is_asked(either: PgQueuer, ticks: Ticks, looks: list[float | None]) -> None:
    with either.worker(poll_interval=timedelta(seconds=0.1)) as worker:
        worker.listening.wait(PATIENCE)
        threading.Event().wait(0.5)  # the last poll from before that
        before = len(looks)
        threading.Event().wait(2)
        assert len(looks) == before
        assert set(looks) == {None}


def test_an_idle_look_is_one_query(pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch) -> None:
    pgq.schedules.add("yearly", "@yearly")
    schedules, run = pgq.store.schedules, PsycopgSession.run
    statements: list[str] = []

    def noting(session: PsycopgSession, sql: str, params: Any = None) -> Any:
        statements.append(sql)
        return run(session, sql, params)

    monkeypatch.setattr(PsycopgSession, "run", noting)
    assert schedules.tick(["yearly"], None, timedelta(minutes=1)) is not None
    assert len(statements) == 1


def test_workers_are_told_of_what_is_new_and_of_nothing_else(pgq: PgQueuer, dsn: str) -> None:
    pgq.schedule("cleanup", "@daily")(lambda schedule: None)
    declare = pgq.store.schedules.declare
    with ear(dsn) as listener:
        declare(pgq.registry.schedules())
        assert [parse(message).kind for message in listener.heard()] == ["schedules"]
        declare(pgq.registry.schedules())
        assert listener.heard() == []
        pgq.schedules.add("cleanup", "@daily", queue="night")
        pgq.schedules.pause("cleanup")
        pgq.schedules.resume("cleanup")
        pgq.schedules.remove("cleanup")
        assert [parse(message).kind for message in listener.heard()] == ["schedules"] * 4


def test_naps_are_short_enough(pgq: PgQueuer) -> None:
    worker = pgq_worker_of(pgq)
    listening = threading.Event()
    scheduler = Scheduler(pgq.store.schedules, worker.info, pgq.registry, pgq.settings, listening)
    assert scheduler._look() == 5.0  # nobody tells of changes yet
    scheduler.connected(hears=True)
    listening.set()
    assert scheduler._look() is None
    pgq.schedules.add("yearly", "@yearly", entrypoint="work")
    assert scheduler._look() == 30.0
    listening.clear()
    assert scheduler._look() == 5.0
    listening.set()
    scheduler.connected(hears=False)
    assert scheduler._look() == 5.0


def pgq_worker_of(pgq: PgQueuer) -> Any:
    Ticks(pgq)
    return pgq.worker()


def test_where_notifications_do_not_arrive_it_looks_at_every_poll(
    pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgq_sync.storage.claimer.pooled", lambda connection: True)
    ticks = Ticks(pgq)
    with pgq.worker(poll_interval=timedelta(seconds=0.3)) as worker:
        worker.listening.wait(PATIENCE)
        query(dsn, INSERT)
        ticks.next()


def test_what_changed_while_the_listener_was_away_is_found_once_it_is_back(
    pgq: PgQueuer, dsn: str, looks: list[float | None]
) -> None:
    ticks = Ticks(pgq)
    with pgq.worker() as worker:
        worker.listening.wait(PATIENCE)
        wait_until(lambda: looks)
        query(dsn, INSERT)  # nobody is told
        query(dsn, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%listener%'")
        wait_until(lambda: len(looks) > 2)
        ticks.next()


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The errors that were logged of a schedule."""
    caplog.set_level(logging.ERROR, "pgq_sync.engine")
    return lambda name: [message for message in caplog.messages if name in message]


@pytest.mark.parametrize(
    ("column", "value", "said"), [("timezone", "Mars/Olympus", "timezone='Mars/Olympus'"), ("expression", "at noon", "at noon")]
)
def test_a_row_that_cannot_be_read_is_logged_once_and_costs_nobody_else_its_ticks(
    pgq: PgQueuer, dsn: str, errors: Callable[[str], list[str]], column: str, value: str, said: str
) -> None:
    ticks = Ticks(pgq)
    pgq.schedules.add("broken", "* * * * * 0-59", entrypoint="work")
    query(dsn, f"update pgq_schedule set {column} = %s, next_at = now() - interval '1 day'", [value])
    pgq.schedules.add("whole", EACH_SECOND, entrypoint="work")
    with pgq.worker():
        first = ticks.next()
        assert [ticks.next() for _ in range(2)] == [first + timedelta(seconds=each) for each in (1, 2)]
        (line,) = errors("broken")
        assert said in line

        if column == "timezone":
            pgq.schedules.remove("whole")
            pgq.schedules.add("broken", "* * * * * 0-59", entrypoint="work", payload=b"mended")
            wait_until(lambda: pgq.schedules.find("broken")[0].last_at)


def test_a_row_that_cannot_be_read_is_tried_again_in_a_minute_and_not_before(pgq: PgQueuer, dsn: str) -> None:
    pgq.schedules.add("broken", EACH_SECOND)
    query(dsn, "update pgq_schedule set timezone = 'Mars/Olympus', next_at = now() - interval '1 day'")
    schedules = pgq.store.schedules
    for _ in range(2):
        assert schedules.tick(["broken"], None, timedelta(minutes=1)) == pytest.approx(60, abs=5)
    pgq.schedules.add("yearly", "@yearly", entrypoint="broken")
    assert schedules.tick(["broken"], None, timedelta(minutes=1)) == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    "change", ["jitter = '5000000 years'", "jitter = '-1 second'", "next_at = 'infinity'", "paused_at = '-infinity'"]
)
def test_a_value_that_no_client_could_read_is_refused_by_the_table(pgq: PgQueuer, dsn: str, change: str) -> None:
    pgq.schedules.add("cleanup", "@daily", jitter=timedelta(days=365))
    with pytest.raises(psycopg.errors.CheckViolation, match="pgq_schedule_check"):
        query(dsn, f"update pgq_schedule set {change}")


def test_a_job_that_the_database_refuses_costs_nobody_else_its_ticks(
    pgq: PgQueuer, dsn: str, errors: Callable[[str], list[str]]
) -> None:
    query(dsn, "alter table pgq_job add constraint no_bribes check (convert_from(payload, 'UTF8') <> 'bribe')")
    ticks = Ticks(pgq)
    pgq.schedules.add("bad", EACH_SECOND, entrypoint="work", payload="bribe")
    pgq.schedules.add("good", EACH_SECOND, entrypoint="work")
    with pgq.worker(concurrency=1):  # which runs them in their order
        first = ticks.next()
        assert [ticks.next() for _ in range(2)] == [first + timedelta(seconds=each) for each in (1, 2)]
    (line,) = errors("bad")
    assert "no_bribes" in line


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a bug")], ids=lambda error: type(error).__name__)
def test_the_thread_outlives_what_goes_wrong(
    either: PgQueuer, ticks: Ticks, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing = [error]
    for kind in (PostgresSchedules, MemorySchedules):
        monkeypatch.setattr(kind, "tick", _failing(kind.tick, failing))
    either.schedules.add("often", EACH_SECOND, entrypoint="work")
    with either.worker():
        ticks.next()
    assert not failing


def _failing(tick: Callable[..., Any], failing: list[Exception]) -> Callable[..., Any]:
    def fails_first(*arguments: Any) -> Any:
        if failing:
            raise failing.pop()
        return tick(*arguments)

    return fails_first
