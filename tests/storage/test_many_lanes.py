"""A claim costs the same with few lanes and with thousands, and whatever a vacuum has to leave in the index."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from benchmarks.counting import recorded_statements
from pgq_sync import NewJob, PgQueuer, Settings
from pgq_sync.models import Claim, Room
from pgq_sync.storage.claimer import PostgresClaimer
from tests.storage.support import Hand, hand, query
from tests.waiting import wait_until

LANES = 1_500


@pytest.fixture(autouse=True)
def _seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found by a poll: it would hide what was forgotten."""
    monkeypatch.setattr("tests.storage.support.POLL_INTERVAL", timedelta(hours=1))


def claimer(one: Hand) -> PostgresClaimer:
    assert isinstance(one.claimer, PostgresClaimer)
    return one.claimer


def pages_read(one: Hand, room: int) -> int:
    """How many pages the worker's next claim touches; nothing is claimed."""
    its = claimer(one)
    params = its._claim_params(its._lanes.ready(0.0, room), room, 99)
    with its._connection.transaction(force_rollback=True):
        sql = b"explain (analyze, buffers, format json) " + its._sql["claim"]
        ((plan,),) = its._connection.execute(sql, params, prepare=False)
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


def first_told_of(one: Hand) -> int:
    """The job that is claimed when the worker, which looks nowhere, has heard of it; a notification takes its time."""
    claims: list[Claim] = []

    def claimed() -> bool:
        claims.extend(one.claim(1, thorough=False))
        return bool(claims)

    wait_until(claimed)
    return claims[0].job.id


def test_a_claim_passes_by_the_jobs_of_one_batch_that_are_gone_and_that_no_vacuum_may_remove(pgq: PgQueuer, dsn: str) -> None:
    with closing(psycopg.connect(dsn)) as reader, hand(pgq.store, "work") as one:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from pgq_job")
        # One statement, and so one moment at which all of them are due.
        pgq.enqueue_many(NewJob(entrypoint="work") for _ in range(5_000))
        one.claim(10)
        few = pages_read(one, 10)
        for _ in range(4):
            one.settle(one.claim(1_000, thorough=False))
        assert pages_read(one, 10) < few + 100
        assert len(one.claim(10, thorough=False)) == 10


def test_jobs_of_thousands_of_lanes_are_claimed_by_priority(either: PgQueuer) -> None:
    jobs = [NewJob(entrypoint="work", queue=f"queue {n}", priority=n % 3) for n in range(LANES)]
    either.enqueue_many(jobs, notify=False)
    with hand(either.store, "work") as one:
        claims = [*one.claim(600), *one.claim(600, thorough=False), *one.claim(600, thorough=False)]
    assert len({claim.job.queue for claim in claims}) == len(claims) == LANES
    priorities = [claim.job.priority for claim in claims]
    assert priorities == sorted(priorities, reverse=True)


def test_a_claim_that_leaves_room_has_been_in_every_lane(either: PgQueuer) -> None:
    either.enqueue_many(NewJob(entrypoint="work", queue=f"queue {n}") for n in range(100))
    with hand(either.store, "work") as one:
        assert len(one.claim(1_000)) == 100


def test_lanes_that_others_have_emptied_are_no_reason_to_leave_the_rest(pgq: PgQueuer) -> None:
    pgq.enqueue_many((NewJob(entrypoint="work", queue=f"queue {n}") for n in range(200)), notify=False)
    with hand(pgq.store, "work") as one, hand(pgq.store, "work") as other:
        other.claimer.claim(Room(0), thorough=True)
        one.settle(one.claim(195))
        assert len(other.claim(10, thorough=False)) == 5


def test_lanes_that_others_have_emptied_cost_one_free_slot_hardly_a_statement_more(pgq: PgQueuer) -> None:
    pgq.enqueue_many((NewJob(entrypoint="work", queue=f"queue {n}") for n in range(200)), notify=False)
    with hand(pgq.store, "work") as one, hand(pgq.store, "work") as other:
        other.claimer.claim(Room(0), thorough=True)
        one.settle(one.claim(195))
        with recorded_statements() as sent:
            assert len(other.claim(1, thorough=False)) == 1
    assert sent.count("claim") < 10, sent


def test_a_batch_that_is_committed_late_is_claimed_as_soon_as_it_is_told_of(pgq: PgQueuer, dsn: str) -> None:
    with psycopg.connect(dsn) as late, hand(pgq.store, "work") as one:
        (first,) = pgq.on(late).enqueue_many([NewJob(entrypoint="work")])
        second = pgq.enqueue("work")
        assert [claim.job.id for claim in one.claim(1)] == [second]
        late.commit()
        assert first_told_of(one) == first


def test_a_batch_that_is_committed_late_and_in_silence_is_found_by_a_full_look(pgq: PgQueuer, dsn: str) -> None:
    with psycopg.connect(dsn) as late, hand(pgq.store, "work") as one:
        (first,) = pgq.on(late).enqueue_many([NewJob(entrypoint="work")], notify=False)
        second = pgq.enqueue("work")
        assert [claim.job.id for claim in one.claim(1)] == [second]
        late.commit()
        assert one.claim(1, thorough=False) == []
        assert [claim.job.id for claim in one.claim(1)] == [first]


def test_a_job_of_long_ago_is_claimed_whatever_time_zone_a_session_has_behind_a_pooler(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("claimer", "connections"):
        monkeypatch.setattr(f"pgq_sync.storage.{module}.pooled", lambda connection: True)
    there = psycopg.conninfo.make_conninfo(dsn, options="-c timezone=Europe/Berlin")
    with PgQueuer.from_dsn(there, settings=Settings()) as pgq, hand(pgq.store, "work") as one:
        query(dsn, "insert into pgq_job (entrypoint, execute_after) values ('work', '1800-01-01') returning id")
        assert len(one.claim()) == 1


def test_what_a_lane_holds_next_is_found_without_a_full_look(pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgq_sync.storage.looks.BUSY_LOOK", 0.0)
    monkeypatch.setattr("pgq_sync.storage.looks.CHEAP", 0.0)
    pgq.enqueue("work")
    pgq.enqueue("work", execute_after=timedelta(hours=2))
    with hand(pgq.store, "work") as one:
        assert len(one.claim(10)) == 1
        assert claimer(one)._lanes.next_due() is None
        assert one.claim(10, thorough=False) == []
        assert claimer(one)._lanes.next_due() is not None


def test_a_deferred_job_whose_transaction_was_open_for_long_is_expected_when_it_is_due(
    pgq: PgQueuer, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgq_sync.storage.looks.BUSY_LOOK", 3600.0)
    with psycopg.connect(dsn) as late, hand(pgq.store, "work") as one:
        one.claimer.claim(Room(0), thorough=True)
        pgq.on(late).enqueue("work", execute_after=timedelta(seconds=30))
        late.execute("select pg_sleep(2)")
        late.commit()
        wait_until(lambda: one.claim(1, thorough=False) == [] and claimer(one)._lanes.next_due() is not None)
        due = claimer(one)._lanes.next_due()
        assert due is not None
        assert due - time.monotonic() < 29


def test_deferred_jobs_of_one_batch_are_claimed_when_they_are_due_also_behind_one_that_is_due_at_once(
    pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgq_sync.storage.looks.BUSY_LOOK", 3600.0)
    with hand(pgq.store, "work") as one:
        one.claimer.claim(Room(0), thorough=True)
        delays = (timedelta(), timedelta(milliseconds=400))
        ids = pgq.enqueue_many([NewJob(entrypoint="work", execute_after=delay) for delay in delays])
        assert [claim.job.id for claim in _claimed_in_time(one, 2)] == ids


def _claimed_in_time(one: Hand, count: int) -> list[Claim]:
    """What a worker claims that waits as its claimer tells it to, and no longer than half a minute."""
    claims: list[Claim] = []
    deadline = time.monotonic() + 30
    while len(claims) < count and time.monotonic() < deadline:
        one.claimer.arm()
        claims += one.claim(10, thorough=False)
        one.claimer.wait(until=deadline)
    return claims


def test_deferred_jobs_of_one_lane_are_claimed_one_after_the_other_when_they_are_due(
    pgq: PgQueuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgq_sync.storage.looks.BUSY_LOOK", 3600.0)
    delays = [timedelta(milliseconds=150 * n) for n in range(1, 4)]
    ids: list[int] = []
    with hand(pgq.store, "work") as one:
        one.claimer.claim(Room(0), thorough=True)
        ids += [pgq.enqueue("work", execute_after=delay) for delay in delays]
        ids += pgq.enqueue_many(NewJob(entrypoint="work", execute_after=timedelta(seconds=1) + delay) for delay in delays)
        assert [claim.job.id for claim in _claimed_in_time(one, len(ids))] == ids
