"""What a listener remembers of the lanes, and how a fleet shares the work of looking."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgq_sync.models import Peers
from pgq_sync.storage.lanes import EARLIEST, LONGEST_STAGGER, STAGGER, Found, Key, LaneMemory, Paused, serving, stagger
from pgq_sync.storage.notifications import LaneNotice
from tests.engine.test_completer import claim

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
ALONE = Peers()


def memory() -> LaneMemory:
    return LaneMemory(serving(None, ["mail", "report", "any"]))


def notice(entrypoint: str, earliest: datetime = NOW) -> LaneNotice:
    return LaneNotice("default", entrypoint, 0, 0.0, earliest.timestamp())


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
    lanes.notified(notice("mail"), due=102.0)
    assert lanes.next_due() == 102.0
    assert keys(lanes, 101.9) == []
    assert keys(lanes, 102.0) == [("default", "mail", 0)]


def test_lanes_that_are_not_served_are_ignored() -> None:
    lanes = memory()
    lanes.notified(notice("unknown"), due=0)
    lanes.looked([Found(("default", "unknown", 0), NOW, 0.0)], now=0)
    assert keys(lanes, 1) == []
    assert lanes.next_due() is None


def test_a_lane_that_is_taken_for_empty_is_not_ready_until_something_is_heard_of_it() -> None:
    lanes = memory()
    key = ("default", "mail", 0)
    lanes.looked([Found(key, NOW, 0.0)], now=0)
    lanes.forget(key)
    assert keys(lanes, 5.0) == []
    lanes.notified(notice("mail"), due=6.0)
    assert keys(lanes, 6.0) == [key]


@pytest.mark.parametrize(
    ("pair", "held"),
    [
        (("default", "mail"), True),
        (("default", ""), True),
        (("", "mail"), True),
        (("other", "mail"), False),
        (("", "other"), False),
    ],
)
def test_a_pause_holds_an_entrypoint_a_queue_or_one_within_the_other(pair: tuple[str, str], held: bool) -> None:
    assert Paused(frozenset([pair])).holds("default", "mail") is held
    assert not Paused().holds("default", "mail")


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
    lanes.notified(notice("any"), due=0)
    assert lanes.ready(0) == [(key, EARLIEST)]
    job = claim(1).job
    lanes.claimed([job], exhausted=False)
    ((_, bound),) = lanes.ready(0)
    assert timedelta() < job.execute_after - bound < timedelta(minutes=1)
    earlier = job.execute_after - timedelta(hours=1)
    lanes.notified(notice("any", earlier), due=0)
    assert lanes.ready(0) == [(key, earlier)]
