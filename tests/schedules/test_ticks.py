"""When schedules fire: at their times, once, whoever asks and however late; and what becomes of ticks that were missed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from pgq_sync.storage.store import Store
from tests.schedules.support import GRACE, HOUR, MINUTE, NOON, START, Timed

SECOND = timedelta(seconds=1)


@pytest.fixture
def hourly(timed: Timed) -> Timed:
    """A schedule whose next tick is at noon, in twenty minutes."""
    timed.deploy(("0 * * * *", {"queue": "night", "priority": 3}))
    return timed


def test_nothing_fires_before_it_is_due(hourly: Timed) -> None:
    assert hourly.tick() == 1200
    assert hourly.tick_at(NOON - timedelta(milliseconds=1)) == pytest.approx(0.001)
    assert hourly.jobs() == []


def test_a_tick_enqueues_one_job_and_moves_on(hourly: Timed) -> None:
    hourly.now = NOON
    assert [hourly.tick() for _ in range(3)] == [3600, 3600, 3600]

    (job,) = hourly.jobs()
    assert (job.entrypoint, job.queue, job.priority, job.status) == ("cleanup", "night", 3, "queued")
    assert (job.execute_after, job.payload) == (NOON, None)
    tick = {"name": "cleanup", "expression": "0 * * * *", "timezone": "UTC", "due_at": NOON.isoformat()}
    assert job.headers == {"pgq_schedule": tick}
    (record,) = hourly.pgq.schedules.list()
    assert (record.last_at, record.next_at) == (NOON, NOON + HOUR)


def test_each_tick_has_a_job_of_its_own_however_long_they_wait(hourly: Timed) -> None:
    for hours in range(3):
        hourly.tick_at(NOON + hours * HOUR)
    assert [job.execute_after for job in hourly.jobs()] == [NOON, NOON + HOUR, NOON + 2 * HOUR]


@pytest.mark.parametrize(("on_missed", "hours"), [("once", [2]), ("all", [0, 1, 2]), ("skip", [])], ids=lambda value: str(value))
def test_a_worker_that_was_down_over_three_ticks(timed: Timed, on_missed: str, hours: list[int]) -> None:
    timed.deploy(("0 * * * *", {"on_missed": on_missed}))
    assert timed.tick_at(NOON + 2 * HOUR + 10 * MINUTE) == 3000
    assert timed.tick() == 3000
    assert timed.dues() == [NOON + each * HOUR for each in hours]

    timed.tick_at(NOON + 3 * HOUR)
    assert timed.dues() == [NOON + each * HOUR for each in [*hours, 3]]


@pytest.mark.parametrize(
    ("late", "fires"), [(GRACE, True), (GRACE + SECOND / 1000, False), (timedelta(), True)], ids=["just", "too late", "at once"]
)
def test_a_tick_is_missed_only_when_it_is_older_than_the_grace(timed: Timed, late: timedelta, fires: bool) -> None:
    timed.deploy(("0 * * * *", {"on_missed": "skip"}))
    timed.tick_at(NOON + late)
    assert timed.dues() == ([NOON] if fires else [])


@pytest.mark.parametrize("on_missed", ["once", "all", "skip"])
def test_every_second_means_every_second_within_the_grace(timed: Timed, on_missed: str) -> None:
    timed.deploy(("* * * * * *", {"on_missed": on_missed}))
    timed.tick_at(START + 45 * SECOND)
    assert timed.dues() == [START + (each + 1) * SECOND for each in range(45)]


def test_what_was_missed_is_one_run_and_what_is_within_the_grace_one_each(timed: Timed) -> None:
    timed.deploy(("* * * * * *", {}))
    timed.tick_at(START + HOUR)
    assert timed.dues() == [START + HOUR - (each * SECOND) for each in range(61, -1, -1)]


@pytest.mark.parametrize(("on_missed", "jobs"), [("once", 62), ("skip", 61)])
def test_a_week_of_missed_seconds_takes_no_time(timed: Timed, on_missed: str, jobs: int) -> None:
    timed.deploy(("* * * * * *", {"on_missed": on_missed}))
    timed.now = START + timedelta(days=7)
    began = time.perf_counter()
    assert timed.tick() == 1
    assert time.perf_counter() - began < 1  # to count them takes ten times as long
    assert len(timed.jobs()) == jobs
    assert timed.dues()[-1] == timed.now


def test_of_all_that_was_missed_a_thousand_are_enqueued_at_a_time(timed: Timed) -> None:
    timed.deploy(("* * * * * *", {"on_missed": "all"}))
    timed.now = START + 2500 * SECOND
    assert [(timed.tick(), len(timed.jobs())) for _ in range(3)] == [(0, 1000), (0, 2000), (1, 2500)]
    assert timed.dues() == [START + (each + 1) * SECOND for each in range(2500)]


def test_several_schedules_share_the_jobs_of_a_transaction(timed: Timed) -> None:
    for name in ("a", "b", "c"):
        timed.deploy(("* * * * *", {"on_missed": "all"}), name=name)
    timed.now = START + 600 * MINUTE
    assert [(timed.tick("a", "b", "c"), len(timed.jobs())) for _ in range(2)] == [(0, 1000), (60, 1800)]


def test_more_schedules_than_fire_at_once_all_fire(timed: Timed) -> None:
    timed.deploy(*((f"* * * * * {second}", {"on_missed": "all"}) for second in range(0, 60, 20)))
    timed.now = START + 400 * MINUTE
    while timed.tick() == 0:
        pass
    assert sorted(timed.dues()) == [START + (each + 1) * 20 * SECOND for each in range(1200)]


def test_schedulers_that_ask_at_the_same_time_enqueue_one_job(hourly: Timed) -> None:
    stores = [hourly.open_store() for _ in range(4)]
    rounds = 25
    together = threading.Barrier(len(stores))

    def ask(store: Store) -> None:
        for hours in range(rounds):
            together.wait(30)
            hourly.now = NOON + hours * HOUR
            together.wait(30)
            store.schedules.tick(["cleanup"], None, GRACE)

    with ThreadPoolExecutor(len(stores)) as pool:
        for asked in [pool.submit(ask, store) for store in stores]:
            asked.result()

    assert hourly.dues() == [NOON + hours * HOUR for hours in range(rounds)]


def test_declaring_again_keeps_what_is_due(hourly: Timed) -> None:
    hourly.now = NOON + 5 * MINUTE
    hourly.deploy(("0 * * * *", {}))
    hourly.tick()
    assert hourly.dues() == [NOON]


def test_declaring_again_takes_over_the_options(hourly: Timed) -> None:
    hourly.deploy(("0 * * * *", {"queue": "day", "priority": -1, "on_missed": "skip", "jitter": 5}))
    hourly.tick_at(NOON)
    assert [(job.queue, job.priority) for job in hourly.jobs()] == [("day", -1)]
    (record,) = hourly.pgq.schedules.list()
    assert (record.on_missed, record.jitter) == ("skip", timedelta(seconds=5))


def test_declaring_another_time_zone_looks_for_the_next_tick_anew(hourly: Timed) -> None:
    hourly.deploy(("0 * * * *", {"timezone": "Asia/Kathmandu"}))
    assert hourly.tick() == 35 * 60  # its hours begin at a quarter past ours


def test_only_what_is_served_fires(hourly: Timed) -> None:
    hourly.deploy(("0 * * * *", {"queue": "night"}), name="report")
    hourly.now = NOON
    assert hourly.tick("report", "unknown", queues=["day"]) is None
    assert hourly.jobs() == []
    assert hourly.tick("report", "unknown", queues=["night", "day"]) == 3600
    assert [job.entrypoint for job in hourly.jobs()] == ["report"]
    assert hourly.tick("unknown") is None


def test_every_expression_of_a_name_fires_by_itself(hourly: Timed) -> None:
    hourly.deploy(("*/30 * * * *", {}))
    assert hourly.tick_at(NOON) == 1800
    assert sorted(str((job.headers or {})["pgq_schedule"]["expression"]) for job in hourly.jobs()) == [
        "*/30 * * * *",
        "0 * * * *",
    ]


def test_jitter_puts_the_job_off_and_not_its_time(timed: Timed) -> None:
    timed.deploy(("* * * * * *", {"jitter": timedelta(minutes=10)}))
    timed.tick_at(START + 50 * SECOND)

    delays = [(job.execute_after - due).total_seconds() for job, due in zip(timed.jobs(), timed.dues(), strict=True)]
    assert len(set(timed.dues())) == 50
    # One that is put off by less than it is late is due now.
    assert all(0 <= delay <= 600 for delay in delays)
    assert max(delays) - min(delays) > 200
    assert timed.tick() == 1


def test_clean_old_removes_what_the_code_declares_no_more(timed: Timed) -> None:
    timed.deploy(("0 * * * *", {}), ("30 * * * *", {}))
    timed.deploy(("0 * * * *", {}), name="report")
    timed.deploy(("30 * * * *", {}), ("15 * * * *", {"clean_old": True}))
    assert [(each.name, each.expression) for each in timed.pgq.schedules.list()] == [
        ("cleanup", "15 * * * *"),
        ("cleanup", "30 * * * *"),
        ("report", "0 * * * *"),
    ]


def test_without_clean_old_nothing_is_removed(timed: Timed) -> None:
    timed.deploy(("0 * * * *", {}))
    timed.deploy(("30 * * * *", {}))
    assert [each.expression for each in timed.pgq.schedules.list()] == ["0 * * * *", "30 * * * *"]


@pytest.mark.parametrize(
    ("deployed", "first"),
    [
        # The old one has run all that it named: the new one has missed nothing, whatever it would have named meanwhile.
        (NOON + 50 * MINUTE, NOON + HOUR + 30 * MINUTE),
        # The tick of 13:00 was missed: made up for by the new one's from noon on, of which the latest is at 13:30.
        (NOON + HOUR + 40 * MINUTE, NOON + 30 * MINUTE),
    ],
    ids=["nothing was missed", "a tick was missed"],
)
def test_clean_old_keeps_when_it_last_ran(timed: Timed, deployed: datetime, first: datetime) -> None:
    timed.deploy(("0 * * * *", {}))
    timed.tick_at(NOON)
    timed.now = deployed
    timed.deploy(("30 * * * *", {"clean_old": True}))

    (record,) = timed.pgq.schedules.list()
    assert (record.last_at, record.next_at) == (NOON, first)
    timed.tick()
    assert timed.dues()[1:] == [NOON + HOUR + 30 * MINUTE for _ in [first] if first < deployed]


def test_clean_old_before_the_first_run_goes_on_from_what_was_due(timed: Timed) -> None:
    timed.deploy(("0 * * * *", {}))
    timed.now = NOON + 40 * MINUTE
    timed.deploy(("30 * * * *", {"clean_old": True}))
    timed.tick()
    assert timed.dues() == [NOON + 30 * MINUTE]


def test_clean_old_leaves_a_schedule_paused_that_was(timed: Timed) -> None:
    timed.deploy(("0 * * * *", {}))
    timed.pgq.schedules.pause("cleanup")
    timed.deploy(("30 * * * *", {"clean_old": True}))
    (record,) = timed.pgq.schedules.list()
    assert record.paused_at == START


def test_the_clock_of_the_store_decides(hourly: Timed) -> None:
    assert datetime.now(timezone.utc) < NOON
    hourly.tick_at(NOON)
    assert hourly.dues() == [NOON]
