"""What a listener remembers of the lanes, and how a fleet shares the work of looking."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgq_sync.models import Peers
from pgq_sync.storage.lanes import EARLIEST, LONGEST_STAGGER, STAGGER, Found, Key, LaneMemory, serving, stagger
from pgq_sync.storage.notifications import LaneNotice, Notice
from tests.engine.test_completer import claim

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
ALONE = Peers()


def memory() -> LaneMemory:
    return LaneMemory(serving(None, ["mail", "report", "any"]))


def notice(*entrypoints: str, delay: float = 0, number: int = 0, jobs: int = 1) -> Notice:
    return Notice(number, jobs, [LaneNotice("default", name, 0, delay, NOW.timestamp()) for name in entrypoints])


def keys(lanes: LaneMemory, now: float) -> list[Key]:
    return [key for key, _ in lanes.ready(now)]


def test_one_worker_looks_at_once_and_the_others_in_turn() -> None:
    delays = [stagger(number=5, count=1, peers=Peers(rank, 4)) for rank in range(4)]
    assert sorted(delays) == pytest.approx([0, STAGGER, 2 * STAGGER, 3 * STAGGER])
    assert delays[5 % 4] == 0


def test_the_first_worker_is_another_one_for_each_notification() -> None:
    first = [next(rank for rank in range(4) if stagger(number, 1, Peers(rank, 4)) == 0) for number in range(8)]
    assert first == [0, 1, 2, 3, 0, 1, 2, 3]


def test_many_jobs_call_as_many_workers_at_once() -> None:
    assert sum(stagger(number=0, count=3, peers=Peers(rank, 8)) == 0 for rank in range(8)) == 3


def test_nobody_waits_longer_than_the_longest_stagger() -> None:
    assert max(stagger(0, 1, Peers(rank, 500)) for rank in range(500)) == LONGEST_STAGGER


def test_a_lone_worker_never_waits() -> None:
    assert {stagger(number, 1, ALONE) for number in range(10)} == {0}


def test_a_notified_lane_is_ready_when_it_is_due() -> None:
    lanes = memory()
    assert lanes.notified(notice("mail", delay=2.0), ALONE, now=100.0) is None
    assert lanes.next_due() == 102.0
    assert keys(lanes, 101.9) == []
    assert keys(lanes, 102.0) == [("default", "mail", 0)]


def test_lanes_that_are_not_served_are_ignored() -> None:
    lanes = memory()
    lanes.notified(notice("unknown"), ALONE, now=0)
    lanes.looked([Found(("default", "unknown", 0), NOW, 0.0)], now=0)
    assert keys(lanes, 1) == []
    assert lanes.next_due() is None


def test_a_notification_without_lanes_asks_for_a_full_look() -> None:
    assert memory().notified(Notice(0, 1000, None), ALONE, now=7.0) == 7.0


def test_ready_lanes_come_by_priority_and_equal_ones_in_turn() -> None:
    lanes = memory()
    found = [("default", "mail", 0), ("default", "report", 0), ("default", "any", 9)]
    lanes.looked([Found(key, NOW, 0.0) for key in found], now=0)
    orders = [keys(lanes, 0) for _ in range(2)]
    assert {order[0] for order in orders} == {("default", "any", 9)}
    assert {order[1][1] for order in orders} == {"mail", "report"}


def test_a_claim_that_left_room_empties_the_memory_of_ready_lanes() -> None:
    lanes = memory()
    lanes.looked([Found(("default", "any", 0), NOW, 0.0)], now=0)
    lanes.claimed([claim(1).job], exhausted=False)
    assert keys(lanes, 0)
    lanes.claimed([claim(2).job], exhausted=True)
    assert keys(lanes, 0) == []


def test_the_bound_follows_the_claims_and_a_notification_lowers_it_again() -> None:
    lanes = memory()
    key = ("default", "any", 0)
    lanes.notified(notice("any"), ALONE, now=0)
    assert lanes.ready(0) == [(key, EARLIEST)]
    job = claim(1).job
    lanes.claimed([job], exhausted=False)
    ((_, bound),) = lanes.ready(0)
    assert timedelta() < job.execute_after - bound < timedelta(minutes=1)
    earlier = job.execute_after - timedelta(hours=1)
    lanes.notified(Notice(0, 1, [LaneNotice("default", "any", 0, 0.0, earlier.timestamp())]), ALONE, now=0)
    assert lanes.ready(0) == [(key, earlier)]
