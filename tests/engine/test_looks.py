"""When a listener looks for lanes: as often as it was told, unless that would cost the server too much."""

from __future__ import annotations

from pgq_sync.storage.looks import BUSY_LOOK, CHEAP, RAREST, SOON_LOOK, Looks

POLL = 5.0
LITTLE = CHEAP / 2


def looks(*, cost: float = LITTLE, hears: bool = True) -> Looks:
    """Of a listener that has looked at second 100."""
    made = Looks(POLL)
    made.hears = hears
    made.looked(100.0, cost)
    return made


def test_the_first_look_is_due_at_once() -> None:
    assert Looks(POLL).next() == 0


def test_nothing_happens_and_the_next_look_comes_after_the_poll_interval() -> None:
    assert looks().next() == 100 + POLL


def test_the_dearer_a_look_is_the_rarer_it_becomes_and_an_idle_worker_takes_a_hundredth_of_a_core() -> None:
    assert looks(cost=0.1).next() == 100 + 0.1 / 0.01
    assert looks(cost=30.0).next() == 100 + RAREST


def test_where_a_look_is_cheap_it_is_made_everywhere_soon_while_there_is_work() -> None:
    busy = looks()
    busy.worked(101.0)
    busy.worked(101.5)
    assert (busy.brief, busy.full) == (None, 101 + BUSY_LOOK)


def test_where_it_is_dear_lanes_that_were_worked_in_are_asked_soon_and_only_they() -> None:
    busy = looks(cost=0.1)
    busy.worked(101.0)
    busy.worked(101.5)
    assert (busy.brief, busy.full) == (101 + BUSY_LOOK, 100 + 0.1 / 0.01)


def test_the_more_often_a_claim_is_in_vain_the_later_lanes_of_deferred_jobs_are_asked_again() -> None:
    busy = looks()
    after = []
    for second in range(101, 111):
        busy.soon = None
        busy.worked(second, deferred=True, in_vain=True)
        after.append((busy.soon or 0) - second)
    assert after[0] < 2 * SOON_LOOK + 1e-6
    assert after == sorted(after)
    assert after[-1] == BUSY_LOOK
    busy.soon = None
    busy.worked(120.0, deferred=True)
    assert busy.soon == 120 + SOON_LOOK


def test_lanes_of_deferred_jobs_are_asked_at_once_nearly_and_again_with_the_others() -> None:
    busy = looks(cost=0.1)
    busy.worked(101.0, deferred=True)
    assert (busy.next(), busy.soon, busy.brief) == (101 + SOON_LOOK, 101 + SOON_LOOK, 101 + BUSY_LOOK)
    busy.looked(102.0, LITTLE)
    assert busy.soon is None


def test_who_hears_nothing_has_to_look_everywhere() -> None:
    deaf = looks(hears=False)
    deaf.worked(101.0)
    assert (deaf.brief, deaf.full) == (None, 101 + BUSY_LOOK)


def test_limited_jobs_have_it_look_everywhere_soon() -> None:
    limited = looks()
    limited.worked_carefully(101.0)
    assert limited.next() == 101 + BUSY_LOOK
    dear = looks(cost=0.2)
    dear.worked_carefully(101.0)
    assert 101 + BUSY_LOOK < dear.next() < 110


def test_a_call_is_followed_at_once_where_a_look_is_cheap_and_soon_where_it_is_not() -> None:
    cheap = looks()
    cheap.call(100.0)
    assert cheap.next() == 100.0
    dear = looks(cost=0.2)
    dear.call(100.0)
    assert dear.next() == 101.0


def test_a_full_look_makes_the_brief_one_needless() -> None:
    busy = looks(cost=0.1)
    busy.worked(101.0)
    busy.looked(102.0, LITTLE)
    assert busy.brief is None
    assert busy.next() == 102 + POLL
