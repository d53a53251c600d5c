"""How the stores keep schedules: a tick fires when it is due, once, whoever asks and however late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import pytest

from pgq_sync import JobRecord, Settings
from pgq_sync.entrypoints.schedules import next_tick
from pgq_sync.models import DeclaredSchedule
from pgq_sync.storage.connections import OwnPool
from pgq_sync.storage.memory import MemoryStore
from pgq_sync.storage.names import Names
from pgq_sync.storage.postgres import PostgresStore
from pgq_sync.storage.store import Store

START = datetime(2031, 5, 17, 11, 40, tzinfo=timezone.utc)
NOON = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
HOURLY = DeclaredSchedule("cleanup", "0 * * * *", "UTC", "night", 3)


@dataclass
class Timed:
    """Stores as different processes have them, on one clock that stands still until it is moved."""

    open_store: Callable[[], Store]
    now: list[datetime]

    def __post_init__(self) -> None:
        self.store = self.open_store()

    def tick(self, *names: str) -> float | None:
        return self.store.schedules.tick(names or ("cleanup",), next_tick)

    def jobs(self) -> list[JobRecord]:
        return self.store.operations().find(limit=1000)


@pytest.fixture(params=["postgres", "memory"])
def timed(request: pytest.FixtureRequest) -> Iterator[Timed]:
    now = [START]
    stores: list[Store] = []
    shared = MemoryStore(lambda: now[0])
    dsn = request.getfixturevalue("dsn") if request.param == "postgres" else None

    def open_store() -> Store:
        pool = OwnPool(Settings(dsn=dsn))
        stores.append(shared if dsn is None else PostgresStore(pool, Names(), clock=lambda: now[0]))
        return stores[-1]

    timed = Timed(open_store, now)
    timed.store.schedules.declare([HOURLY], next_tick)
    yield timed
    for store in stores:
        store.close()


def test_nothing_fires_before_it_is_due(timed: Timed) -> None:
    assert timed.tick() == 1200
    timed.now[0] = NOON - timedelta(milliseconds=1)
    assert timed.tick() == pytest.approx(0.001)
    assert timed.jobs() == []


def test_a_tick_enqueues_one_job_and_moves_on(timed: Timed) -> None:
    timed.now[0] = NOON
    assert [timed.tick() for _ in range(3)] == [3600, 3600, 3600]

    (job,) = timed.jobs()
    assert (job.entrypoint, job.queue, job.priority, job.status) == ("cleanup", "night", 3, "queued")
    assert (job.execute_after, job.payload) == (NOON, None)
    assert job.headers == {"pgq_schedule": {"expression": "0 * * * *", "timezone": "UTC", "due_at": NOON.isoformat()}}


def test_each_tick_has_a_job_of_its_own_however_long_they_wait(timed: Timed) -> None:
    for hours in range(3):
        timed.now[0] = NOON + hours * HOUR
        timed.tick()
    assert [job.execute_after for job in timed.jobs()] == [NOON + 2 * HOUR, NOON + HOUR, NOON]


def test_after_three_missed_ticks_there_is_one_job(timed: Timed) -> None:
    timed.now[0] = NOON + 2 * HOUR + timedelta(minutes=10)
    assert timed.tick() == 3000
    assert timed.tick() == 3000

    (job,) = timed.jobs()
    assert job.headers is not None
    assert datetime.fromisoformat(job.headers["pgq_schedule"]["due_at"]) in (NOON, NOON + HOUR, NOON + 2 * HOUR)


def test_schedulers_that_ask_at_the_same_time_enqueue_one_job(timed: Timed) -> None:
    stores = [timed.open_store() for _ in range(4)]
    rounds = 25
    together = threading.Barrier(len(stores))

    def ask(store: Store) -> None:
        for hours in range(rounds):
            together.wait(30)
            timed.now[0] = NOON + hours * HOUR
            together.wait(30)
            store.schedules.tick(["cleanup"], next_tick)

    with ThreadPoolExecutor(len(stores)) as pool:
        for asked in [pool.submit(ask, store) for store in stores]:
            asked.result()

    due = [job.headers["pgq_schedule"]["due_at"] for job in timed.jobs() if job.headers]
    assert due == [(NOON + hours * HOUR).isoformat() for hours in reversed(range(rounds))]


def test_declaring_again_keeps_what_is_due(timed: Timed) -> None:
    timed.now[0] = NOON + timedelta(minutes=5)
    timed.store.schedules.declare([HOURLY], next_tick)
    timed.tick()
    assert len(timed.jobs()) == 1


def test_declaring_again_takes_over_queue_and_priority(timed: Timed) -> None:
    timed.store.schedules.declare([replace(HOURLY, queue="day", priority=-1)], next_tick)
    timed.now[0] = NOON
    timed.tick()
    assert [(job.queue, job.priority) for job in timed.jobs()] == [("day", -1)]


def test_declaring_another_time_zone_looks_for_the_next_tick_anew(timed: Timed) -> None:
    timed.store.schedules.declare([replace(HOURLY, timezone="Asia/Kathmandu")], next_tick)
    assert timed.tick() == 35 * 60  # its hours begin at a quarter past ours


def test_only_the_named_schedules_fire(timed: Timed) -> None:
    timed.store.schedules.declare([replace(HOURLY, name="report")], next_tick)
    timed.now[0] = NOON
    assert timed.tick("report", "unknown") == 3600
    assert [job.entrypoint for job in timed.jobs()] == ["report"]
    assert timed.tick("unknown") is None


def test_every_expression_of_a_name_fires_by_itself(timed: Timed) -> None:
    timed.store.schedules.declare([HOURLY, replace(HOURLY, expression="*/30 * * * *")], next_tick)
    timed.now[0] = NOON
    assert timed.tick() == 1800
    assert sorted(str((job.headers or {})["pgq_schedule"]["expression"]) for job in timed.jobs()) == ["*/30 * * * *", "0 * * * *"]


def test_a_tick_that_fails_halfway_leaves_no_job_and_is_due_again(timed: Timed) -> None:
    def broken(schedule: DeclaredSchedule, after: datetime) -> datetime:
        raise RuntimeError("this expression has no further time")

    timed.now[0] = NOON
    with pytest.raises(RuntimeError):
        timed.store.schedules.tick(["cleanup"], broken)
    assert timed.jobs() == []
    timed.tick()
    assert len(timed.jobs()) == 1
