"""What a listener remembers of the lanes, and how a fleet shares the work of looking."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgq_sync.models import Peers
from pgq_sync.storage.lanes import EARLIEST, LONGEST_STAGGER, STAGGER, Bound, Found, LaneMemory, Paused, serving, stagger
from pgq_sync.storage.notifications import LaneNotice
from pgq_sync.storage.rotation import Key
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


def test_a_job_that_was_told_of_before_an_earlier_one_is_not_forgotten_with_that() -> None:
    lanes = memory()
    key = ("default", "mail", 0)
    lanes.notified(notice("mail"), due=103.0)
    lanes.notified(notice("mail"), due=100.0)
    assert keys(lanes, 100.0) == [key]
    lanes.forget(key)
    assert lanes.next_due() == 103.0
    assert keys(lanes, 102.9) == []
    assert keys(lanes, 103.0) == [key]


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_a_lane_in_which_others_may_be_deferred_is_to_be_asked_when_a_claim_has_emptied_it(several: bool, looked: bool) -> None:
    lanes = memory()
    key = ("default", "mail", 0)
    lanes.notified(notice("mail"), due=100.0, several=several)
    if looked:
        lanes.looked([Found(key, Bound(NOW), 0.0)], now=100.0)
    assert keys(lanes, 100.0) == [key]
    assert lanes.claimed([key], [claim(1, entrypoint="mail").job], exhausted=True) is several


def test_lanes_that_are_not_served_are_ignored() -> None:
    lanes = memory()
    lanes.notified(notice("unknown"), due=0)
    lanes.looked([Found(("default", "unknown", 0), Bound(NOW), 0.0)], now=0)
    assert keys(lanes, 1) == []
    assert lanes.next_due() is None


def test_a_lane_that_is_taken_for_empty_is_not_ready_until_something_is_heard_of_it() -> None:
    lanes = memory()
    key = ("default", "mail", 0)
    lanes.looked([Found(key, Bound(NOW), 0.0)], now=0)
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
    lanes.looked([Found(key, Bound(NOW), 0.0) for key in found], now=0)
    orders = [keys(lanes, 0)]
    lanes.turn(orders[0][1])
    orders.append(keys(lanes, 0))
    assert {order[0] for order in orders} == {("default", "any", 9)}
    assert {order[1][1] for order in orders} == {"mail", "report"}


def test_lanes_that_a_claim_has_emptied_are_not_ready_and_the_last_one_is() -> None:
    lanes = memory()
    given = [("default", name, 0) for name in ("mail", "report", "any")]
    lanes.looked([Found(key, Bound(NOW), 0.0) for key in given], now=0)
    named = keys(lanes, 0)
    lanes.claimed(named, [claim(1, entrypoint=named[1][1]).job], exhausted=False)
    assert keys(lanes, 0) == [named[2], named[1]]  # the one that holds more lets the others go first
    lanes.claimed(keys(lanes, 0), [], exhausted=True)
    assert keys(lanes, 0) == []


def test_lanes_that_were_worked_in_are_asked_what_they_hold_next() -> None:
    lanes = memory()
    lanes.looked([Found(("default", name, 0), EARLIEST, 0.0) for name in ("mail", "report")], now=0)
    assert not lanes.to_ask
    job = claim(1, entrypoint="mail").job
    lanes.claimed(keys(lanes, 0), [job], exhausted=True)
    asked = lanes.worked()
    assert dict(asked) == {("default", "mail", 0): Bound(job.execute_after, 1), ("default", "report", 0): EARLIEST}
    assert not lanes.to_ask
    lanes.peeked([key for key, _ in asked], [Found(("default", "mail", 0), Bound(NOW), 30.0)], now=100.0)
    assert lanes.next_due() == 130.0
    assert keys(lanes, 129.0) == []
    assert keys(lanes, 130.0) == [("default", "mail", 0)]


def test_a_claim_names_hardly_more_lanes_than_it_needs() -> None:
    lanes = LaneMemory(lambda queue, entrypoint: True)
    found = [("default", f"e{number}", number % 5) for number in range(2_000)]
    lanes.looked([Found(key, Bound(NOW), 0.0) for key in found], now=0)
    first = lanes.ready(0, room=1_000)
    assert len(first) < 100
    assert {key[2] for key, _ in first} == {4}
    # Each lane brings one job: more and more are named.
    named = [key for key, _ in first]
    lanes.claimed(named, [claim(n, entrypoint=key[1], priority=4).job for n, key in enumerate(named)], exhausted=True)
    assert len(lanes.ready(0, room=1_000)) > len(first)
    assert len(lanes.ready(0, room=3)) == 3


def test_the_bound_follows_the_claims_and_a_notification_lowers_it_again() -> None:
    lanes = memory()
    key = ("default", "any", 0)
    lanes.notified(notice("any"), due=0)
    assert lanes.ready(0) == [(key, EARLIEST)]
    job = claim(7).job
    lanes.claimed([key], [job], exhausted=False)
    assert lanes.ready(0) == [(key, Bound(job.execute_after, 7))]
    earlier = job.execute_after - timedelta(hours=1)
    lanes.notified(notice("any", earlier), due=0)
    ((_, bound),) = lanes.ready(0)
    assert earlier - timedelta(seconds=1) < bound.execute_after < earlier
